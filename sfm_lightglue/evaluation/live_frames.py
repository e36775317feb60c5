"""The frames of a sequence as a camera gives them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.tracking.frame import Frame


class LiveFrames:
    """Frames that come at their times. Of those that come while the last one is tracked, only the newest is kept.

    All images are decoded before the first one comes, as a camera takes no time of the processor.

    Args:
        sequence: the frames.
    """

    def __init__(self, sequence: ImageSequence) -> None:
        self._sequence, self._images = sequence, list(sequence.images())
        self.taken: list[int] = []
        """Indices of the frames that were not dropped."""

    def __iter__(self) -> Iterator[Frame]:
        """The frames that are not dropped, numbered anew."""
        times_s = self._sequence.times_s - self._sequence.times_s[0]
        self.taken, following, start = [], 0, time.perf_counter()
        while following < len(times_s):
            time.sleep(max(0.0, float(times_s[following]) - (time.perf_counter() - start)))
            newest = int(np.searchsorted(times_s, time.perf_counter() - start, side="right")) - 1
            newest = max(newest, following)  # a clock may be coarse
            self.taken.append(newest)
            name, time_s = self._sequence.names[newest], float(self._sequence.times_s[newest])
            yield Frame(len(self.taken) - 1, name, time_s, self._images[newest])
            following = newest + 1
