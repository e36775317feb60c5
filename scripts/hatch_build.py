"""Build hook: compile the kernels, where there is a C compiler. Without one, the package works in NumPy, but slower.

A package with the kernels is for one platform, and for all versions of Python.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles the kernels into the source tree, and adds them to the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Hatchling calls this before it builds the wheel; an editable installation is a wheel too."""
        if self.target_name != "wheel":
            return
        kernels = _build_module(Path(self.root))
        try:
            library: Path = kernels.compile_kernels()
        except kernels.KernelBuildError as error:
            self.app.display_warning(f"{error}\nThe package works without them, but is slower.")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{kernels.platform_tag()}"
        if version != "editable":
            build_data["force_include"][str(library)] = str(library.relative_to(self.root))


def _build_module(root: Path) -> ModuleType:
    """The file alone, as what the package imports is not installed here."""
    path = root / "sfm_lightglue" / "kernels" / "build.py"
    specification = importlib.util.spec_from_file_location("kernels_build", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
