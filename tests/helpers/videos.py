"""Small videos: written by OpenCV, turned by their metadata, or damaged."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from sfm_lightglue.arrays import UInt8Array

CODEC_FROM_SUFFIX = {".avi": "MJPG", ".mp4": "mp4v"}


def panned_images(number: int, size: tuple[int, int] = (160, 120), step_px: int = 6) -> list[UInt8Array]:
    """A window that moves to the right over a random texture, RGB."""
    rng, (width, height) = np.random.default_rng(0), size
    texture = rng.integers(0, 255, (height, width + number * step_px, 3), np.uint8)
    texture = np.asarray(cv2.GaussianBlur(texture, (0, 0), 2), np.uint8)
    stretched = np.asarray(cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX), np.uint8)
    return [np.ascontiguousarray(stretched[:, i * step_px : i * step_px + width]) for i in range(number)]


def write_frames(folder: Path, number: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Write the images of `panned_images` as 0.png, 1.png, ... into a folder; returns its path."""
    folder.mkdir(parents=True)
    for i, image in enumerate(panned_images(number, size)):
        PIL.Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def write_video(path: Path, images: Sequence[UInt8Array], fps: float = 20.0) -> Path:
    """Write RGB images as a video; returns its path."""
    height, width = images[0].shape[:2]
    codec = cv2.VideoWriter_fourcc(*CODEC_FROM_SUFFIX[path.suffix])
    writer = cv2.VideoWriter(str(path), codec, fps, (width, height))
    for image in images:
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    return path


def turn_by_metadata(path: Path, height: int) -> None:
    """Let an MP4 file say that its frames are shown turned clockwise by 90 degrees.

    Source: ISO/IEC 14496-12, box `tkhd`, version 0: the matrix begins 40 bytes after the version.
    """
    data = bytearray(path.read_bytes())
    start = data.find(b"tkhd") + 4 + 40
    data[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, height << 16, 0, 1 << 30)
    path.write_bytes(data)


def damage_frame(path: Path, number: int) -> None:
    """Overwrite one frame of a video of JPEG images with zeros."""
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 2) if data[i : i + 3] == b"\xff\xd8\xff"]
    start, end = starts[number], starts[number + 1] - 8
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
