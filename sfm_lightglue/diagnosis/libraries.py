"""Python, the libraries that are always needed, those of the extras, and wheels of OpenCV that overwrite each other."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping, Sequence

from sfm_lightglue.diagnosis.child import Imported, try_imports, try_rendering
from sfm_lightglue.diagnosis.finding import Finding
from sfm_lightglue.diagnosis.requirements import (
    OPENCV_WHEELS,
    Requirement,
    installed_version,
    normalised,
    pinned_versions,
    requirements,
)
from sfm_lightglue.errors import ConfigError, DataError

MIN_PYTHON = (3, 11)

_MODULE_FROM_NAME = {
    "numpy": "numpy",
    "pillow": "PIL",
    "scipy": "scipy",
    "opencv-python-headless": "cv2",
    "torch": "torch",
    "pycolmap": "pycolmap",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "threadpoolctl": "threadpoolctl",
    "jinja2": "jinja2",
    "pillow-heif": "pillow_heif",
    "open3d": "open3d",
    "poselib": "poselib",
    "faiss-cpu": "faiss",
    "av": "av",
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "ray": "ray",
    "shtab": "shtab",
}
"""The module of each distribution that the package imports, in an order in which they can be imported together."""

_FOR_DEVELOPERS = {"test", "docs", "dev", "notebook"}
"""Extras that a user does not need."""

"""Wheels that all install the module cv2."""

_RENDERING_PACKAGES = "apt-get install libgl1 libegl1 libvulkan1 mesa-vulkan-drivers"

_SYSTEM_PACKAGE = {
    "libGL.so": "libgl1",
    "libEGL.so": "libegl1",
    "libusb-1.0.so": "libusb-1.0-0",
    "libgomp.so": "libgomp1",
    "libX11.so": "libx11-6",
    "libvulkan.so": "libvulkan1",
    "libglib-2.0.so": "libglib2.0-0",
    "libgthread-2.0.so": "libglib2.0-0",
    "libSM.so": "libsm6",
    "libXext.so": "libxext6",
    "libstdc++.so": "libstdc++6",
    "libtbb.so": "libtbb12",
}
"""The Debian package of a library of the system."""


def python_finding() -> Finding:
    """The version of Python."""
    text = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < MIN_PYTHON:
        wanted = ".".join(map(str, MIN_PYTHON))
        return Finding("libraries", "python", "broken", f"{text}, wants >={wanted}", f"install Python {wanted}", 2)
    return Finding("libraries", "python", "ok", text)


def library_findings() -> list[Finding]:
    """The libraries and the extras, each tried in another process.

    Returns:
        The libraries that are always needed first, then those of the extras.
    """
    try:
        asked = requirements()
    except DataError as error:
        return [Finding("libraries", "sfm-lightglue", "broken", str(error), "pip install sfm-lightglue", 2)]
    needed = [one for one in asked if not one.extra]
    optional = [one for one in asked if one.extra and one.extra not in _FOR_DEVELOPERS]
    order = list(_MODULE_FROM_NAME)
    here = [name for name in order if name in {normalised(one.name) for one in (*needed, *optional)}]
    # Those that are not installed are tried too if they are needed: they may come from elsewhere, as from conda.
    tried = [name for name in here if installed_version(name) is not None or name in {one.name for one in needed}]
    imported = try_imports([_MODULE_FROM_NAME[name] for name in tried])
    by_name = {name: imported[_MODULE_FROM_NAME[name]] for name in tried}
    pins = pinned_versions()
    found = [_finding("libraries", one, by_name, pins, exit_code=2) for one in needed]
    seen = set[tuple[str, str]]()
    for one in optional:
        if one.name in _MODULE_FROM_NAME and (one.extra, one.name) not in seen:
            seen.add((one.extra, one.name))
            found.append(_finding("extras", one, by_name, pins, exit_code=0))
    return [*found, *opencv_findings()]


def _finding(
    group: str, asked: Requirement, imported: Mapping[str, Imported], pins: Mapping[str, str], exit_code: int
) -> Finding:
    name = asked.name if not asked.extra else f"{asked.extra} ({asked.name})"
    install = (
        f'pip install "sfm-lightglue[{asked.extra}]"' if asked.extra else f'pip install "{asked.name}{asked.bounds}"'
    )
    version, one = installed_version(asked.name), imported.get(normalised(asked.name))
    if one is None or (version is None and is_absent(one, asked)):
        return Finding(
            group, name, "missing", f"not installed, wants {asked.bounds or 'any version'}", install, exit_code
        )
    if one.error:
        mend = mend_of_import(one.error) or f"pip uninstall -y {asked.name} && {install}"
        return Finding(group, name, "broken", f"cannot be imported: {one.error}", mend, exit_code)
    shown = version or one.version
    tested = pins.get(normalised(asked.name))
    text = f"{shown} (wants {asked.bounds or 'any'}{f', tested with {tested}' if tested else ''})"
    if shown and not asked.is_met_by(shown):
        return Finding(group, name, "broken", text, install.replace("install", "install -U", 1), exit_code)
    return Finding(group, name, "ok", text)


def rendering_finding(found: Sequence[Finding]) -> list[Finding]:
    """Whether Open3D can render; nothing if it is missing, or cannot be imported.

    Args:
        found: what was found of the libraries.
    """
    if not any(one.name == "viewer (open3d)" and one.state == "ok" for one in found):
        return []
    error = try_rendering()
    if not error:
        return [Finding("viewer", "rendering", "ok", "Open3D can render pictures")]
    return [Finding("viewer", "rendering", "broken", error, mend_of_import(error) or _RENDERING_PACKAGES)]


def is_absent(imported: Imported, asked: Requirement) -> bool:
    """Whether the module itself is missing, not something that it needs."""
    module = _MODULE_FROM_NAME[normalised(asked.name)]
    return imported.error.startswith("ModuleNotFoundError") and f"'{module}'" in imported.error


def mend_of_import(error: str) -> str:
    """The command that installs a library of the system whose lack an error tells; "" for other errors."""
    match = re.search(r"(lib[\w+.-]+?\.so)[\w.]*: cannot open shared object file", error)
    if match is None:
        return ""
    package = next((known for name, known in _SYSTEM_PACKAGE.items() if match[1].startswith(name)), None)
    return f"apt-get install {package}" if package else f"install the library {match[1]} of the system"


def opencv_findings(installed: Sequence[str] | None = None) -> list[Finding]:
    """Whether several wheels of OpenCV are installed, which overwrite each other's files.

    Args:
        installed: names of those that are; None looks.
    """
    names = (
        [name for name in sorted(OPENCV_WHEELS) if installed_version(name) is not None]
        if installed is None
        else installed
    )
    if len(names) < 2:
        return []
    mend = f"pip uninstall -y {' '.join(names)} && pip install opencv-python-headless"
    text = f"{', '.join(names)} are installed together, and overwrite each other's module cv2"
    return [Finding("libraries", "opencv wheels", "broken", text, mend)]


def require_known_modules() -> None:
    """Check that this file knows the module of each library that a user may need.

    Raises:
        ConfigError: if one is missing here.
    """
    asked = {normalised(one.name) for one in requirements() if one.extra not in _FOR_DEVELOPERS}
    unknown = sorted(asked - _MODULE_FROM_NAME.keys() - {"sfm-lightglue"})
    if unknown:
        raise ConfigError(f"the modules of {', '.join(unknown)} are not known to the diagnosis")
