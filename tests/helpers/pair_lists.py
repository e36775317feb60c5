"""Lists of pairs of the small scene, and the batches that match them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.match import main

NAMES = [f"view_0{i}.jpg" for i in range(4)]
"""Images of the small scene."""


def write_list(folder: Path, *lines: str) -> Path:
    path = folder / "pairs.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(pairs: Path, images: Path, *flags: object) -> int:
    return main(["--batch", str(pairs), "--images", str(images), "--matcher", "nearest", *map(str, flags)])


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
