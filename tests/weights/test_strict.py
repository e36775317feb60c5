"""Strict loading of networks with one published layout; messages use the names of the file."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.weights.strict import fill_strictly, load_published


def make() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "0.weight": torch.rand(2, 1, 3, 3, generator=generator),
        "0.bias": torch.rand(2, generator=generator),
        "1.running_mean": torch.rand(2, generator=generator),
        "1.running_var": torch.rand(2, generator=generator),
    }


@pytest.mark.parametrize("prefix", ["", "net."])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_are_read_from_both_formats_with_and_without_prefix(tmp_path, state, prefix, suffix):
    path = tmp_path / f"weights.{suffix}"
    named = {prefix + key: value for key, value in state.items()} | {f"{prefix}head.weight": torch.zeros(3)}
    if suffix == "pth":
        torch.save({"state_dict": named, "epoch": 9}, path)
    else:
        save_file(named, path)
    network = load_published(make, path, prefixes=("", "net."), ignored=("head.",))
    assert not network.training
    for key, value in state.items():
        assert torch.equal(network.state_dict()[key], value), key


def test_half_precision_and_training_counters_are_accepted(state):
    halves = {key: value.half() for key, value in state.items()} | {"1.num_batches_tracked": torch.tensor(7)}
    network = fill_strictly(make(), halves)
    assert network[0].weight.dtype == torch.float32
    assert torch.equal(network[0].weight, state["0.weight"].half().float())
    assert state["0.weight"].data_ptr() != network[0].weight.data_ptr()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.bias": None}, r"missing keys: net\.0\.bias"),
        ({"extra": torch.zeros(1)}, r"unexpected keys: net\.extra"),
        ({"0.bias": torch.zeros(3)}, r"wrong shapes: net\.0\.bias \[3\] instead of \[2\]"),
        ({"0.bias": torch.zeros(2, dtype=torch.int64)}, r"not dense arrays of real numbers: net\.0\.bias"),
        ({"0.bias": torch.tensor([0.0, torch.nan])}, r"NaN or infinite: net\.0\.bias"),
        ({"1.running_var": torch.tensor([1.0, -1.0])}, r"negative variances: net\.1\.running_var"),
    ],
)
def test_faults_use_the_names_of_the_file(state, change, message):
    named = {f"net.{key}": value for key, value in (state | change).items() if value is not None}
    with pytest.raises(WeightsError, match=message) as caught:
        fill_strictly(make(), named, "some.pth", prefixes=("", "net."))
    assert str(caught.value).startswith("some.pth: not the weights of this Sequential")


def test_an_expected_digest_is_verified(tmp_path, state):
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="sha256"):
        load_published(make, tmp_path / "weights.pth", sha256="0" * 64)
