"""Where the checkout is, and copies of it."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder of pyproject.toml."""


def copy_of_checkout(target: Path) -> Path:
    """A copy from which a wheel can be built, without compiled kernels.

    A build compiles the kernels into its source tree, which other tests read and use at the same time.
    """
    target.mkdir()
    for name in ("sfm_lightglue", "pipelines", "scripts", "datasets", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("*.so", "*.dll", "__pycache__", ".*"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, target)
    return target
