"""The shared real data: images and trained networks that are not in the repository."""

import os
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT

_DEFAULT = ROOT.parent / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """Path of a file or folder below SFM_LIGHTGLUE_DATA (default ../shared/data). If it is missing, skip the test."""
    path = Path(os.environ.get("SFM_LIGHTGLUE_DATA", _DEFAULT)).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs missing shared data: {path} (set SFM_LIGHTGLUE_DATA)")
    return path
