"""`python -m pipelines.match IMAGE0 IMAGE1`: the relative pose of two photos."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pipelines.arguments import add_component_arguments, component_values, parse_camera_params
from pipelines.command import run_command, show_warnings
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.image_pair import ImagePairResult, match_images
from sfm_lightglue.images import Image
from sfm_lightglue.reconstruct_config import ReconstructConfig
from sfm_lightglue.registry import EXTRACTORS, MATCHERS
from sfm_lightglue.scene import CameraConfig
from sfm_lightglue.store import atomic_write

EXAMPLES = """\
examples:
  python -m pipelines.match left.jpg right.jpg
      the pose of the second camera as seen from the first, with the focal length of the EXIF data
  python -m pipelines.match left.jpg right.jpg --out matches.png
      also a picture of the matches, and matches.json
  python -m pipelines.match left.png right.png --camera-model0 PINHOLE --camera-params0 520,521,325,250
      known intrinsics, in COLMAP's order and pixel convention; given for one photo, they hold for the other too
      if that is of the same size and camera

verdicts: general; planar (the photos show one plane: the pose is less sure); pure_rotation (the camera only
turned: no direction of motion, t is zero); rejected, with the reason.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings()

    def body() -> None:
        config = ReconstructConfig.from_mapping(component_values(arguments))
        paths = None if arguments.out is None else _output_paths(arguments.out)
        images = Image.read(arguments.image0), Image.read(arguments.image1)
        result = match_images(
            *images,
            EXTRACTORS.build(config.extractor, config.device),
            MATCHERS.build(config.matcher, config.device),
            _cameras(arguments, images),
            config.two_view,
            config.seed,
        )
        if paths is not None:
            _write(result, *paths)
        if arguments.json:
            print(json.dumps(result.as_dict(), ensure_ascii=False))
        elif not arguments.quiet:
            print(result)
            if paths is not None:
                print(f"written: {paths[0]}, {paths[1]}")

    return run_command(body)


def _cameras(arguments: argparse.Namespace, images: tuple[Image, Image]) -> tuple[CameraConfig, CameraConfig]:
    """What is said of one photo only holds for the other too, if that is of the same size and the same camera."""
    models = [arguments.camera_model0, arguments.camera_model1]
    params = [parse_camera_params(text) for text in (arguments.camera_params0, arguments.camera_params1)]
    same = images[0].size == images[1].size and images[0].exif.camera_id == images[1].exif.camera_id
    cameras = [
        CameraConfig(
            model=models[side] or models[1 - side] or CameraConfig().model,
            params=tuple(params[side] or (params[1 - side] if same and not models[side] else None) or ()),
        )
        for side in (0, 1)
    ]
    return cameras[0], cameras[1]


def _output_paths(out: Path) -> tuple[Path, Path]:
    """Where the picture and the JSON go: `out` names one of them, and the other lies beside it, or their folder.

    Raises:
        ConfigError: where `out` ends like a file of another kind.
    """
    suffix = out.suffix.lower()
    if suffix == ".json":
        return out.with_suffix(".png"), out
    if suffix in _FORMAT_FROM_SUFFIX:
        return out, out.with_suffix(".json")
    if suffix and not out.is_dir():
        raise ConfigError(f"--out {out}: expected a name that ends in .png, .jpg, .webp or .json, or a folder")
    return out / "matches.png", out / "matches.json"


_FORMAT_FROM_SUFFIX = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def _write(result: ImagePairResult, picture_path: Path, json_path: Path) -> None:
    from sfm_lightglue.viewer.matches import draw_matches

    with atomic_write(picture_path) as file:
        draw_matches(result).save(file, _FORMAT_FROM_SUFFIX[picture_path.suffix.lower()])
    with atomic_write(json_path) as file:
        file.write(json.dumps(result.as_dict(), indent=2, ensure_ascii=False).encode() + b"\n")


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.match",
        description="Match two photos and estimate their relative pose.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("image0", metavar="IMAGE0", type=Path)
    add("image1", metavar="IMAGE1", type=Path)
    add("--out", metavar="PATH", type=Path, help="write a picture of the matches, and a JSON beside it")
    add_component_arguments(parser)
    for side in (0, 1):
        add(f"--camera-model{side}", metavar="NAME", help="COLMAP's name (default: SIMPLE_RADIAL)")
        add(f"--camera-params{side}", metavar="P,P,...", help=f"known intrinsics of image {side}")
    add("--seed", type=int, metavar="N", help="of the random samples (default: 0)")
    add("--device", help="of the networks: cpu, cuda, or auto (default: auto)")
    add("--quiet", action="store_true", help="print nothing but warnings and errors")
    add("--json", action="store_true", help="print the result as one JSON object on standard output")
    return parser


if __name__ == "__main__":
    sys.exit(main())
