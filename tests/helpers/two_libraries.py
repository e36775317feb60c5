"""The same classes of this library and of transformers, for tests that run each case against both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import sfm_lightglue

try:
    import transformers
except ImportError:
    transformers = None

needs_transformers = pytest.mark.skipif(transformers is None, reason="transformers is not installed")


@dataclass(frozen=True)
class Library:
    """The processors and the pipeline of a library."""

    name: str
    matching_processor: Any
    detection_processor: Any
    pipeline: Any

    def __repr__(self) -> str:
        return self.name


OURS = Library(
    "ours", sfm_lightglue.LightGlueImageProcessor, sfm_lightglue.SuperPointImageProcessor, sfm_lightglue.pipeline
)
THEIRS = None
if transformers is not None:  # its processors with Pillow, which need no torchvision
    THEIRS = Library(
        "theirs",
        transformers.LightGlueImageProcessorPil,
        transformers.SuperPointImageProcessorPil,
        transformers.pipeline,
    )
LIBRARIES = [OURS] if THEIRS is None else [OURS, THEIRS]
in_both = pytest.mark.parametrize("library", LIBRARIES, ids=repr)
