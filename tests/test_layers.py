"""The house rules on imports: they point one way, and each third-party library has one door."""

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
    {"geometry", "images", "execution", "config"},
    {"types"},
    {"store"},
    {"weights", "scene", "synthetic"},
    {"models", "two_view", "colmap"},
    {"extractors", "matchers", "mapping", "pairs"},
    {"registry", "stages", "training", "huggingface", "testing"},
    {"reconstruction"},
    {"image_pair"},
    {"evaluation", "viewer", "sfm_lightglue"},
    {"datasets"},
    {"pipelines"},
)
"""From the ground up: a room imports from the layers below its own and from itself, never from a neighbour."""

DOORS = {
    "torch": {
        "models",
        "weights.state_dict",
        "weights.strict",
        "execution.devices",
        "extractors",
        "matchers",
        "training",
        "huggingface",
    },
    "safetensors": {"weights", "training"},
    "cv2": {"images", "extractors.sift", "two_view", "training", "synthetic"},
    "pycolmap": {"colmap", "mapping", "scene.cameras"},
    "open3d": {"viewer"},
    "PIL": {
        "images",
        "huggingface",
        "synthetic",
        "testing",
        "training",
        "viewer",
        "datasets",
        "evaluation.depth",
    },
    "scipy": {"two_view", "training", "viewer"},
    "pytest": {"testing"},
    "threadpoolctl": {"execution.devices"},
    "tqdm": {"pipelines"},
    "poselib": {"two_view.estimators"},
}
"""A room, or one module of a room, through which a library may come in."""

LAZY = {"open3d", "poselib", "tqdm"}
"""Imported within functions only."""


def source_files() -> list[Path]:
    return sorted(path for top in ("sfm_lightglue", "datasets", "pipelines") for path in (ROOT / top).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[tuple[str, int, bool]]:
    """Imported modules with line and whether at the top level; imports for type checkers only do not count."""
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
            # `from package import name` may mean a module: the longer name is the one that tells the room.
            names = [
                f"{node.module}.{alias.name}" if is_module(f"{node.module}.{alias.name}") else str(node.module)
                for alias in node.names
            ]
        else:
            continue
        for name in names:
            yield name, node.lineno, id(node) not in within_functions


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "sfm_lightglue" and len(parts) > 1 else parts[0]


def layer_of(room: str) -> int:
    found = [index for index, rooms in enumerate(LAYERS) if room in rooms]
    assert found, f"{room} has no place in LAYERS: give it one, and mention it in the design"
    return found[0]


def test_there_is_something_to_look_at():
    modules = {module_of(path) for path in source_files()}
    assert {"sfm_lightglue.reconstruction.run", "sfm_lightglue.extractors.sift"} <= modules


@pytest.mark.parametrize("path", source_files(), ids=module_of)
def test_imports_point_one_way(path):
    room = room_of(module_of(path))
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {room} imports {name}"
        for name, line, _ in imports_of(path)
        if name.split(".")[0] in {"sfm_lightglue", "datasets", "pipelines"}
        and room_of(name) != room
        and layer_of(room_of(name)) >= layer_of(room)
    ]
    assert not wrong


@pytest.mark.parametrize("path", source_files(), ids=module_of)
def test_each_library_has_one_door(path):
    module = module_of(path).removeprefix("sfm_lightglue.")
    wrong = []
    for name, line, at_top in imports_of(path):
        library = name.split(".")[0]
        if library in sys.stdlib_module_names or library in {"numpy", "sfm_lightglue", "datasets", "pipelines"}:
            continue
        place = f"{path.relative_to(ROOT)}:{line}"
        doors = DOORS.get(library)
        if doors is None:
            wrong.append(f"{place}: {library} is no dependency")
        elif not any(module == door or module.startswith(f"{door}.") for door in doors):
            wrong.append(f"{place}: {library} comes in beside its door ({', '.join(sorted(doors))})")
        elif library in LAZY and at_top:
            wrong.append(f"{place}: {library} must be imported within the function that needs it")
    assert not wrong


def run_python(code: str) -> tuple[str, float]:
    """Standard output of a fresh interpreter, and the seconds that it took."""
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


def test_the_main_job_loads_neither_torch_nor_open3d():
    """A run with SIFT waits for no network library; the registry imports what is chosen, when it is built."""
    loaded = loaded_by(
        "import sfm_lightglue.reconstruction.run, sfm_lightglue.reconstruction.config as r\n"
        "import sfm_lightglue.registry as g\n"
        "g.EXTRACTORS.build(r.ReconstructConfig().extractor); g.MATCHERS.choose('nearest')"
    )
    assert "sfm_lightglue.extractors.sift" in loaded
    assert not {"torch", "open3d", "transformers"} & loaded


def test_loading_the_default_network_does_not_load_torchs_compiler():
    """Its imports take longer than the rest of a match of two photos."""
    loaded = loaded_by(
        "from sfm_lightglue.matchers.lightglue import LightGlueMatcher\n"
        "from sfm_lightglue.types import Features\n"
        "import numpy as np\n"
        "ones = np.ones(9, np.float32)\n"
        "places = np.arange(18, dtype=np.float32).reshape(9, 2)\n"
        "features = Features(places, ones, np.ones((9, 128), np.float32), (20, 20), ones, ones)\n"
        "LightGlueMatcher().match(features, features)"
    )
    of_the_pipeline = loaded_by("import sfm_lightglue\nsfm_lightglue.pipeline('keypoint-matching')")
    for one in (loaded, of_the_pipeline):
        assert "torch" in one
        assert not {"torch._dynamo", "torch._inductor", "sympy"} & one


def test_importing_the_package_is_quick():
    runs = [(run_python("pass")[1], run_python("import sfm_lightglue")[1]) for _ in range(5)]
    bare, package = (min(times) for times in zip(*runs, strict=True))
    assert package - bare < 0.3
