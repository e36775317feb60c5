"""The interface for progress reports. The library never prints; the caller decides what to display."""

from typing import Protocol


class Progress(Protocol):
    """A function that is called whenever a stage advances."""

    def __call__(self, stage: str, num_done: int, num_total: int) -> None:
        """Display the progress of a stage.

        Args:
            stage: name of the stage, such as "extract" or "match".
            num_done: number of finished items.
            num_total: number of all items.
        """


def silent(stage: str, num_done: int, num_total: int) -> None:
    """A `Progress` that displays nothing."""
