"""One line of a diagnosis."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether one thing works.

    Args:
        group: what it belongs to, such as "libraries".
        name: of the thing.
        state: "missing" is not there, "broken" is there and does not work.
        text: version, number or cause.
        mend: command or advice that mends it; "" if nothing has to be mended.
        exit_code: with which a reconstruction with the default options ends because of it; 0 if it does not.
    """

    group: str
    name: str
    state: State
    text: str
    mend: str = ""
    exit_code: int = 0

    @property
    def stops(self) -> bool:
        """Whether a reconstruction with the default options cannot work because of it."""
        return self.state != "ok" and self.exit_code != 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"stops": self.stops}
