"""Images with many corners, as photographs for textures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_photos(folder: Path) -> Path:
    """Write eight images with many corners; returns the folder."""
    for k in range(8):
        cv2.imwrite(str(folder / f"texture_{k}.jpg"), pattern(k))
    return folder


def pattern(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.full((360, 480, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(350):
        x, y = rng.integers(0, (480, 360))
        w, h = rng.integers(6, 40, 2)
        color = tuple(rng.integers(0, 255, 3).tolist())
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), color, -1)
    return image
