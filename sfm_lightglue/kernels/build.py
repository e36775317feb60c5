"""Compile the kernels: `python -m sfm_lightglue.kernels.build`.

The build of the package does it too, and loads this file alone; so it imports nothing else of the package. The kernels
need a C compiler, but no headers of Python, and one library serves all versions of Python.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

LIBRARY = FOLDER / ("kernels.dll" if sys.platform == "win32" else "kernels.so")

FUNCTIONS = (
    "best_positions",
    "blur_and_find",
    "describe_blobs",
    "double_size",
    "find_extrema",
    "find_in_front",
    "find_orientations",
    "fit_poses",
    "refine_extrema",
    "sampson_errors",
    "search_bands",
    "squared_errors",
)
"""The kernels of the library, which also tells the digest of its sources."""

_FLAGS = (
    "-std=gnu99",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-fPIC",
)
_FLAGS_OF_MSVC = ("/O2", "/fp:precise")


class KernelBuildError(RuntimeError):
    """The kernels cannot be compiled; the message says why."""


def source_digest() -> str:
    """Digest of the C sources; the compiled library contains that of its own."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.[ch]")):
        # Git may change the ends of lines.
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:32]


def compile_kernels() -> Path:
    """Compile the library, next to its sources, and replace an older one.

    Raises:
        KernelBuildError: without setuptools or a C compiler, if it fails, or if the folder cannot be written.
    """
    try:
        from distutils.ccompiler import new_compiler
        from distutils.errors import CCompilerError, DistutilsError
        from distutils.sysconfig import customize_compiler

        import setuptools  # noqa: F401  it brings distutils for Python 3.12 and later
    except ImportError as error:
        raise KernelBuildError(f"the compiled kernels need setuptools to be built: {error}") from error
    try:
        with tempfile.TemporaryDirectory(dir=FOLDER, prefix=".build-") as folder:
            compiler = new_compiler()
            customize_compiler(compiler)
            is_msvc = compiler.compiler_type == "msvc"
            objects = compiler.compile(
                [str(path) for path in sorted(FOLDER.glob("*.c"))],
                output_dir=folder,
                macros=[("SOURCE_DIGEST", f'"{source_digest()}"')],
                include_dirs=[str(FOLDER)],
                extra_postargs=list(_FLAGS_OF_MSVC if is_msvc else _FLAGS),
            )
            built = Path(folder) / LIBRARY.name
            compiler.link_shared_object(
                objects,
                str(built),
                libraries=None if os.name == "nt" else ["m"],
                export_symbols=[*FUNCTIONS, "source_digest"],
            )
            os.replace(built, LIBRARY)  # a running program keeps the old one
    except (CCompilerError, DistutilsError, OSError) as error:
        raise KernelBuildError(f"the kernels cannot be compiled: {error}") from error
    return LIBRARY


def platform_tag() -> str:
    """The platform of a wheel with the library."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def main() -> int:
    """Compile and say where the library is."""
    try:
        print(compile_kernels())
    except KernelBuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
