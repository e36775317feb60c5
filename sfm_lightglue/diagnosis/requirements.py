"""The libraries that this package asks for: of pyproject.toml in a checkout, else of the installed package."""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfm_lightglue.errors import DataError

DISTRIBUTION = "sfm-lightglue"

_ROOT = Path(__file__).resolve().parents[2]

OPENCV_WHEELS = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
"""Distributions that have the module cv2; the first one is asked for."""

_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*([^;]*?)\s*(?:;(.*))?$")
_EXTRA = re.compile(r"\bextra\s*==\s*['\"]([^'\"]+)['\"]")
_BOUND = re.compile(r"(>=|<=|==|!=|~=|>|<)\s*([0-9][0-9A-Za-z.*+!-]*)")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A library that is asked for.

    Args:
        name: of the distribution.
        bounds: of its version, such as ">=4.10"; "" for any.
        extra: of this package that asks for it; "" if it always does.
    """

    name: str
    bounds: str
    extra: str = ""

    def is_met_by(self, version: str) -> bool:
        """Whether a version is within the bounds."""
        return all(_holds(version, operator, bound) for operator, bound in _BOUND.findall(self.bounds))


def requirements() -> list[Requirement]:
    """All libraries that this package asks for, those of its extras too.

    Raises:
        DataError: if neither pyproject.toml nor the installed package tells.
    """
    table = _project_of_checkout()
    if table is not None:
        texts = [(text, "") for text in table["dependencies"]]
        texts += [(text, extra) for extra, found in table["optional-dependencies"].items() for text in found]
        return [parsed(text, extra) for text, extra in texts]
    try:
        found = importlib.metadata.requires(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(f"{DISTRIBUTION} is neither installed nor a checkout: install it by pip") from error
    return [parsed(text) for text in found or ()]


def pinned_versions() -> dict[str, str]:
    """The versions of constraints.txt by the normalised name of the distribution; empty outside of a checkout."""
    path = _ROOT / "constraints.txt"
    if not path.is_file() or _project_of_checkout() is None:
        return {}
    pins = (line.split("==") for line in path.read_text(encoding="utf-8").splitlines() if "==" in line)
    return {normalised(name): version.strip() for name, version in pins}


def parsed(text: str, extra: str = "") -> Requirement:
    """A requirement of a text such as 'faiss-cpu>=1.9; extra == "retrieval"'.

    Args:
        text: as in pyproject.toml or in the metadata.
        extra: that it belongs to if the text does not say.
    """
    match = _REQUIREMENT.match(text)
    if match is None:
        raise DataError(f"requirement {text!r}: expected a name and bounds of its version")
    named = _EXTRA.search(match[3] or "")
    return Requirement(match[1], match[2], extra if named is None else named[1])


def _project_of_checkout() -> dict[str, Any] | None:
    """The table `project` of this project; None without a checkout. Other wheels install a pyproject.toml too."""
    try:
        table = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8")).get("project")
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) and table.get("name") == DISTRIBUTION else None


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def normalised(name: str) -> str:
    """A name as indices of packages compare it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _holds(version: str, operator: str, bound: str) -> bool:
    if operator == "~=":
        prefix = bound.rpartition(".")[0]
        return _holds(version, ">=", bound) and _holds(version, "==", f"{prefix}.*")
    found, wanted = _numbers(version), _numbers(bound)
    if bound.endswith(".*"):
        is_equal = found[: len(wanted)] == wanted
    else:
        pairs = list(itertools.zip_longest(found, wanted, fillvalue=0))
        found, wanted = tuple(one for one, _ in pairs), tuple(other for _, other in pairs)
        is_equal = found == wanted
    results = {
        "==": is_equal,
        "!=": not is_equal,
        ">=": found >= wanted,
        "<=": found <= wanted,
        ">": found > wanted,
        "<": found < wanted,
    }
    return results[operator]


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version: (2, 13, 0) of "2.13.0+cpu"."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match is not None else ()
