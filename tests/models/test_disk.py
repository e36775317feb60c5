"""DISK: parity with kornia on random weights, published layouts, and laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.extractors.disk import DiskConfig, DiskExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.models.disk import Disk, DiskArchitecture, load_disk
from sfm_lightglue.models.keypoints import Limits
from sfm_lightglue.models.lightglue import LightGlue
from tests.helpers.photos import textured
from tests.helpers.untrained import write_disk


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_disk(tmp_path_factory.mktemp("disk") / "disk.safetensors")


@pytest.fixture(scope="module")
def network(path) -> Disk:
    return load_disk(path)


def picture(width: int, height: int, seed: int = 0) -> torch.Tensor:
    channels = [textured(width, height, 3 * seed + index) for index in range(3)]
    return torch.from_numpy(np.stack(channels)).float() / 255


@torch.no_grad()
@pytest.mark.parametrize("size", [(96, 64), (83, 70), (32, 16)])
def test_parity_with_kornia_on_random_weights(network, size):
    kornia = pytest.importorskip("kornia", reason="needs kornia, the second implementation of DISK")
    theirs = kornia.feature.DISK().eval()
    theirs.load_state_dict(network.state_dict())
    images = torch.stack([picture(*size, seed) for seed in (0, 1)])
    width, height = size
    padded = torch.nn.functional.pad(images, (0, -width % 16, 0, -height % 16))
    heat, descriptors = theirs.heatmap_and_dense_descriptors(padded)
    ours = network.maps(images)
    torch.testing.assert_close(ours[0], heat[:, 0, :height, :width], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours[1], descriptors[..., :height, :width], atol=1e-5, rtol=1e-4)
    found = theirs(images, n=30, pad_if_not_divisible=True)
    for mine, other in zip(network(images), found, strict=True):
        # In kornia the whole window is inside the image; ours may be at the border.
        within = (mine.keypoints >= 2).all(1) & (mine.keypoints <= torch.tensor([width - 3, height - 3])).all(1)
        order = other.detection_scores.argsort(descending=True)
        count = len(order)
        assert torch.equal(mine.keypoints[within][:count], other.keypoints[order])
        torch.testing.assert_close(mine.scores[within][:count], other.detection_scores[order], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mine.descriptors[within][:count], other.descriptors[order], atol=1e-4, rtol=0)
    assert size == (32, 16) or min(len(each.keypoints) for each in found) == 30


@torch.no_grad()
def test_a_batch_equals_its_images(network):
    images = torch.stack([picture(83, 70), torch.zeros(3, 70, 83), picture(83, 70, 1)])
    batch = network(images, Limits(0.0, 2, 40))
    assert len(batch) == 3 and network(images[:0]) == []
    for image, together in zip(images, batch, strict=True):
        alone = network(image[None], Limits(0.0, 2, 40))[0]
        assert torch.equal(together.keypoints, alone.keypoints)
        torch.testing.assert_close(together.scores, alone.scores, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.descriptors, alone.descriptors, atol=1e-5, rtol=0)
    assert len(batch[0].keypoints) == 40
    assert (batch[0].scores.diff() <= 0).all()


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (5, 40), (17, 3)])
def test_tiny_images_work(network, size):
    (points,) = network(picture(*size)[None])
    assert points.descriptors.shape == (len(points.keypoints), 128)
    assert points.keypoints.isfinite().all() and points.descriptors.isfinite().all()
    assert (points.keypoints <= torch.tensor(size) - 1).all()


@pytest.mark.parametrize("below", ["extractor", "disk", None])
def test_published_layouts_load(network, tmp_path, below):
    """The files of the authors store the weights under "extractor", newer ones under "disk"."""
    state = network.state_dict()
    assert "unet.path_down.0.1.3.weight" in state and "unet.path_down.4.1.1.weight" in state
    assert "unet.path_up.3.conv.3.bias" in state and len(state) == 26
    torch.save(state if below is None else {below: state}, tmp_path / "depth-save.pth")
    loaded = load_disk(tmp_path / "depth-save.pth").state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_other_networks_are_refused_by_name(tmp_path):
    torch.save(LightGlue().state_dict(), tmp_path / "lightglue.pth")
    with pytest.raises(WeightsError, match=r"lightglue\.pth: not the weights of this Disk: missing keys: unet\.path_"):
        load_disk(tmp_path / "lightglue.pth")


def test_wrong_input_is_refused(network):
    with pytest.raises(ValueError, match=r"images: expected \[B, 3, H, W\]"):
        network(torch.rand(1, 1, 32, 32))
    with pytest.raises(ValueError, match="need 3 stages up"):
        DiskArchitecture(up_channels=(64,))
    with pytest.raises(ConfigError, match="max_keypoints"):
        DiskConfig(max_keypoints=0)
    with pytest.raises(ConfigError, match="nms_radius_px"):
        DiskConfig(nms_radius_px=-1)


def test_the_extractor_shifts_by_half_a_pixel_and_uses_colour(path, network):
    pixels = np.stack([textured(80, 64, seed) for seed in range(3)], axis=-1)
    features = DiskExtractor(DiskConfig(weights=str(path), max_keypoints=40), "cpu").extract(Image.from_array(pixels))
    with torch.no_grad():
        (points,) = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, Limits(0.0, 2, 40))
    np.testing.assert_allclose(features.keypoints, points.keypoints.numpy() + 0.5)
    np.testing.assert_allclose(features.descriptors, points.descriptors.numpy(), atol=1e-5)
    assert len(features) == 40


def test_without_weights_the_message_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"depth-save\.pth"):
        DiskExtractor(DiskConfig())
