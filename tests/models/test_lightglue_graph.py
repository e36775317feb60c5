"""The graph of LightGlue for exporters gives the results of the network without adaptivity."""

from __future__ import annotations

import pytest
import torch

from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture, LightGlueThresholds, Side
from sfm_lightglue.models.lightglue_graph import LightGlueGraph

ARCHITECTURES = {
    "paper": LightGlueArchitecture(input_dim=16, descriptor_dim=16, num_layers=3, num_heads=2),
    "sift": LightGlueArchitecture(
        input_dim=20, descriptor_dim=16, num_layers=2, num_heads=2, use_scale_orientation=True, attention_bias=False
    ),
    "grouped": LightGlueArchitecture(
        input_dim=16, descriptor_dim=16, num_layers=2, num_heads=4, num_key_value_heads=2, tied_cross_attention=False
    ),
    "relu": LightGlueArchitecture(
        input_dim=16, descriptor_dim=16, num_layers=2, num_heads=2, hidden_act="relu", has_layer_assignments=False
    ),
}


def network_of(architecture: LightGlueArchitecture) -> LightGlue:
    torch.manual_seed(0)
    network = LightGlue(architecture).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def sides_of(architecture: LightGlueArchitecture, num0: int, num1: int, seed: int = 1) -> tuple[Side, Side]:
    generator = torch.Generator().manual_seed(seed)

    def side(number: int) -> Side:
        positions = torch.rand(2, number, architecture.position_dim, generator=generator) * 2 - 1
        return Side(positions, torch.randn(2, number, architecture.input_dim, generator=generator))

    return side(num0), side(num1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_equals_the_network_without_adaptivity(name: str) -> None:
    architecture = ARCHITECTURES[name]
    network, (side0, side1) = network_of(architecture), sides_of(architecture, 40, 31)
    expected = network(side0, side1, LightGlueThresholds(None, None, 0.02))
    with torch.no_grad():
        found = LightGlueGraph(network, 0.02)(side0.keypoints, side1.keypoints, side0.descriptors, side1.descriptors)
    assert (expected.matches0 >= 0).sum() > 5
    torch.testing.assert_close(found[0], expected.matches0)
    torch.testing.assert_close(found[1], expected.matches1)
    torch.testing.assert_close(found[2], expected.matching_scores0, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[3], expected.matching_scores1, atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing() -> None:
    architecture = ARCHITECTURES["paper"]
    network, (side0, side1) = network_of(architecture), sides_of(architecture, 40, 31)
    graph = LightGlueGraph(network, 0.02)
    arguments = [side0.keypoints, side1.keypoints, side0.descriptors, side1.descriptors]
    masks = [torch.arange(number + 7) < number for number in (40, 31)]
    padded = [torch.nn.functional.pad(each, (0, 0, 0, 7), value=3.0) for each in arguments]
    with torch.no_grad():
        expected = graph(*arguments)
        found = graph(*padded, masks[0].expand(2, -1), masks[1].expand(2, -1))
    for each, wanted in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(each[:, :-7], wanted)
        assert (each[:, -7:] == -1).all()
    torch.testing.assert_close(found[2][:, :-7], expected[2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("numbers", [(0, 5), (5, 0), (0, 0), (1, 1)])
def test_images_with_few_points_or_none_give_no_error(numbers) -> None:
    architecture = ARCHITECTURES["paper"]
    network, (side0, side1) = network_of(architecture), sides_of(architecture, *numbers)
    expected = network(side0, side1, LightGlueThresholds(None, None, 0.0))
    with torch.no_grad():
        found = LightGlueGraph(network, 0.0)(side0.keypoints, side1.keypoints, side0.descriptors, side1.descriptors)
    for each, wanted in zip(found, expected[:4], strict=True):
        torch.testing.assert_close(each, wanted, atol=1e-5, rtol=1e-4)


def test_an_exported_program_has_dynamic_numbers_of_keypoints() -> None:
    architecture = ARCHITECTURES["sift"]
    graph = LightGlueGraph(network_of(architecture), 0.02)

    def arguments(num0: int, num1: int) -> tuple[torch.Tensor, ...]:
        side0, side1 = sides_of(architecture, num0, num1)
        return side0.keypoints, side1.keypoints, side0.descriptors, side1.descriptors

    sizes = [{1: torch.export.Dim(f"num_keypoints{side}")} for side in (0, 1)]
    program = torch.export.export(graph, arguments(24, 18), dynamic_shapes=tuple(sizes * 2))
    for numbers in ((24, 18), (5, 33), (0, 7), (3, 0)):
        with torch.no_grad():
            for found, expected in zip(
                program.module()(*arguments(*numbers)), graph(*arguments(*numbers)), strict=True
            ):
                torch.testing.assert_close(found, expected)
