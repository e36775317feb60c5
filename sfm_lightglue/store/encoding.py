"""Features, matches and geometries as arrays of a store entry, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import astuple
from typing import Any, get_args

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import (
    DenseFeatures,
    Features,
    Matches,
    PairEvidence,
    Rejected,
    RejectionReason,
    TwoViewGeometry,
    TwoViewKind,
)


def arrays_from_features(features: Features) -> dict[str, AnyArray]:
    """The arrays of a store entry of features. Optional arrays that are None are left out."""
    arrays: dict[str, AnyArray] = {
        "keypoints": features.keypoints,
        "scores": features.scores,
        "descriptors": features.descriptors,
        "image_size": np.array(features.image_size),
        "quarter_turns": np.array(features.quarter_turns),
    }
    factor = None if features.shrink_factor is None else np.array(features.shrink_factor)
    optional = {"scales": features.scales, "orientations": features.orientations, "shrink_factor": factor}
    return arrays | {name: array for name, array in optional.items() if array is not None}


def features_from_arrays(arrays: Mapping[str, AnyArray], key: str) -> Features:
    """`Features` from an entry of the store.

    Raises:
        Exception: if arrays are missing or wrong, whatever NumPy or `Features` raises.
    """
    width, height = (int(value) for value in _shaped(arrays["image_size"], (2,), "iu"))
    features = Features(
        arrays["keypoints"],
        arrays["scores"],
        arrays["descriptors"],
        (width, height),
        arrays.get("scales"),
        arrays.get("orientations"),
        int(arrays["quarter_turns"]),
        key,
        float(arrays["shrink_factor"]) if "shrink_factor" in arrays else None,
    )
    for array in (features.scores, features.descriptors):
        _finite(array)
    return features


def arrays_from_dense(dense: DenseFeatures) -> dict[str, AnyArray]:
    """The arrays of a store entry of dense features. Optional arrays that are None are left out."""
    arrays: dict[str, AnyArray] = {
        "keypoints": dense.keypoints,
        "descriptors": dense.descriptors,
        "zero": np.array(dense.zero),
        "step": np.array(dense.step),
        "image_size": np.array(dense.image_size),
        "num_sparse": np.array(dense.num_sparse),
    }
    factor = None if dense.shrink_factor is None else np.array(dense.shrink_factor)
    optional = {"scales": dense.scales, "shrink_factor": factor}
    return arrays | {name: array for name, array in optional.items() if array is not None}


def dense_from_arrays(arrays: Mapping[str, AnyArray], key: str) -> DenseFeatures:
    """`DenseFeatures` from an entry of the store.

    Raises:
        Exception: if arrays are missing or wrong, whatever NumPy or `DenseFeatures` raises.
    """
    width, height = (int(value) for value in _shaped(arrays["image_size"], (2,), "iu"))
    scales = arrays.get("scales")
    return DenseFeatures(
        arrays["keypoints"],
        arrays["descriptors"],
        int(_shaped(arrays["zero"], (), "iu")),
        float(_shaped(arrays["step"], (), "f")),
        None if scales is None else _finite(scales),
        (width, height),
        int(_shaped(arrays["num_sparse"], (), "iu")),
        key,
        float(_finite(_shaped(arrays["shrink_factor"], (), "f"))) if "shrink_factor" in arrays else None,
    )


def arrays_from_matches(matches: Matches) -> dict[str, AnyArray]:
    """The arrays of a store entry of matches. Optional arrays that are None are left out."""
    arrays: dict[str, AnyArray] = {
        "indices": matches.indices,
        "scores": matches.scores,
        "stop_layer": np.array(matches.stop_layer),
    }
    optional = {"asked0": matches.asked0, "asked1": matches.asked1}
    return arrays | {name: array for name, array in optional.items() if array is not None}


def matches_from_arrays(arrays: Mapping[str, AnyArray], key: str, features: tuple[Sized, Sized]) -> Matches:
    """`Matches` of two images from an entry of the store.

    Args:
        arrays: of the entry.
        key: of the entry.
        features: of both images, or anything with as many rows.

    Raises:
        Exception: if arrays are missing or wrong, whatever NumPy or `Matches` raises.
    """
    asked0, asked1 = (
        _shaped(arrays[name], (len(one),), "b") if name in arrays else None
        for name, one in zip(("asked0", "asked1"), features, strict=True)
    )
    matches = Matches(arrays["indices"], arrays["scores"], int(arrays["stop_layer"]), key, asked0, asked1)
    last0, last1 = matches.indices.view(np.uint32).max(axis=0, initial=0).tolist()  # negative numbers are large
    if len(matches) > 0 and (last0 >= len(features[0]) or last1 >= len(features[1])):
        raise ValueError("indices of features that the images do not have")
    return matches


def arrays_from_geometry(geometry: TwoViewGeometry | Rejected) -> dict[str, AnyArray]:
    """The arrays of a store entry of a verified or rejected pair."""
    if isinstance(geometry, Rejected):
        return {
            "kind": np.array("rejected"),
            "reason": np.array(geometry.reason),
            "counts": np.array([geometry.num_matches, geometry.num_inliers]),
        }
    arrays: dict[str, AnyArray] = {
        "kind": np.array(geometry.kind),
        "inlier_mask": geometry.inlier_mask,
        "cam1_from_cam0": geometry.cam1_from_cam0.as_matrix(),
        "F": geometry.F,
    }
    evidence = None if geometry.evidence is None else np.array(astuple(geometry.evidence))
    optional = {"E": geometry.E, "H": geometry.H, "evidence": evidence}
    return arrays | {name: matrix for name, matrix in optional.items() if matrix is not None}


def geometry_from_arrays(arrays: Mapping[str, AnyArray], num_matches: int) -> TwoViewGeometry | Rejected:
    """`TwoViewGeometry` or `Rejected` from an entry of the store.

    Args:
        arrays: of the entry.
        num_matches: of the pair.

    Raises:
        Exception: if arrays are missing or wrong, whatever NumPy or these types raise.
    """
    kind: Any = _word(arrays["kind"], _KINDS)
    if kind == "rejected":
        reason: Any = _word(arrays["reason"], _REASONS)
        return Rejected(reason, *(int(count) for count in _shaped(arrays["counts"], (2,), "iu")))
    matrices = {name: _finite(_shaped(arrays[name], (3, 3), "f")) for name in ("F", "E", "H") if name in arrays}
    return TwoViewGeometry(
        kind,
        _shaped(arrays["inlier_mask"], (num_matches,), "b"),
        Rigid3.from_matrix(_finite(_shaped(arrays["cam1_from_cam0"], (4, 4), "f"))),
        matrices["F"],
        matrices.get("E"),
        matrices.get("H"),
        _evidence(_shaped(arrays["evidence"], (4,), "f")) if "evidence" in arrays else None,
    )


_KINDS = "rejected", *get_args(TwoViewKind)
_REASONS = get_args(RejectionReason)


def _word(array: AnyArray, words: Sequence[str]) -> str:
    word: str = _shaped(array, (), "U").item()
    if word not in words:
        raise ValueError(f"expected one of {', '.join(words)}")
    return word


def _shaped(array: AnyArray, shape: tuple[int, ...], kinds: str) -> AnyArray:
    if array.shape != shape or array.dtype.kind not in kinds:
        raise ValueError(f"expected the shape {shape}, got {array.shape} of {array.dtype}")
    return array


def _finite(array: AnyArray) -> AnyArray:
    if not np.isfinite(array).all():
        raise ValueError("numbers are not finite")
    return array


def _evidence(values: AnyArray) -> PairEvidence:
    num_distinctive, num_inliers, score, log10_false_alarms = values.tolist()
    return PairEvidence(int(num_distinctive), int(num_inliers), score, log10_false_alarms)
