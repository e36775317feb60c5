"""Time the default LightGlue of two checkouts of this project on the same pairs, in turns.

Each checkout runs in a process of its own, on one thread, and gets each image once. `benchmarks/matching.py --other`
uses this module.
"""

from __future__ import annotations

import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the process of a checkout runs this file, too, and imports its own package
    from sfm_lightglue.types import Features, Matches


@dataclass(frozen=True, slots=True)
class TimedMatches:
    """Matches of a pair, and the seconds of processor time and of wall time that they took."""

    matches: Matches
    cpu_s: float
    wall_s: float


class CheckoutMatcher:
    """The default LightGlue of a checkout, in a process of its own; a context manager.

    Args:
        root: folder of the checkout.
        device: "cpu", "cuda", ...
        as_reconstruct: with the options that `reconstruct` gives it.
    """

    batch_size = 1

    def __init__(self, root: Path, device: str, as_reconstruct: bool = False) -> None:
        self._sent: dict[Features, int] = {}
        job = "reconstruct" if as_reconstruct else "match"
        command = [sys.executable, str(Path(__file__).resolve()), str(root.resolve()), device, job]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> CheckoutMatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes both pipes and waits

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches of a pair."""
        return self.timed(features0, features1).matches

    def match_batch(self, pairs: Iterable[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs, one by one."""
        return [self.match(*pair) for pair in pairs]

    def timed(self, features0: Features, features1: Features) -> TimedMatches:
        """Matches of a pair with their times."""
        from sfm_lightglue.types import Matches

        message = []
        for features in (features0, features1):
            if features not in self._sent:
                self._sent[features] = len(self._sent)
                values = {one.name: getattr(features, one.name) for one in fields(features) if one.init}
                message.append((self._sent[features], values))
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump((message, self._sent[features0], self._sent[features1]), self._process.stdin)
        self._process.stdin.flush()
        indices, scores, stop_layer, cpu_s, wall_s = pickle.load(self._process.stdout)
        return TimedMatches(Matches(indices, scores, stop_layer), cpu_s, wall_s)


def ratio_table(
    pairs_from_group: dict[str, list[tuple[Features, Features]]], this: CheckoutMatcher, other: CheckoutMatcher
) -> str:
    """A Markdown table: time of this checkout divided by that of the other one, and pairs with equal matches."""
    lines = [
        "",
        "| pairs | n | ms | ms of the other | ratio of processor time | of wall time | equal matches |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    everything: list[tuple[TimedMatches, TimedMatches]] = []
    for group, pairs in pairs_from_group.items():
        found: list[tuple[TimedMatches, TimedMatches]] = []
        for index, pair in enumerate(pairs):
            if index % 2:
                found.append((this.timed(*pair), other.timed(*pair)))
            else:
                of_other = other.timed(*pair)
                found.append((this.timed(*pair), of_other))
        lines.append(_ratio_line(group, found))
        everything += found
    return "\n".join([*lines, _ratio_line("all", everything)])


def _ratio_line(group: str, found: Sequence[tuple[TimedMatches, TimedMatches]]) -> str:
    """The line of the pairs of a group, with the matches of this checkout and of the other one."""
    num_equal = sum(this.matches.indices.tolist() == other.matches.indices.tolist() for this, other in found)
    ms = [1000 * statistics.median(pair[each].cpu_s for pair in found) for each in (0, 1)]
    cpu = sum(this.cpu_s for this, _ in found) / sum(other.cpu_s for _, other in found)
    wall = sum(this.wall_s for this, _ in found) / sum(other.wall_s for _, other in found)
    return f"| {group} | {len(found)} | {ms[0]:.1f} | {ms[1]:.1f} | {cpu:.2f} | {wall:.2f} | {num_equal} |"


def _serve(root: str, device: str, job: str) -> None:
    """Answers the messages of `CheckoutMatcher.timed` with the code of a checkout."""
    sys.path.insert(0, root)
    import torch
    from threadpoolctl import threadpool_limits

    import sfm_lightglue
    from sfm_lightglue.execution import threads
    from sfm_lightglue.matchers import lightglue
    from sfm_lightglue.reconstruction.config import ReconstructConfig
    from sfm_lightglue.types import Features as FeaturesOfCheckout

    if not str(sfm_lightglue.__file__).startswith(root):
        raise SystemExit(f"{root}: not a checkout of this project, {sfm_lightglue.__file__} was imported")
    for module in (threads, lightglue):
        module.num_usable_cores = lambda: 1  # type: ignore[attr-defined]
    config: Any = ReconstructConfig().matcher.config if job == "reconstruct" else None
    matcher = lightglue.LightGlueMatcher(config, device)
    images: dict[int, Any] = {}
    torch.set_num_threads(1)
    with threadpool_limits(1):
        while True:
            try:
                message, index0, index1 = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            images.update({index: FeaturesOfCheckout(**values) for index, values in message})
            cpu, wall = time.process_time(), time.perf_counter()
            found = matcher.match(images[index0], images[index1])
            times = time.process_time() - cpu, time.perf_counter() - wall
            pickle.dump((found.indices, found.scores, found.stop_layer, *times), sys.stdout.buffer)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
