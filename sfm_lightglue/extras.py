"""What is optional, and the one spelling of how to install it."""

from __future__ import annotations

from typing import Literal

Extra = Literal["poselib", "viewer"]
"""An extra of pyproject.toml that a message may name."""


def install_hint(extra: Extra) -> str:
    """The command that installs an extra; with quotes, because zsh takes bare brackets for a pattern."""
    return f'pip install "sfm-lightglue[{extra}]"'
