"""Limits on the structure of the code: sizes of files, private names, repeated blocks, length of the README."""

import ast
import functools
import subprocess
from pathlib import Path

from tests.helpers.checkout import ROOT
from tests.helpers.repeated_code import code_lines, repeated_blocks

MAX_ROOT_MODULES = 9
"""Maximum number of modules directly in sfm_lightglue, without `__init__`."""

MAX_FILE_LINES = 400

MAX_EQUAL_LINES = 10
"""Maximum length of a block of equal code lines that occurs twice."""


@functools.cache
def python_files() -> dict[str, str]:
    """The source of all Python files of the checkout, by path relative to it."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py"]
    found = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    names = found.stdout.split("\0") if found.returncode == 0 else _files_without_git()
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names if name and (ROOT / name).is_file()}


def _files_without_git() -> list[str]:
    """In an sdist: all Python files outside of hidden folders."""
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]


def test_all_python_files_are_found():
    names = python_files().keys()
    assert {"sfm_lightglue/types.py", "tests/test_structure.py", "benchmarks/matching.py"} <= names


def test_the_root_of_the_library_has_few_modules():
    modules = {path.stem for path in (ROOT / "sfm_lightglue").glob("*.py")} - {"__init__"}
    assert "types" in modules
    assert len(modules) <= MAX_ROOT_MODULES, sorted(modules)


def test_no_python_file_is_too_long():
    num_lines = {name: source.count("\n") for name, source in python_files().items()}
    assert not {name: number for name, number in num_lines.items() if number > MAX_FILE_LINES}


def test_no_private_name_is_imported_from_another_module():
    wrong = [
        f"{name}:{node.lineno}: {alias.name} of {node.module}"
        for name, source in python_files().items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
        if is_private(alias.name)
    ]
    assert not wrong


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_long_block_of_code_occurs_twice():
    found = repeated_blocks(python_files(), MAX_EQUAL_LINES + 1)
    assert not found, "\n".join(map(str, found))


def test_repeated_blocks_are_found_at_their_full_length():
    block = [f"x = f(x, {number})" for number in range(12)]
    first = "\n".join(["def one(x):", *(f"    {line}" for line in block), "    return x"])
    second = "\n".join(["import os", "", "x = 0", *block[:5], "", "# a comment", *block[5:], "print(x, os)"])
    (found,) = repeated_blocks({"a.py": first, "b.py": second}, 11)
    assert str(found) == "12 equal lines at a.py:2 and b.py:4"
    assert repeated_blocks({"a.py": first, "b.py": second}, 13) == []
    (within,) = repeated_blocks({"a.py": f"{first}\n\n{first}"}, 11)
    assert within.num_lines == 14
    assert repeated_blocks({"a.py": "\n".join(["x += 1"] * 21)}, 11) == []


def test_imports_comments_docstrings_and_data_are_not_code():
    source = '''"""A docstring
of two lines."""
import os
from a import (
    b,
)

TABLE = {
    "a": Entry("x", y=1),
    "b": (2, -3),
}
# a comment
def f(x):
    """A docstring."""
    y = [x + 1, (2, 3)]  # a comment
    return {
        key: value for key, value in y
    }
'''
    texts = [line.text for line in code_lines("a.py", source)]
    assert texts == ["def f(x):", "y = [x + 1, (2, 3)]", "return {", "key: value for key, value in y", "}"]


def test_the_readme_is_short():
    lines = Path(ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 200
