"""The shared real data: photographs and trained networks that the repository does not hold."""

import os
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT

_DEFAULT = ROOT.parent / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """A file or folder below SFM_LIGHTGLUE_DATA (default ../shared/data), or skips the test."""
    path = Path(os.environ.get("SFM_LIGHTGLUE_DATA", _DEFAULT)).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs shared data that is not here: {path} (set SFM_LIGHTGLUE_DATA)")
    return path
