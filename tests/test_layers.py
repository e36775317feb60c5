"""The order of imports, and the packages that may import each third-party library."""

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT

LAYERS = (
    {"errors", "identity", "messages", "version", "arrays"},
    {"input_file", "kernels"},
    {"geometry", "images", "execution", "config", "features"},
    {"types"},
    {"store", "drawing", "pairs.base"},
    {"weights", "scene", "synthetic"},
    {"models", "two_view", "colmap", "retrieval"},
    {"lookalikes"},
    {"extractors", "matchers", "mapping", "refinement", "exports", "known_poses", "pairs"},
    {"registry", "stages", "training", "huggingface", "testing"},
    {"image_pair", "localization"},
    {"reconstruction"},
    {"tracking"},
    {"evaluation", "viewer", "report", "diagnosis", "sfm_lightglue"},
    {"datasets"},
    {"pipelines"},
    {"benchmarks"},
)
"""Packages in the order of imports. A package imports only from itself and from earlier lines, not from its own line.

The name "sfm_lightglue" is the module of the public names. Packages that do not exist yet have their planned line.
"""

DOORS = {
    "torch": {
        "models",
        "extractors",
        "matchers",
        "retrieval",
        "training",
        "huggingface",
        "execution.devices",
        "weights",
        "synthetic.photo_scenes",
    },
    "safetensors": {"weights", "training"},
    "cv2": {
        "images",
        "extractors.sift",
        "extractors.scale_space",
        "extractors.sift_descriptors",
        "two_view",
        "tracking",
        "refinement",
        "synthetic",
        "training",
        "viewer.turntable",
    },
    "pycolmap": {
        "colmap",
        "mapping",
        "scene.cameras",
        "localization",
        "tracking",
        "refinement",
        "exports",
        "testing.mapper_contract",
    },
    "open3d": {"viewer"},
    "ray": {"execution"},
    "PIL": {
        "images",
        "drawing",
        "huggingface",
        "synthetic",
        "testing",
        "training",
        "viewer",
        "datasets",
        "evaluation.depth",
        "report",
        # PIL must be imported before pycolmap: see the comment in these packages.
        "colmap",
        "exports",
        "mapping",
        "scene",
        "tracking",
    },
    "scipy": {
        "exports",
        "localization",
        "lookalikes",
        "two_view",
        "mapping",
        "pairs",
        "tracking",
        "training",
        "viewer",
    },
    "jinja2": {"report"},
    "pytest": {"testing"},
    "threadpoolctl": {"execution.devices", "execution.blas"},
    "tqdm": {"pipelines"},
    "shtab": {"pipelines"},
    "poselib": {"two_view.estimators"},
    "av": {"tracking"},
    "pillow_heif": {"images.opening"},
    "faiss": {"retrieval"},
    "onnx": {"models"},
    "onnxscript": {"models"},
    "setuptools": {"kernels.build"},
    "distutils": {"kernels.build"},
}
"""The packages and modules that may import a library. Imports for type checkers only are free."""

LAZY = {
    "av",
    "distutils",
    "faiss",
    "jinja2",
    "onnx",
    "onnxscript",
    "open3d",
    "pillow_heif",
    "poselib",
    "ray",
    "setuptools",
    "shtab",
    "tqdm",
}
"""Libraries that are imported inside functions only."""

TOP_LEVEL = ("sfm_lightglue", "datasets", "pipelines", "benchmarks")


def source_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(module, line, whether at the top level) of each import, without imports for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for node in ast.walk(test)
    }
    within_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            # `from package import name` can import a module of the package.
            names = [
                f"{node.module}.{alias.name}" if is_module(f"{node.module}.{alias.name}") else str(node.module)
                for alias in node.names
            ]
        else:
            continue
        for name in names:
            yield name, node.lineno, id(node) not in within_functions


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def package_of(module: str) -> str:
    """The name in LAYERS of a module: its longest known prefix, without "sfm_lightglue."."""
    known = set().union(*LAYERS)
    parts = module.split(".")
    if parts[0] == "sfm_lightglue" and len(parts) > 1:
        parts = parts[1:]
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    package = next((prefix for prefix in prefixes if prefix in known), None)
    assert package is not None, f"{module} is not in LAYERS: add it there and in docs/explanation/architecture.md"
    return package


def layer_of(package: str) -> int:
    return next(index for index, packages in enumerate(LAYERS) if package in packages)


def test_the_modules_of_all_folders_are_found():
    modules = {module_of(path) for path in source_files(*TOP_LEVEL)}
    assert {"sfm_lightglue", "sfm_lightglue.extractors.sift", "pipelines.match", "datasets.colmap"} <= modules


def test_every_package_has_one_line():
    assert sum(map(len, LAYERS)) == len(set().union(*LAYERS))
    assert package_of("sfm_lightglue.pairs.base") == "pairs.base"
    assert package_of("sfm_lightglue.pairs.sequential") == package_of("sfm_lightglue.pairs") == "pairs"
    assert package_of("sfm_lightglue") == "sfm_lightglue"


@pytest.mark.parametrize("path", source_files(*TOP_LEVEL), ids=module_of)
def test_imports_follow_the_order(path):
    package = package_of(module_of(path))
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {package} imports {name}"
        for name, line, _ in imports_of(path)
        if name.split(".")[0] in TOP_LEVEL
        and package_of(name) != package
        and layer_of(package_of(name)) >= layer_of(package)
    ]
    assert not wrong


@pytest.mark.parametrize("path", source_files("sfm_lightglue", "datasets", "pipelines"), ids=module_of)
def test_libraries_are_imported_where_allowed(path):
    module = module_of(path).removeprefix("sfm_lightglue.")
    wrong = []
    for name, line, at_top in imports_of(path):
        library = name.split(".")[0]
        if library in sys.stdlib_module_names or library in {"numpy", *TOP_LEVEL}:
            continue
        location = f"{path.relative_to(ROOT)}:{line}"
        doors = {door for door in DOORS.get(library, set()) if module == door or module.startswith(f"{door}.")}
        if library not in DOORS:
            wrong.append(f"{location}: {library} is not a dependency")
        elif not doors:
            wrong.append(f"{location}: {library} is imported only in {', '.join(sorted(DOORS[library]))}")
        elif at_top and library in LAZY:
            wrong.append(f"{location}: {library} must be imported inside the function that needs it")
    assert not wrong


def run_python(code: str) -> tuple[str, float]:
    """Standard output of a new interpreter, and its run time in seconds."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return done.stdout, time.perf_counter() - start


def loaded_by(statement: str) -> set[str]:
    output, _ = run_python(f"import sys\n{statement}\nprint(*sorted(sys.modules))")
    return set(output.split())


def test_importing_the_package_loads_no_heavy_library():
    loaded = loaded_by("import sfm_lightglue")
    assert "sfm_lightglue" in loaded
    assert not {"torch", "open3d", "cv2", "pycolmap", "scipy", "numpy", "PIL"} & loaded


def test_a_reconstruction_with_sift_loads_neither_torch_nor_open3d():
    """The registry imports only the chosen components."""
    loaded = loaded_by(
        "import sfm_lightglue.reconstruction.run, sfm_lightglue.reconstruction.config as r\n"
        "import sfm_lightglue.registry as g\n"
        "g.EXTRACTORS.build(r.ReconstructConfig().extractor); g.MATCHERS.choose('nearest')"
    )
    assert "sfm_lightglue.extractors.sift" in loaded
    assert not {"torch", "open3d", "transformers"} & loaded


def test_the_command_loads_only_what_all_runs_need():
    """A run that finds all pairs in the store needs no network; SciPy's statistics take a quarter of a second."""
    loaded = loaded_by(
        "import pipelines.reconstruct\n"
        "from sfm_lightglue.matchers.lightglue import LightGlueMatcher\n"
        "matcher = LightGlueMatcher(device='cpu')\n"
        "assert matcher.batch_size == 1 and matcher.identity"
    )
    assert "sfm_lightglue.reconstruction.run" in loaded
    assert not {"torch", "scipy.stats", "open3d", "transformers"} & loaded


def test_loading_the_default_network_does_not_load_torchs_compiler():
    """Importing the compiler takes longer than the rest of matching two images."""
    loaded = loaded_by(
        "from sfm_lightglue.matchers.lightglue import LightGlueMatcher\n"
        "from sfm_lightglue.types import Features\n"
        "import numpy as np\n"
        "ones = np.ones(9, np.float32)\n"
        "keypoints = np.arange(18, dtype=np.float32).reshape(9, 2)\n"
        "features = Features(keypoints, ones, np.ones((9, 128), np.float32), (20, 20), ones, ones)\n"
        "LightGlueMatcher().match(features, features)"
    )
    of_the_pipeline = loaded_by("import sfm_lightglue\nsfm_lightglue.pipeline('keypoint-matching')")
    for one in (loaded, of_the_pipeline):
        assert "torch" in one
        assert not {"torch._dynamo", "torch._inductor", "sympy"} & one


def test_importing_the_package_is_fast():
    runs = [(run_python("pass")[1], run_python("import sfm_lightglue")[1]) for _ in range(5)]
    bare, package = (min(times) for times in zip(*runs, strict=True))
    assert package - bare < 0.3
