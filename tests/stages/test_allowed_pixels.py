"""Which pixels may have keypoints, by the masks of a scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sfm_lightglue.stages.allowed_pixels import AllowedPixels
from sfm_lightglue.types import Camera, SceneImage

CAMERA = Camera("SIMPLE_PINHOLE", 40, 20, (30.0, 20.0, 10.0), "given")
XY = np.array([[5.0, 10.0], [35.0, 10.0], [5.0, 2.0]])


def scene_image(name: str, mask: Path | None, quarter_turns: int = 0) -> SceneImage:
    return SceneImage(name, Path(name), CAMERA, 0, "", mask=mask, quarter_turns=quarter_turns)


def write_mask(path: Path, allowed: np.ndarray) -> Path:
    Image.fromarray(np.where(allowed, 255, 0).astype(np.uint8)).save(path)
    return path


def test_each_image_has_its_own_mask(tmp_path: Path) -> None:
    left, right = np.zeros((20, 40), np.bool_), np.zeros((10, 20), np.bool_)
    left[:, :20], right[:, 10:] = True, True
    allows = AllowedPixels(
        [
            scene_image("left", write_mask(tmp_path / "left.png", left)),
            scene_image("right", write_mask(tmp_path / "right.png", right)),
            scene_image("all", None),
        ]
    )
    assert allows("left", XY).tolist() == [True, False, True]
    assert allows("right", XY).tolist() == [False, True, False], "a mask may be smaller than its image"
    assert allows("all", XY).tolist() == [True, True, True]
    assert allows("left", XY[:0]).tolist() == []


def test_a_mask_of_the_upright_image_is_turned(tmp_path: Path) -> None:
    stored = np.zeros((20, 40), np.bool_)
    stored[:, :20] = True
    upright = np.rot90(stored, -1)  # clockwise
    allows = AllowedPixels([scene_image("a", write_mask(tmp_path / "a.png", upright), quarter_turns=1)])
    assert allows("a", XY).tolist() == [True, False, True]


def test_nothing_is_allowed_if_the_mask_cannot_be_read(tmp_path: Path) -> None:
    allows = AllowedPixels([scene_image("a", tmp_path / "removed.png")])
    assert allows("a", XY).tolist() == [False, False, False]
