"""Imports that are tried in a process of their own: a library may end it, and prints what it likes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MARK = "sfm_lightglue_child "
"""Begins the lines that are ours."""

_LIMIT_S = 180.0

_IMPORTS = """
import importlib, json, sys
def tell(**told):
    print(MARK + json.dumps(told), flush=True)
for name in sys.argv[1:]:
    tell(name=name, version="", error="begun")
    try:
        module = importlib.import_module(name)
        tell(name=name, version=str(getattr(module, "__version__", "")), error="")
    except BaseException as error:
        tell(name=name, version="", error=f"{type(error).__name__}: {error}")
"""

_TORCH = """
import json, sys
import torch
told = {
    "capability": torch.backends.cpu.get_cpu_capability(),
    "num_threads": torch.get_num_threads(),
    "cuda_build": torch.version.cuda or torch.version.hip or "",
    "cuda": [],
    "mps": bool(torch.backends.mps.is_available()),
}
if torch.cuda.is_available():
    for index in range(torch.cuda.device_count()):
        one = torch.cuda.get_device_properties(index)
        told["cuda"].append({"name": one.name, "memory_mb": one.total_memory // 2**20})
print(MARK + json.dumps(told), flush=True)
"""


_RENDER = """
import json
import numpy as np
import open3d.visualization.rendering as rendering
image = np.asarray(rendering.OffscreenRenderer(64, 48).render_to_image())
print(MARK + json.dumps({"shape": image.shape}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Imported:
    """How an import went.

    Args:
        version: of the module; "" if it has none, or could not be imported.
        error: why it could not be imported; "" if it was.
    """

    version: str
    error: str


def try_imports(names: Sequence[str]) -> dict[str, Imported]:
    """Import modules in a process of their own, in their order; another one goes on after a module that ends it.

    Args:
        names: of the modules.
    """
    found: dict[str, Imported] = {}
    while len(found) < len(names):
        left = [name for name in names if name not in found]
        lines, end = _run(_IMPORTS, left)
        for told in lines:
            found[told["name"]] = Imported(told["version"], told["error"])
        ended_at = [name for name, one in found.items() if one.error == "begun"]
        for name in ended_at:
            found[name] = Imported("", end)
        if not lines:  # not even the first import was begun
            return found | {name: Imported("", end) for name in left}
    return found


def ask_torch() -> Mapping[str, Any]:
    """What torch says of the machine; empty if it cannot be asked."""
    lines, _ = _run(_TORCH, ())
    return lines[-1] if lines else {}


def try_rendering() -> str:
    """Let Open3D render a picture; returns "" if it can, else how its process ended."""
    lines, end = _run(_RENDER, ())
    return "" if lines else end


def _run(code: str, arguments: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """The lines that a process told, and how it ended."""
    command = [sys.executable, "-c", f"MARK = {_MARK!r}\n{code}", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        told = error.stdout or b""  # bytes, whatever `text` is
        return _told(told if isinstance(told, str) else told.decode(errors="replace")), _too_slow()
    except OSError as error:
        return [], f"no process can be started ({error.strerror or error})"
    return _told(done.stdout), _how_ended(done.returncode, done.stderr)


def _told(output: str) -> list[dict[str, Any]]:
    """What the lines of ours say; a line without an end was cut off."""
    lines = output.splitlines(keepends=True)
    return [json.loads(line[len(_MARK) :]) for line in lines if line.startswith(_MARK) and line.endswith("\n")]


def _too_slow() -> str:
    return f"did not end within {_LIMIT_S:.0f} s"


def _how_ended(code: int, stderr: str) -> str:
    if code < 0:
        try:
            return f"the process was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"the process was ended by signal {-code}"
    last = stderr.strip().splitlines()[-1:] or ["no message"]
    return f"the process ended with code {code}: {last[0]}"
