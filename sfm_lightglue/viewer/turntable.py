"""A turn around the scene as a film (MP4) or a moving picture (GIF), from its pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
from PIL import Image as PilImage

from sfm_lightglue.errors import ConfigError, StoreError

SUFFIXES = (".mp4", ".gif")

CODECS = ("vp09", "mp4v")
"""Codes of the codecs of a film, both in OpenCV's wheels: browsers play VP9, old programs the other."""

MIN_GIF_FRAME_S = 0.02
"""Browsers show frames of a shorter time more slowly."""


def check_gif(num_frames: int, seconds: float) -> None:
    """Raise ConfigError if the pictures of a GIF file would follow each other faster than browsers show them."""
    most = int(seconds / MIN_GIF_FRAME_S + 1e-6)
    if num_frames > most:
        raise ConfigError(
            f"frames {num_frames}: a GIF file of {seconds:g} s has at most {most}, as browsers show a picture for"
            f" {MIN_GIF_FRAME_S:g} s or more; an MP4 file may have more"
        )


def write_turntable(pictures: Sequence[Path], path: Path, seconds: float) -> str:
    """Write pictures one after the other.

    Args:
        pictures: files of equal size, in order.
        path: the file, with one of `SUFFIXES`.
        seconds: length of the film.

    Returns:
        "gif", or which of `CODECS` the film has.

    Raises:
        ConfigError: if there are too many pictures for a GIF file of this length.
        StoreError: if OpenCV has no codec for films, or the file cannot be written.
    """
    if path.suffix.lower() == ".gif":
        check_gif(len(pictures), seconds)
        _write_gif(pictures, path, seconds)
        return "gif"
    return _write_mp4(pictures, path, seconds)


def _write_gif(pictures: Sequence[Path], path: Path, seconds: float) -> None:
    frames = []
    palette: PilImage.Image | None = None
    for picture in pictures:
        with PilImage.open(picture) as opened:
            rgb = opened.convert("RGB")
        # One palette for all frames: a palette of each would make still things flicker.
        palette = palette or rgb.quantize(256, PilImage.Quantize.MEDIANCUT)
        frames.append(rgb.quantize(palette=palette, dither=PilImage.Dither.NONE))
    # The file has times in hundredths of a second: rounded ends of the pictures keep the length of the film.
    ends = [round(100 * seconds * number / len(frames)) for number in range(len(frames) + 1)]
    times_ms = [10 * (end - start) for start, end in itertools.pairwise(ends)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=times_ms, loop=0, optimize=False)


def _write_mp4(pictures: Sequence[Path], path: Path, seconds: float) -> str:
    """Write the film; returns its codec."""
    with PilImage.open(pictures[0]) as opened:
        size = (opened.width - opened.width % 2, opened.height - opened.height % 2)  # codecs need even numbers
    writer, codec = _writer(path, len(pictures) / seconds, size)
    try:
        for picture in pictures:
            pixels = cv2.imread(str(picture), cv2.IMREAD_COLOR)
            assert pixels is not None, "the worker wrote it"
            writer.write(pixels[: size[1], : size[0]])
    finally:
        writer.release()
    if not path.is_file() or path.stat().st_size == 0:
        raise StoreError(f"{path}: the film could not be written; a GIF file needs no codec")
    return codec


def _writer(path: Path, frames_per_s: float, size: tuple[int, int]) -> tuple[cv2.VideoWriter, str]:
    for codec in CODECS:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), frames_per_s, size)
        if writer.isOpened():
            return writer, codec
        writer.release()
    raise StoreError(f"{path}: OpenCV has no codec for MP4 files here; a GIF file needs none: name it {path.stem}.gif")
