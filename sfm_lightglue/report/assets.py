"""Template, style, scripts and three.js, which come with the package."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

SCRIPTS = ("decode.js", "scene.js", "photos.js", "page.js")
"""The scripts of the page, in their order; they share one scope."""

_ALL = ("page.html.jinja", "page.css", "three.min.js", "three.LICENSE.txt", *SCRIPTS)


@functools.cache
def asset(name: str) -> str:
    """The text of a file."""
    return resources.files("sfm_lightglue.report").joinpath("data", name).read_text(encoding="utf-8")


@functools.cache
def assets_digest() -> str:
    """sha256 of all files."""
    return hashlib.sha256("\0".join(map(asset, _ALL)).encode()).hexdigest()
