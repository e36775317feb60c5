"""`torch.compile(model)` with the default backend gives the results of the model."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

import sfm_lightglue
from tests.helpers.exported_models import exact_model, images
from tests.helpers.photos import textured

COMPILERS = ("g++", "clang++", "c++")
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason="the default backend of torch.compile needs a C++ compiler"
)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def assert_same(found, expected) -> None:
    assert type(found) is type(expected) and list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4)


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
def test_without_adaptivity_lightglue_is_one_graph() -> None:
    model = exact_model(num_layers=1)  # each layer takes seconds to compile
    pixels = images(2, 64, 96)
    with torch.no_grad():
        expected = model(pixels)
        assert (expected.matches >= 0).sum() > 5
        assert_same(torch.compile(model)(pixels), expected)
    assert counters["stats"]["unique_graphs"] >= 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"output_hidden_states": True, "output_attentions": True}])
def test_adaptive_layers_stay_in_python(options) -> None:
    """And so do those whose states are requested."""
    model = exact_model()
    if not options:
        model.config.depth_confidence, model.config.width_confidence = 0.95, 0.99
    pixels = images(1, 64, 96)
    compiled = torch.compile(model)
    with torch.no_grad():
        found, expected = compiled(pixels, **options), model(pixels, **options)
        plain = compiled(pixels, return_dict=False, **options)
    for name, value in expected.items():
        pairs = zip(found[name], value, strict=True) if isinstance(value, tuple) else [(found[name], value)]
        assert all(torch.equal(one, other) for one, other in pairs)
    assert type(plain) is tuple and counters["stats"]["unique_graphs"] == 0


@pytest.mark.filterwarnings("ignore")
def test_a_model_with_sift_and_the_loss_are_those_of_the_model() -> None:
    model = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained("lightglue_sift")
    image = torch.from_numpy(textured(200, 160, 3)).float() / 255
    pixels = torch.stack([image, image.roll(9, 1)])[None, :, None]
    sizes = torch.tensor([[[160, 200], [160, 190]]])
    compiled = torch.compile(model)
    with torch.no_grad():
        expected = model(pixels, image_sizes=sizes)
        assert (expected.matches >= 0).sum() > 20
        labels = expected.matches.clone()
        expected = model(pixels, labels, image_sizes=sizes)
        assert expected.loss > 0
        assert_same(compiled(pixels, labels=labels, image_sizes=sizes), expected)
    with pytest.raises(ValueError, match="pixel_values: expected"):
        compiled(pixels[0])
