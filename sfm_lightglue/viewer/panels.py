"""Pictures that lie over the scene: the list of keys, a photo with its keypoints, the track of a point, legends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.viewer.contents import Contents, keypoints_of, track_of
from sfm_lightglue.viewer.photos import MISSING, Photo, crop_around

FONT_PX = 15
LINE_PX = 19
MARGIN_PX = 8

INK, PALE, PAPER = (235, 236, 240), (160, 164, 172), (26, 28, 34)
"""Text, less important text, and the ground of all panels, on both backgrounds of the scene."""

WITH_POINT, WITHOUT_POINT = (60, 230, 90), (255, 150, 40)
"""Keypoints with a 3D point are filled squares, those without one are circles."""

MARK = (255, 64, 230)
"""Cross at the keypoint of a track."""

MAX_LOOSE = 2000
"""Keypoints without a point that are drawn; evenly spaced ones of more."""

MAX_CROPS = 12
"""Images of a track that are shown: those with the smallest residuals."""

CROPS_IN_ROW = 4
CROP_SIDE_PX = 150

_FULL_SIDE_PX = 1_000_000
"""Photos are not reduced."""

PhotoReader = Callable[[str, int], "Photo | None"]
"""Reads the photo of a path with at most a number of pixels on its longer side."""


@cache
def _font(size_px: int = FONT_PX) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)


def text_panel(lines: Sequence[tuple[str, str]], title: str) -> PilImage.Image:
    """Lines of two columns under a title."""
    draw = ImageDraw.Draw(PilImage.new("RGB", (1, 1)))
    first = max((draw.textlength(left, _font()) for left, _ in lines), default=0.0)
    width = max([draw.textlength(title, _font()), *(first + 14 + draw.textlength(text, _font()) for _, text in lines)])
    size = (round(width) + 2 * MARGIN_PX, LINE_PX * (len(lines) + 1) + 2 * MARGIN_PX)
    panel = PilImage.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(panel)
    draw.text((MARGIN_PX, MARGIN_PX - 2), title, INK, _font())
    for row, (left, text) in enumerate(lines, start=1):
        top = MARGIN_PX - 2 + row * LINE_PX
        draw.text((MARGIN_PX, top), left, (130, 190, 255), _font())
        draw.text((MARGIN_PX + first + 14, top), text, PALE, _font())
    return panel


def legend_panel(low: str, high: str, stops: Float64Array) -> PilImage.Image:
    """A scale of colours between two texts."""
    draw = ImageDraw.Draw(PilImage.new("RGB", (1, 1)))
    left, right = draw.textlength(low, _font()), draw.textlength(high, _font())
    bar = 160
    panel = PilImage.new("RGB", (round(left + right) + bar + 4 * MARGIN_PX, LINE_PX + 2 * MARGIN_PX), PAPER)
    places = np.linspace(0, len(stops) - 1, bar)
    colors = np.stack([np.interp(places, np.arange(len(stops)), stops[:, channel]) for channel in range(3)], axis=1)
    strip = np.repeat(np.round(255 * colors).astype(np.uint8)[None], LINE_PX - 5, axis=0)
    panel.paste(PilImage.fromarray(strip), (round(left) + 2 * MARGIN_PX, MARGIN_PX + 2))
    draw = ImageDraw.Draw(panel)
    draw.text((MARGIN_PX, MARGIN_PX - 1), low, INK, _font())
    draw.text((round(left) + bar + 3 * MARGIN_PX, MARGIN_PX - 1), high, INK, _font())
    return panel


def camera_panel(contents: Contents, camera: int, read: PhotoReader, side_px: int) -> PilImage.Image:
    """The photo of a camera, upright, with its keypoints, and how many there are.

    Args:
        contents: with the camera.
        camera: its row.
        read: of photos.
        side_px: longer side of the photo at most.
    """
    keypoints = keypoints_of(contents, camera)
    photo = _photo_of(contents, camera, read, side_px)
    finite = keypoints.residuals_px[np.isfinite(keypoints.residuals_px)]
    residual = f", median error {np.median(finite):.2f} px" if len(finite) > 0 else ""
    lines = [
        str(contents.names[camera]),
        f"{len(keypoints.xy)} keypoints with a 3D point{residual}",
        f"{len(keypoints.loose_xy)} keypoints without one",
    ]
    if photo is None:
        width, height = contents.image_sizes[camera].tolist()
        blank = PilImage.new("RGB", (width, height), MISSING)
        blank.thumbnail((side_px, side_px))
        photo = Photo(np.asarray(blank), (width, height), 0)
        lines.append("the photo was not found")
    canvas = PilImage.fromarray(photo.pixels)
    draw = ImageDraw.Draw(canvas)
    loose = keypoints.loose_xy[:: 1 + len(keypoints.loose_xy) // MAX_LOOSE]
    for x, y in photo.place(loose):
        draw.ellipse([x - 2, y - 2, x + 2, y + 2], outline=WITHOUT_POINT)
    for x, y in photo.place(keypoints.xy):
        draw.rectangle([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=WITH_POINT)
    return _captioned(canvas, lines, {1: WITH_POINT, 2: WITHOUT_POINT})


def track_panel(contents: Contents, point: int, read: PhotoReader) -> PilImage.Image:
    """The parts of the images around the keypoints of a point, upright, side by side.

    Args:
        contents: with the point.
        point: its row.
        read: of photos.
    """
    track = track_of(contents, point)
    shown = min(len(track.cameras), MAX_CROPS)
    columns = max(1, min(shown, CROPS_IN_ROW))
    cell = (CROP_SIDE_PX + 4, CROP_SIDE_PX + LINE_PX + 4)
    canvas = PilImage.new("RGB", (columns * cell[0], -(-shown // columns) * cell[1]), PAPER)
    draw = ImageDraw.Draw(canvas)
    for place in range(shown):
        camera = int(track.cameras[place])
        left, top = place % columns * cell[0] + 2, place // columns * cell[1] + 2
        photo = _photo_of(contents, camera, read, _FULL_SIDE_PX)
        canvas.paste(_marked_crop(photo, track.xy[place]), (left, top))
        text = f"{track.residuals_px[place]:.2f} px  {contents.names[camera]}"
        draw.text((left, top + CROP_SIDE_PX), _shortened(text, CROP_SIDE_PX, draw), PALE, _font(12))
    left_out = f", {shown} of them shown" if shown < len(track.cameras) else ""
    error = contents.errors_px[point]
    mean = f", mean error {error:.2f} px" if np.isfinite(error) else ""
    return _captioned(canvas, [f"point seen by {len(track.cameras)} images{mean}{left_out}"], {})


def _photo_of(contents: Contents, camera: int, read: PhotoReader, side_px: int) -> Photo | None:
    """The photo of a camera; keypoints refer to the size that the model states, also if the file has another one."""
    photo = read(str(contents.files[camera]), side_px)
    width, height = contents.image_sizes[camera].tolist()
    return None if photo is None else replace(photo, size=(width, height))


def _marked_crop(photo: Photo | None, xy: AnyArray) -> PilImage.Image:
    """The part of an image around a keypoint, which is marked by an open cross."""
    if photo is None:
        crop = PilImage.new("RGB", (CROP_SIDE_PX, CROP_SIDE_PX), MISSING)
        ImageDraw.Draw(crop).text((8, CROP_SIDE_PX // 2 - 10), "photo not found", INK, _font(12))
        return crop
    crop = crop_around(photo, xy, CROP_SIDE_PX)
    draw, middle = ImageDraw.Draw(crop), CROP_SIDE_PX / 2
    for step in (-1, 1):
        for color, width in ((PAPER, 5), (MARK, 2)):
            draw.line([middle + 5 * step, middle, middle + 18 * step, middle], color, width)
            draw.line([middle, middle + 5 * step, middle, middle + 18 * step], color, width)
    return crop


def _captioned(canvas: PilImage.Image, lines: Sequence[str], colors: dict[int, tuple[int, int, int]]) -> PilImage.Image:
    """A picture under lines of text; some lines have a square of their colour."""
    draw = ImageDraw.Draw(canvas)
    width = max(canvas.width, round(max(draw.textlength(line, _font()) for line in lines)) + 20) + 2 * MARGIN_PX
    top = LINE_PX * len(lines) + MARGIN_PX
    panel = PilImage.new("RGB", (width, canvas.height + top + MARGIN_PX), PAPER)
    panel.paste(canvas, (MARGIN_PX, top))
    draw = ImageDraw.Draw(panel)
    for row, line in enumerate(lines):
        y = 4 + row * LINE_PX
        if row in colors:
            draw.rectangle([MARGIN_PX, y + 5, MARGIN_PX + 8, y + 13], fill=colors[row])
        draw.text((MARGIN_PX + (16 if row in colors else 0), y), line, INK if row == 0 else PALE, _font())
    return panel


def _shortened(text: str, width_px: int, draw: ImageDraw.ImageDraw) -> str:
    """The beginning of a text that fits into a width."""
    if draw.textlength(text, _font(12)) <= width_px:
        return text
    while text and draw.textlength(text + "…", _font(12)) > width_px:
        text = text[:-1]
    return text + "…"
