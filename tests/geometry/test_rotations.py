"""Which matrices count as rotations."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3, is_rotation


@pytest.mark.parametrize(
    "matrix",
    [
        -np.eye(3),
        np.diag([1.0, 1.0, -1.0]),
        1.001 * np.eye(3),
        np.zeros((3, 3)),
        np.full((3, 3), np.nan),
        np.array([[1, 2e-4, 0], [0, 1, 0], [0, 0, 1]]),
    ],
)
def test_what_is_no_rotation_is_refused(matrix: np.ndarray) -> None:
    assert not is_rotation(matrix)
    with pytest.raises(ValueError, match="not a rotation matrix"):
        Rigid3(matrix, np.zeros(3))


def test_rotations_may_differ_by_rounding() -> None:
    R = Rigid3.from_rotvec([0.4, -1.2, 0.3], [0, 0, 0]).R
    assert is_rotation(R)
    assert is_rotation(R.astype(np.float32).astype(np.float64))
