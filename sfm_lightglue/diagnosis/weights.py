"""The weights of the package and those that were downloaded, by their digests."""

from __future__ import annotations

from pathlib import Path

from sfm_lightglue.diagnosis.finding import Finding
from sfm_lightglue.errors import WeightsError
from sfm_lightglue.weights.catalog import CATALOG, SHIPPED_SHA256, WeightsEntry
from sfm_lightglue.weights.digest import fault_of, file_sha256
from sfm_lightglue.weights.lookup import EMBEDDED_FOLDER, candidate_paths

DIGEST_LENGTH = 12
"""Characters of a digest that are shown."""

_NEEDED = ("lightglue_sift", "retrieval_sift")
"""Weights that a reconstruction with the default options uses."""


def shipped_digests() -> dict[str, str]:
    """The sha256 of the weights of the package by name; "missing" for a file that is not there."""
    digests = {}
    for entry in CATALOG.values():
        if entry.url is None:
            path = EMBEDDED_FOLDER / entry.file
            digests[entry.name] = file_sha256(path) if path.is_file() else "missing"
    return digests


def weights_findings() -> list[Finding]:
    """Each file of the package, each that was downloaded, and how many can be downloaded."""
    found, num_missing = [], 0
    for entry in CATALOG.values():
        path = next(candidate_paths(entry), None)
        if path is None and entry.url is not None:
            num_missing += 1
        else:
            found.append(_finding(entry, path))
    if num_missing > 0:
        text = f"{num_missing} of other features are not downloaded, and SIFT needs none of them"
        mend = "sfm-lightglue weights list, and weights fetch NAME"
        found.append(Finding("weights", "other networks", "missing", text, mend))
    return found


def _finding(entry: WeightsEntry, path: Path | None) -> Finding:
    code = WeightsError.exit_code if entry.name in _NEEDED else 0
    mend = f"sfm-lightglue weights fetch {entry.name}"
    if entry.url is None:
        mend = "pip uninstall -y sfm-lightglue && pip install sfm-lightglue"
    if path is None:
        return Finding("weights", entry.name, "missing", f"{entry.file} is not in the package", mend, code)
    is_ours = path.parent == EMBEDDED_FOLDER
    published = SHIPPED_SHA256.get(entry.name) if is_ours else entry.sha256
    fault = fault_of(path, published, entry.size)
    if fault is not None:
        return Finding("weights", entry.name, "broken", f"{path}: {fault}", mend, code)
    digest = file_sha256(path)[:DIGEST_LENGTH]
    where = "" if is_ours else f", {path}"
    known = "as published" if published else "no digest is published"
    return Finding("weights", entry.name, "ok", f"sha256 {digest}..., {known}{where}")
