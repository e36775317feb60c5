"""Find blocks of equal code lines that occur twice in a set of Python files."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

_COLLECTIONS = (ast.List, ast.Tuple, ast.Set, ast.Dict)


@dataclass(frozen=True, order=True)
class CodeLine:
    """One line of code.

    Args:
        file: name of the file.
        number: line number, from 1.
        text: the line without comments and without space at both ends.
    """

    file: str
    number: int
    text: str


@dataclass(frozen=True, order=True)
class RepeatedBlock:
    """A block of equal code lines at two locations.

    Args:
        num_lines: number of equal code lines.
        first: first line of the first location.
        second: first line of the second location.
    """

    num_lines: int
    first: CodeLine
    second: CodeLine

    def __str__(self) -> str:
        locations = " and ".join(f"{line.file}:{line.number}" for line in (self.first, self.second))
        return f"{self.num_lines} equal lines at {locations}"


def repeated_blocks(source_from_file: Mapping[str, str], min_lines: int) -> list[RepeatedBlock]:
    """Find equal, non-overlapping blocks of code, each at its maximum length.

    Imports, comments, docstrings, blank lines and data (multi-line literals of constants) are not code: they are left
    out before blocks are compared. Indentation is ignored.

    Args:
        source_from_file: Python source by name of the file.
        min_lines: minimum number of equal code lines.
    """
    lines_from_file = {file: code_lines(file, source) for file, source in source_from_file.items()}
    starts_from_block: defaultdict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for file, lines in lines_from_file.items():
        texts = [line.text for line in lines]
        for start in range(len(texts) - min_lines + 1):
            starts_from_block[tuple(texts[start : start + min_lines])].append((file, start))
    matching = {
        (first, second)
        for starts in starts_from_block.values()
        for first, second in combinations(starts, 2)
        if first[0] != second[0] or second[1] - first[1] >= min_lines
    }
    blocks = []
    for (file0, start0), (file1, start1) in matching:
        if ((file0, start0 - 1), (file1, start1 - 1)) in matching:
            continue  # not the beginning of the block
        num_windows = 1
        while ((file0, start0 + num_windows), (file1, start1 + num_windows)) in matching:
            num_windows += 1
        first, second = lines_from_file[file0][start0], lines_from_file[file1][start1]
        blocks.append(RepeatedBlock(min_lines + num_windows - 1, first, second))
    return sorted(blocks, reverse=True)


def code_lines(file: str, source: str) -> list[CodeLine]:
    """The lines of code of a Python file."""
    excluded = {number for node in _nodes_without_code(ast.parse(source)) for number in _line_numbers(node)}
    # The formatter puts two spaces before a comment that follows code.
    texts = (re.sub(r"(^\s*|  )#.*", "", text).strip() for text in source.splitlines())
    return [CodeLine(file, number, text) for number, text in enumerate(texts, 1) if text and number not in excluded]


def _nodes_without_code(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        is_import = isinstance(node, (ast.Import, ast.ImportFrom))
        is_docstring = (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
        if is_import or is_docstring or (isinstance(node, _COLLECTIONS) and _is_data(node)):
            yield node


def _line_numbers(node: ast.AST) -> Iterable[int]:
    start, end = node.lineno, node.end_lineno  # type: ignore[attr-defined]
    if isinstance(node, _COLLECTIONS) and start == end:
        return ()  # a literal within a line of code
    return range(start, end + 1)


def _is_data(node: ast.AST | None) -> bool:
    """Whether an expression is data: constants and names, and collections and calls of these."""
    if node is None or isinstance(node, (ast.Constant, ast.Name, ast.Attribute)):
        return True
    if isinstance(node, (ast.UnaryOp, ast.Starred)):
        return _is_data(node.operand if isinstance(node, ast.UnaryOp) else node.value)
    if isinstance(node, ast.BinOp):
        return _is_data(node.left) and _is_data(node.right)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return all(map(_is_data, node.elts))
    if isinstance(node, ast.Dict):
        return all(map(_is_data, [*node.keys, *node.values]))
    if isinstance(node, ast.Call):
        return all(map(_is_data, [node.func, *node.args, *(keyword.value for keyword in node.keywords)]))
    return False
