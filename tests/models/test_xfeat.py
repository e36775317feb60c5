"""XFeat: parity with kornia on random weights, published layouts, and laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.extractors.xfeat import XFeatConfig, XFeatExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.models.checkpoints import load_lightglue
from sfm_lightglue.models.keypoints import Limits
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.xfeat import XFEAT_LIMITS, XFeat, load_xfeat, sample
from tests.helpers.photos import textured
from tests.helpers.untrained import write_xfeat


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write_xfeat(tmp_path_factory.mktemp("xfeat") / "xfeat.safetensors")


@pytest.fixture(scope="module")
def network(path) -> XFeat:
    return load_xfeat(path)


def picture(width: int, height: int, seed: int = 0) -> torch.Tensor:
    channels = [textured(width, height, 3 * seed + index) for index in range(3)]
    return torch.from_numpy(np.stack(channels)).float() / 255


@torch.no_grad()
@pytest.mark.parametrize("size", [(128, 96), (150, 101), (20, 40)])
def test_parity_with_kornia_on_random_weights(network, size):
    kornia = pytest.importorskip("kornia", reason="needs kornia, the second implementation of XFeat")
    theirs = kornia.feature.XFeat(top_k=60).eval()
    theirs.net.load_state_dict(network.state_dict(), strict=False)
    images = torch.stack([picture(*size, seed) for seed in (0, 1)])
    whole = F.interpolate(images, (96, 128), mode="bilinear")
    for ours, other in zip(network.maps(whole), theirs.net(whole), strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-4)
    factors = torch.tensor([side / max(side // 32 * 32, 32) for side in size])
    seen = torch.tensor(size) / factors
    for mine, other in zip(network(images), theirs.detectAndCompute(images), strict=True):
        # In kornia the whole window is inside the image; ours may be at the border. Kornia also does not convert
        # pixel centres after the resize.
        pixels = (mine.keypoints + 0.5) / factors - 0.5
        within = (pixels > 1.5).all(1) & (pixels < seen - 2.5).all(1)
        count = len(other["keypoints"])
        assert count > 10
        torch.testing.assert_close(pixels[within][:count], other["keypoints"] / factors, atol=1e-3, rtol=0)
        torch.testing.assert_close(mine.scores[within][:count], other["scores"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mine.descriptors[within][:count], other["descriptors"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_batch_equals_its_images(network):
    images = torch.stack([picture(150, 101), torch.zeros(3, 101, 150), picture(150, 101, 1)])
    limits = Limits(0.02, 2, 50)
    batch = network(images, limits)
    assert len(batch) == 3 and network(images[:0]) == []
    for image, together in zip(images, batch, strict=True):
        alone = network(image[None], limits)[0]
        assert torch.equal(together.keypoints, alone.keypoints)
        torch.testing.assert_close(together.scores, alone.scores, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.descriptors, alone.descriptors, atol=1e-5, rtol=0)
    assert len(batch[0].keypoints) == 50 and (batch[0].scores.diff() <= 0).all()


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (31, 33), (5, 40), (17, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiny_images_work_in_grey_and_colour(network, size, channels):
    (points,) = network(picture(*size)[None, :channels])
    assert points.descriptors.shape == (len(points.keypoints), 64)
    assert points.keypoints.isfinite().all() and points.descriptors.isfinite().all()
    assert (points.keypoints > -0.5).all() and (points.keypoints < torch.tensor(size) - 0.5).all()


def test_a_map_is_sampled_by_the_authors_convention():
    """Cell c of a map of n cells is at (c + 1/2) (8 n - 1) / n, up to half a pixel from its centre."""
    dense = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))
    cells = torch.tensor([[0.0, 0.0], [5.0, 3.0], [2.0, 1.0]])
    size = torch.tensor([6.0, 4.0])
    positions = (cells + 0.5) * (8 * size - 1) / size
    assert float((positions - (cells * 8 + 3.5)).abs().max()) <= 0.5
    expected = torch.stack([dense[:, 0, 0], dense[:, 3, 5], dense[:, 1, 2]])
    for mode in ("bilinear", "bicubic"):
        torch.testing.assert_close(sample(dense, positions, mode), expected, atol=1e-4, rtol=0)
    between = sample(dense, positions[:1] + torch.tensor([[47 / 12, 0.0]]), "bilinear")[0]
    torch.testing.assert_close(between, (dense[:, 0, 0] + dense[:, 0, 1]) / 2, atol=1e-4, rtol=0)


@pytest.mark.parametrize("prefix", ["", "net."])
def test_published_layouts_load(network, tmp_path, prefix):
    """The file of the authors also has a head of XFeat* that is not used for keypoints."""
    state = {prefix + key: value for key, value in network.state_dict().items()}
    assert f"{prefix}block1.0.layer.0.weight" in state and f"{prefix}heatmap_head.2.bias" in state
    fine = {f"{prefix}fine_matcher.0.weight": torch.zeros(512, 128), f"{prefix}fine_matcher.12.bias": torch.zeros(64)}
    torch.save(state | fine, tmp_path / "xfeat.pt")
    loaded = load_xfeat(tmp_path / "xfeat.pt").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items() if "batches" not in key)
    torch.save({key: value for key, value in state.items() if "block5.3" not in key}, tmp_path / "cut.pt")
    with pytest.raises(WeightsError, match=rf"cut\.pt: .*missing keys: {prefix}block5\.3\.layer\.0\.weight"):
        load_xfeat(tmp_path / "cut.pt")


def test_the_layout_of_the_published_lighterglue_loads(tmp_path):
    """`xfeat-lighterglue.pt`: names of glue-factory under `matcher.`, 64-d input, 96-d states, 6 layers, 1 head."""
    arch = LightGlueArchitecture(input_dim=64, descriptor_dim=96, num_layers=6, num_heads=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = LightGlue(arch).eval()
    state = original_names(ours)
    assert "matcher.self_attn.5.Wqkv.weight" in state and "matcher.token_confidence.4.token.0.bias" in state
    torch.save({f"extractor.{i}": torch.zeros(1) for i in range(2)} | state, tmp_path / "xfeat-lighterglue.pt")
    loaded = load_lightglue(tmp_path / "xfeat-lighterglue.pt")
    assert loaded.architecture == arch
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, msg=key)


def original_names(network: LightGlue) -> dict[str, torch.Tensor]:
    """Names and row order of the LightGlue of the authors, written independently of the library."""
    state = {}
    for key, value in network.state_dict().items():
        kind = key.rpartition(".")[2]
        parts = key.split(".")
        layer = parts[1] if len(parts) > 2 else ""
        names = {
            "position_projection": "posenc.Wr",
            "input_projection": "input_proj",
            "assignments.projection": f"log_assignment.{layer}.final_proj",
            "assignments.matchability": f"log_assignment.{layer}.matchability",
            "confidences": f"token_confidence.{layer}.token.0",
            "self_attention.projection": f"self_attn.{layer}.Wqkv",
            "self_attention.output": f"self_attn.{layer}.out_proj",
            "cross_attention.output": f"cross_attn.{layer}.to_out",
        } | {
            f"{side}_mlp.{ours}": f"{side}_attn.{layer}.ffn.{theirs}"
            for side in ("self", "cross")
            for ours, theirs in (("fc1", 0), ("norm", 1), ("fc2", 3))
        }
        short = ".".join(part for part in parts[:-1] if part not in {"layers", layer})
        if short == "cross_attention.projection":
            for name, rows in (("to_qk", value[:96]), ("to_v", value[96:])):
                state[f"matcher.cross_attn.{layer}.{name}.{kind}"] = rows.clone()
            continue
        if short == "self_attention.projection":
            value = torch.stack(value.chunk(3), 1).flatten(0, 1)  # rows q, k, v -> q0 k0 v0 q1 k1 v1 ...
        state[f"matcher.{names[short]}.{kind}"] = value.clone()
    return state


def test_wrong_input_is_refused(network):
    with pytest.raises(ValueError, match=r"images: expected \[B, C, H, W\]"):
        network(torch.rand(3, 64, 64))
    with pytest.raises(ConfigError, match="max_image_size"):
        XFeatConfig(max_image_size=16)
    with pytest.raises(ConfigError, match=r"`extractor\.detection_threshold`"):
        XFeatConfig(detection_threshold=-0.1)


def test_the_extractor_shifts_by_half_a_pixel_and_uses_colour(path, network):
    pixels = np.stack([textured(160, 128, seed) for seed in range(3)], axis=-1)
    config = XFeatConfig(weights=str(path), max_keypoints=60)
    features = XFeatExtractor(config, "cpu").extract(Image.from_array(pixels))
    with torch.no_grad():
        (points,) = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, Limits(0.05, 2, 60))
    np.testing.assert_allclose(features.keypoints, points.keypoints.numpy() + 0.5)
    np.testing.assert_allclose(features.descriptors, points.descriptors.numpy(), atol=1e-5)
    assert len(features) == 60
    assert (config.detection_threshold, config.nms_radius_px) == (XFEAT_LIMITS.score_threshold, 2)


def test_without_weights_the_message_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"xfeat\.pt"):
        XFeatExtractor(XFeatConfig())
