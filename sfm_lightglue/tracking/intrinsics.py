"""An unknown focal length: estimated from the pairs of frames before a map starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm_lightglue.scene.cameras import as_pycolmap, mean_focal_length
from sfm_lightglue.tracking.config import InitializationConfig
from sfm_lightglue.two_view.relative_pose import RelativePose
from sfm_lightglue.types import Camera

_MIN_VOTES = 3
_MAX_SPREAD = 0.05
"""Largest standard error of the logarithm of the focal length with which a map starts at once."""


class FocalLengthVotes:
    """Focal lengths that pairs of frames gave; their median is used.

    Args:
        camera: of the frames; unless its source is "guessed", it is kept.
        config: how long more pairs are awaited.
    """

    def __init__(self, camera: Camera, config: InitializationConfig) -> None:
        self._camera, self._config = camera, config
        self._logs: list[float] = []
        self._first_time_s: float | None = None
        self._waited_s = 0.0

    def add(self, time_s: float, relative: RelativePose) -> None:
        """Count the estimate of a pair, if its matches gave one."""
        if self._first_time_s is None:
            self._first_time_s = time_s
        self._waited_s = time_s - self._first_time_s
        if relative.cameras[0].source == "estimated":
            self._logs.append(float(np.log(mean_focal_length(relative.cameras[0]))))

    @property
    def camera(self) -> Camera | None:
        """The camera with the median of the estimates; None while more are awaited.

        After `max_focal_wait_s` seconds the guess takes the place of the estimate if there is none.
        """
        if self._camera.source != "guessed":
            return self._camera
        if not self._is_sure() and self._waited_s < self._config.max_focal_wait_s:
            return None
        if not self._logs:
            return replace(self._camera, source="estimated")
        return with_focal_length(self._camera, float(np.exp(np.median(self._logs))))

    def _is_sure(self) -> bool:
        """Whether enough estimates agree."""
        if len(self._logs) < _MIN_VOTES:
            return False
        sigma = 1.4826 * float(np.median(np.abs(np.array(self._logs) - np.median(self._logs))))
        # The median of normal values has 1.2533 times the standard error of their mean.
        return bool(1.2533 * sigma / len(self._logs) ** 0.5 <= _MAX_SPREAD)


def with_focal_length(camera: Camera, focal_length_px: float) -> Camera:
    """The camera with another focal length and the source "estimated"."""
    params, factor = list(camera.params), focal_length_px / mean_focal_length(camera)
    for idx in as_pycolmap(camera).focal_length_idxs():
        params[idx] *= factor
    return replace(camera, params=tuple(params), source="estimated")
