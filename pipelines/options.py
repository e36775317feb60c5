"""The names of options in messages: the library names its own options, the commands their flags."""

from __future__ import annotations

import re

FLAG_FROM_OPTION = {
    "camera_model": "--camera-model",
    "cameras.mode": "--camera-mode",
    "cameras.model": "--camera-model",
    "cameras.params": "--camera-params",
    "cameras.refine": "--refine-intrinsics",
    "compare": "--compare",
    "density.level": "--density",
    "device": "--device",
    "executor.address": "--executor-address",
    "executor.name": "--executor",
    "extractor.max_image_size": "--max-image-size",
    "extractor.max_keypoints": "--max-keypoints",
    "extractor.name": "--extractor",
    "extractor.weights": "--extractor-weights",
    "fps": "--fps",
    "image_list": "--image-list",
    "images": "--images",
    "known_only=True": "--known-only",
    "lookalikes.mode": "--lookalikes",
    "lookalikes.trust_pairs": "--trust-pairs",
    "mapping.name": "--mapper",
    "masks": "--masks",
    "matcher.name": "--matcher",
    "matcher.weights": "--matcher-weights",
    "max_image_size": "--max-image-size",
    "num_images": "--num-images",
    "num_threads": "--threads",
    "output": "--output",
    "overwrite=True": "--overwrite",
    "pairs.exclude": "--exclude-pairs",
    "pairs.name": "--pairs",
    "pairs.path": "--pairs",
    "poses": "--poses",
    "positions": "--positions",
    "refine.mode": "--refine",
    "refine_intrinsics": "--refine-intrinsics",
    "rig": "--rig",
    "same_camera=True": "--same-camera",
    "screenshot": "--screenshot FILE.png",
    "seed": "--seed",
    "two_view.estimator": "--estimator",
    "undistort=True": "--undistort",
}
"""The flag of a command by the name of the option in the library. Every other option is set by `--set`."""


OPTION_TABLES = (
    "cameras",
    "checks",
    "density",
    "executor",
    "export",
    "extractor",
    "flow",
    "guided",
    "initialization",
    "keyframes",
    "limits",
    "lookalikes",
    "mapping",
    "matcher",
    "pairs",
    "pose",
    "recovery",
    "refine",
    "second_chance",
    "transitive",
    "two_view",
)
"""Tables of options; written here, because the registry loads the libraries of the components."""


def with_flags(text: str) -> str:
    """A text of the library, with the options that it names between backticks replaced by the flags of the commands."""

    def flag(found: re.Match[str]) -> str:
        option = found[1]
        if option in FLAG_FROM_OPTION:
            return FLAG_FROM_OPTION[option]
        return f"--set {option}=..." if option.partition(".")[0] in OPTION_TABLES and "." in option else found[0]

    return re.sub(r"`([a-z_.]+(?:=True)?)`", flag, text)
