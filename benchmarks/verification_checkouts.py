"""The default verification of a checkout of this project, in a process of its own, on one thread.

`benchmarks/verification.py` uses this module.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

MatchedValues = dict[str, Any]
"""Plain values of a matched pair, which every checkout can read: features, matches, cameras, and the true pose."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checkout says about a pair.

    Args:
        cpu_s: processor time.
        R: rotation [3, 3], or None for a rejected pair.
        t: direction [3], or None.
    """

    cpu_s: float
    R: np.ndarray[Any, Any] | None
    t: np.ndarray[Any, Any] | None


class CheckoutVerifier:
    """The default verification of a checkout, in a process of its own; a context manager."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), str(root.resolve())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> CheckoutVerifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes both pipes and waits

    def verify(self, pair: MatchedValues, seed: int) -> Verdict:
        """The verdict about a pair."""
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump((pair, seed), self._process.stdin)
        self._process.stdin.flush()
        return Verdict(*pickle.load(self._process.stdout))


def plain_pair(
    features: Sequence[Any], matches: Any, cameras: Sequence[Any], truth: Any, has_common_view: bool
) -> MatchedValues:
    """Values of a matched pair, without classes of this checkout."""
    return {
        "features": [_values(one) for one in features],
        "matches": _values(matches),
        "cameras": [_values(camera) for camera in cameras],
        "truth": None if truth is None else (truth.R, truth.t),
        "common": has_common_view,
    }


def _values(item: Any) -> dict[str, Any]:
    return {one.name: getattr(item, one.name) for one in fields(item) if one.init}


def _serve(root: str) -> None:
    """Answers the messages of `CheckoutVerifier.verify` with the code of a checkout."""
    sys.path.insert(0, root)
    import cv2
    from threadpoolctl import threadpool_limits

    import sfm_lightglue
    from sfm_lightglue.two_view.verification import estimate_two_view_geometry
    from sfm_lightglue.types import Camera, Features, Matches, Rejected

    if not str(sfm_lightglue.__file__).startswith(root):
        raise SystemExit(f"{root}: not a checkout of this project, {sfm_lightglue.__file__} was imported")
    cv2.setNumThreads(1)
    with threadpool_limits(1):
        while True:
            try:
                pair, seed = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            features = [Features(**values) for values in pair["features"]]
            cameras = [Camera(**values) for values in pair["cameras"]]
            matches = Matches(**pair["matches"])
            start = time.process_time()
            found = estimate_two_view_geometry(*features, matches, *cameras, seed=seed)
            cpu_s = time.process_time() - start
            pose = None if isinstance(found, Rejected) else found.cam1_from_cam0
            pickle.dump((cpu_s, *((None, None) if pose is None else (pose.R, pose.t))), sys.stdout.buffer)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
