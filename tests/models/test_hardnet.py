"""HardNet and its patches: parity with kornia, published layouts, and laws of rotation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.extractors.doghardnet import DoGHardNetConfig, DoGHardNetExtractor
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.models.hardnet import HardNet, cut_patches, load_hardnet
from tests.helpers.photos import textured
from tests.helpers.untrained import write_hardnet


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_hardnet(tmp_path_factory.mktemp("hardnet") / "hardnet.safetensors")


@pytest.fixture(scope="module")
def network(path) -> HardNet:
    return load_hardnet(path)


def photo(width: int = 200, height: int = 150) -> torch.Tensor:
    return torch.from_numpy(textured(width, height)).float() / 255


def squares(num: int, radii: tuple[float, float], size=(200, 150)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(num, 2, generator=generator) * (torch.tensor(size) - 1)
    radii_px = radii[0] + (radii[1] - radii[0]) * torch.rand(num, generator=generator)
    return centres, radii_px, torch.rand(num, generator=generator) * 2 * torch.pi


@torch.no_grad()
def test_parity_with_kornia_on_random_weights(network, monkeypatch):
    kornia = pytest.importorskip("kornia", reason="needs kornia, the second implementation of HardNet")
    theirs = kornia.feature.HardNet(pretrained=False).eval()
    theirs.load_state_dict(network.state_dict())
    patches = cut_patches(photo(), *squares(40, (8, 40)))
    monkeypatch.setattr("sfm_lightglue.models.hardnet._CHUNK", 16)  # several chunks
    torch.testing.assert_close(network(patches), theirs(patches), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(200, 150), (70, 61), (37, 90)])
def test_patches_are_those_of_kornia(size):
    """Of all sizes, inside the image and beyond its border; kornia rotates counterclockwise."""
    kornia = pytest.importorskip("kornia", reason="needs kornia, the second implementation of the patches")
    centres, radii_px, angles = squares(60, (4, 120), size)
    frames = kornia.feature.laf_from_center_scale_ori(
        centres[None], radii_px[None, :, None, None], -torch.rad2deg(angles)[None, :, None]
    )
    expected = kornia.feature.extract_patches_from_pyramid(photo(*size)[None, None], frames, 32)[0]
    torch.testing.assert_close(cut_patches(photo(*size), centres, radii_px, angles), expected, atol=2e-4, rtol=0)


def test_an_upright_patch_of_natural_size_is_a_crop():
    image = photo()
    (patch,) = cut_patches(image, torch.tensor([[60.5, 70.5]]), torch.tensor([16.0]), torch.tensor([0.0]))
    torch.testing.assert_close(patch[0], image[55:87, 45:77], atol=1e-4, rtol=0)


@pytest.mark.parametrize("radius", [16.0, 40.0])
def test_a_rotated_image_gives_the_same_patches(radius):
    """A quarter turn clockwise moves (x, y) to (H - 1 - y, x), and adds 90 degrees to an angle."""
    image = photo(192, 128)
    turned = torch.from_numpy(np.ascontiguousarray(np.rot90(image.numpy(), -1)))
    x, y, angle = 90.3, 60.8, 0.7
    (one,) = cut_patches(image, torch.tensor([[x, y]]), torch.tensor([radius]), torch.tensor([angle]))
    (other,) = cut_patches(
        turned, torch.tensor([[127 - y, x]]), torch.tensor([radius]), torch.tensor([angle + torch.pi / 2])
    )
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert float((one - one.flip(-1)).abs().mean()) > 0.01


@torch.no_grad()
def test_brightness_and_contrast_do_not_matter(network):
    patches = cut_patches(photo(), *squares(20, (8, 40)))
    descriptors = network(patches)
    torch.testing.assert_close(network(patches * 40 + 7), descriptors, atol=1e-4, rtol=0)
    torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(20))
    assert float((descriptors @ descriptors.T).fill_diagonal_(0).max()) < 0.99
    torch.testing.assert_close(network(patches[3:4]), descriptors[3:4], atol=1e-5, rtol=0)
    assert network(patches[:0]).shape == (0, 128)
    assert network(torch.ones(1, 1, 32, 32)).isfinite().all()


def test_published_layouts_load(network, tmp_path):
    """The files of the authors are training checkpoints, some without counters of batch normalisation."""
    state = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    assert "features.19.weight" in state and "features.20.running_var" in state and len(state) == 21
    torch.save({"epoch": 9, "state_dict": state}, tmp_path / "HardNet++.pth")
    loaded = load_hardnet(tmp_path / "HardNet++.pth").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    torch.save({"state_dict": state | {"features.0.bias": torch.zeros(32)}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: .*unexpected keys: features\.0\.bias"):
        load_hardnet(tmp_path / "other.pth")


@pytest.mark.parametrize(("reverse", "least", "most"), [(False, 0.9, 1.0), (True, 0.0, 0.5)])
def test_descriptors_are_invariant_to_camera_roll(path, reverse, least, most):
    """Nearest neighbours of an image and its quarter turn correspond, unless patches rotate the wrong way."""
    pixels = textured(160, 120)
    extractor = DoGHardNetExtractor(DoGHardNetConfig(weights=str(path), reverse_turn=reverse), "cpu")
    one = extractor.extract(Image.from_array(pixels))
    other = extractor.extract(Image.from_array(np.ascontiguousarray(np.rot90(pixels, -1))))
    expected = np.stack([120 - one.keypoints[:, 1], one.keypoints[:, 0]], axis=1)
    away = np.linalg.norm(expected[:, None] - other.keypoints[None], axis=2)
    repeated = away.min(axis=1) < 0.5  # keypoints that were found in both images
    assert repeated.sum() > 50
    nearest = (one.descriptors @ other.descriptors.T).argmax(axis=1)
    right = away[np.arange(len(one)), nearest] < 0.5
    assert least <= right[repeated].mean() <= most


def test_keypoints_are_those_of_sift(path):
    image = Image.from_array(textured(240, 180))
    found = DoGHardNetExtractor(DoGHardNetConfig(weights=str(path), max_keypoints=80), "cpu").extract(image)
    sift = SiftExtractor(SiftConfig(max_keypoints=80)).extract(image)
    for name in ("keypoints", "scores", "scales", "orientations"):
        np.testing.assert_array_equal(getattr(found, name), getattr(sift, name))
    assert found.descriptors.shape == (80, 128)


def test_identity_contains_detector_and_direction(path):
    identities = [
        DoGHardNetExtractor(DoGHardNetConfig(weights=str(path), reverse_turn=reverse)).identity
        for reverse in (False, True)
    ]
    assert identities[0] != identities[1]
    assert cv2.__version__ in repr(identities[0].config) and str(path) not in repr(identities[0])


def test_wrong_input_is_refused(network):
    with pytest.raises(ValueError, match=r"patches: expected \[N, 1, 32, 32\]"):
        network(torch.rand(2, 32, 32))
    with pytest.raises(ConfigError, match=r"`extractor\.contrast_threshold`"):
        DoGHardNetConfig(contrast_threshold=-1)
    with pytest.raises(ConfigError, match=r"`extractor\.max_keypoints`"):
        DoGHardNetConfig(max_keypoints=0)


def test_without_weights_the_message_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"liberty"):
        DoGHardNetExtractor(DoGHardNetConfig())
