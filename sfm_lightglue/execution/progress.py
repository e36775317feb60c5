"""How the library reports that work advances. It never prints; whoever calls decides what is shown."""

from typing import Protocol


class Progress(Protocol):
    """Called with the stage ("extract", "match", ...), how much is done and how much there is in all."""

    def __call__(self, stage: str, num_done: int, num_total: int) -> None:
        """Take note."""


def silent(stage: str, num_done: int, num_total: int) -> None:
    """The `Progress` that shows nothing."""
