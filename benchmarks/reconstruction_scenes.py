"""The scenes of the benchmark of reconstructions: photographs of the shared data, and rendered ones."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from datasets.ground_truth import read_scene
from datasets.shared import find_scene_path
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.synthetic import render_courtyard, render_square, write_photos, write_scene

SUITE = (
    "fountain_p11:given",
    "fountain_p11:found",
    "lund_door:given",
    "lund_door:exif",
    "copr_drone:exif",
    "brighton_beach:exif",
    "courtyard:given",
    "square:found",
)
"""The default scenes, each with the way in which its intrinsics are known."""

INTRINSICS = ("given", "exif", "found")
"""given: the true camera, not refined. exif: from EXIF data, refined. found: not known at all, refined."""

RENDERED = ("courtyard", "square")
"""courtyard: 20 images of walls with equal windows, of which two thirds of the pairs have no common view. square: 40
images, each by a camera of its own."""

_COURTYARD_SIZE, _SQUARE_SIZE = (1200, 900), (800, 600)

_COURTYARD_FOCAL_MM = 40
"""With this 35 mm equivalent focal length, 32 % of the pairs share more than 2 % of an image."""


@dataclass(frozen=True, slots=True)
class BenchmarkScene:
    """A scene as both methods get it.

    Args:
        truth: images with true poses and cameras; both are empty for a scene without ground truth.
        intrinsics: one of `INTRINSICS`.
        names: all images, sorted.
        camera: (model, parameters) of the single camera if it is given, else None.
        camera_mode: which images share a camera: "single", "auto" or "per-image".
    """

    truth: SceneTruth
    intrinsics: str
    names: tuple[str, ...]
    camera: tuple[str, tuple[float, ...]] | None
    camera_mode: str

    @property
    def name(self) -> str:
        """For tables."""
        return self.truth.name


def open_scene(text: str, intrinsics: str, data: Path | None, work: Path) -> BenchmarkScene:
    """Find or render a scene.

    Args:
        text: path, name in the shared data, or one of `RENDERED`; with ":given", ":exif" or ":found" at its end, that
            is used instead of `intrinsics`.
        intrinsics: one of `INTRINSICS`.
        data: folder of the shared data, None for the default.
        work: folder of rendered scenes.

    Raises:
        DataError: if there is no such scene, or its intrinsics cannot be used in this way.
    """
    scene, _, suffix = text.rpartition(":")
    if scene and suffix in INTRINSICS:
        text, intrinsics = scene, suffix
    is_rendered = text in RENDERED and not Path(text).exists()
    return as_benchmark(read_scene(render(text, work) if is_rendered else find_scene_path(text, data)), intrinsics)


def as_benchmark(truth: SceneTruth, intrinsics: str) -> BenchmarkScene:
    """A scene with the intrinsics that both methods get.

    This also reads the images, so that the first run finds them in the file cache like all later runs.

    Raises:
        DataError: if "given" is used without exactly one true camera, or "found" although images have EXIF data.
    """
    camera = given_camera(truth) if intrinsics == "given" else None
    images = load_scene(truth.image_root).images
    names = tuple(image.name for image in images)
    if intrinsics == "found" and any(image.camera.source == "exif" for image in images):
        raise DataError(f"{truth.name}: the images have EXIF data; use --intrinsics exif")
    cameras = {(camera.model, camera.params) for camera in truth.camera_from_name.values()}
    is_single = camera is not None or len({image.camera_idx for image in images}) == 1
    mode = "per-image" if intrinsics == "found" and len(cameras) > 1 else "single" if is_single else "auto"
    return BenchmarkScene(truth, intrinsics, names, camera, mode)


def given_camera(truth: SceneTruth) -> tuple[str, tuple[float, ...]]:
    """Model and parameters of the only camera of a scene.

    Raises:
        DataError: if there is none, or more than one.
    """
    cameras = {(camera.model, camera.size, camera.params) for camera in truth.camera_from_name.values()}
    if not cameras:
        raise DataError(f"{truth.name}: the intrinsics are not known; use --intrinsics exif")
    if len(cameras) > 1:
        raise DataError(f"{truth.name}: {len(cameras)} different cameras; use --intrinsics exif")
    ((model, _, params),) = cameras
    return model, params


def render(name: str, work: Path) -> Path:
    """A rendered scene; it stays in the folder, and is not rendered again."""
    root = work / name
    if not (root / "truth.json").is_file():
        print(f"rendering {name}", file=sys.stderr, flush=True)
        if name == "square":
            write_photos(render_square(40, _SQUARE_SIZE), root)
        else:
            write_scene(render_courtyard(20, _COURTYARD_SIZE, focal_35mm_mm=_COURTYARD_FOCAL_MM), root)
    return root
