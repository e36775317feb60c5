"""Draw the point clouds of several models of one scene beside each other, from one viewpoint.

    python -m benchmarks.reconstruction_picture FILE.png COLMAP=MODEL0 ours=MODEL1 [--size 800 600]

The models are those of `benchmarks/reconstruction.py --keep DIR`. Each is aligned with the first by the poses of
their common images, so that all are drawn from the viewpoint of the first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.command import run_command
from sfm_lightglue.arrays import Float64Array, UInt8Array
from sfm_lightglue.colmap.drawing import model_arrays
from sfm_lightglue.colmap.model import Reconstruction, read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.drawing.scene import BACKGROUND, build_scene
from sfm_lightglue.drawing.viewpoint import Viewpoint
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, project_to_rotation
from sfm_lightglue.store.atomic_file import atomic_write

_SUPERSAMPLING = 2
"""Pictures are drawn at this multiple of their size and averaged."""

_POINT_PX = 3
"""Side of a point, before averaging."""


def side_by_side(models: Sequence[tuple[str, Reconstruction]], size: tuple[int, int], zoom: float) -> Image.Image:
    """Draw models beside each other.

    Args:
        models: titles and models; the first one decides the viewpoint.
        size: (width, height) of each in pixels.
        zoom: factor on the size of the first model in the picture that shows all of it.

    Raises:
        DataError: if a model has fewer than three images in common with the first.
    """
    first = models[0][1]
    viewpoint = build_scene(model_arrays(first), size[0] / size[1]).viewpoint
    eye = viewpoint.target + (viewpoint.eye - viewpoint.target) / zoom
    viewpoint = Viewpoint(eye, viewpoint.target, viewpoint.up, viewpoint.vertical_fov_deg)
    picture = Image.new("RGB", (len(models) * size[0], size[1]))
    font = ImageFont.load_default(size=max(12, size[1] // 28))
    for idx, (title, model) in enumerate(models):
        points, colors = _aligned(title, model, first)
        picture.paste(_draw(points, colors, viewpoint, size), (idx * size[0], 0))
        text = f"{title}: {model.num_points3D():,} points"
        ImageDraw.Draw(picture).text((idx * size[0] + size[1] // 40, size[1] // 40), text, (235, 238, 242), font)
    return picture


def _aligned(title: str, model: Reconstruction, first: Reconstruction) -> tuple[Float64Array, UInt8Array]:
    """Points [N, 3] of a model in the frame of the first one, and their colours [N, 3]."""
    arrays = model_arrays(model)
    colors = arrays.point_colors
    if model is first:
        return arrays.points, colors
    poses, others = dict(poses_of_model(first)), dict(poses_of_model(model))
    names = sorted(poses.keys() & others.keys())
    if len(names) < 3:
        raise DataError(f"{title}: {len(names)} images in common with the first model; at least three are needed")
    return _similarity([poses[name] for name in names], [others[name] for name in names]) @ arrays.points, colors


def _similarity(poses: Sequence[Rigid3], others: Sequence[Rigid3]) -> Sim3:
    """Transforms the world of `others` to that of `poses`.

    The rotation is from the orientations, because all centres may lie on a line; the rest is from the centres.
    """
    R = project_to_rotation(sum(pose.R.T @ other.R for pose, other in zip(poses, others, strict=True)))
    centers, moved = (np.array([pose.center for pose in some]) for some in (poses, others))
    moved = moved @ R.T
    mean, moved_mean = centers.mean(0), moved.mean(0)
    scale = float(((centers - mean) * (moved - moved_mean)).sum() / ((moved - moved_mean) ** 2).sum())
    return Sim3(scale, R, mean - scale * moved_mean)


def _draw(points: Float64Array, colors: UInt8Array, viewpoint: Viewpoint, size: tuple[int, int]) -> Image.Image:
    """Squares of one size in the order of their depth, the nearest last."""
    large = (_SUPERSAMPLING * size[0], _SUPERSAMPLING * size[1])
    pixels, depths = viewpoint.project(points, large)
    half = _POINT_PX // 2
    inside = np.flatnonzero(((pixels >= half) & (pixels < np.array(large) - half)).all(axis=1))  # False for NaN
    chosen = inside[np.argsort(-depths[inside], kind="stable")]
    canvas = np.full((large[1], large[0], 3), np.round(255 * np.array(BACKGROUND)), np.uint8)
    x, y = pixels[chosen].astype(int).T
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            canvas[y + dy, x + dx] = colors[chosen]
    return Image.fromarray(canvas).resize(size, Image.Resampling.BOX)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="PNG or JPEG")
    parser.add_argument("models", nargs="+", metavar="TITLE=MODEL")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 600), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--zoom", type=float, default=1.0, help="larger than 1: nearer (default: 1)")
    arguments = parser.parse_args(argv)
    if any("=" not in text for text in arguments.models):
        parser.error("expected TITLE=MODEL")

    def body() -> None:
        parts = [text.partition("=") for text in arguments.models]
        models = [(title, read_model(Path(path))) for title, _, path in parts]
        picture = side_by_side(models, tuple(arguments.size), arguments.zoom)
        file_format = "PNG" if arguments.file.suffix.lower() == ".png" else "JPEG"
        with atomic_write(arguments.file) as file:
            picture.save(file, file_format, quality=88)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
