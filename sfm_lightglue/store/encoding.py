"""Features, matches and geometries as arrays of a store entry, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Features, Matches, PairEvidence, Rejected, TwoViewGeometry


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
    """`Features` from an entry of the store."""
    width, height = (int(value) for value in arrays["image_size"])
    return Features(
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


def arrays_from_matches(matches: Matches) -> dict[str, AnyArray]:
    """The arrays of a store entry of matches."""
    return {
        "indices": matches.indices,
        "scores": matches.scores,
        "stop_layer": np.array(matches.stop_layer),
    }


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


def geometry_from_arrays(arrays: Mapping[str, AnyArray]) -> TwoViewGeometry | Rejected:
    """`TwoViewGeometry` or `Rejected` from an entry of the store."""
    kind: Any = str(arrays["kind"])
    if kind == "rejected":
        reason: Any = str(arrays["reason"])
        num_matches, num_inliers = (int(count) for count in arrays["counts"])
        return Rejected(reason, num_matches, num_inliers)
    return TwoViewGeometry(
        kind,
        arrays["inlier_mask"],
        Rigid3.from_matrix(arrays["cam1_from_cam0"]),
        arrays["F"],
        arrays.get("E"),
        arrays.get("H"),
        _evidence(arrays["evidence"]) if "evidence" in arrays else None,
    )


def _evidence(values: AnyArray) -> PairEvidence:
    num_distinctive, num_inliers, score, log10_false_alarms = values.tolist()
    return PairEvidence(int(num_distinctive), int(num_inliers), score, log10_false_alarms)
