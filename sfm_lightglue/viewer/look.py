"""What is drawn and how, and the keys that change it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sfm_lightglue.errors import ConfigError

COLORINGS = ("photo", "error", "length", "height", "model")
"""Colours of the points: of the images; by reprojection error; by track length; by height; by model."""

BACKGROUNDS = {"dark": (0.07, 0.08, 0.10), "light": (0.96, 0.96, 0.95)}
"""Red, green, blue in 0 to 1."""

MIN_POINT_FACTOR, MAX_POINT_FACTOR = 0.25, 8.0
POINT_STEP = 1.25

MAX_MODELS = 9
"""Models that have a key."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is drawn and how.

    Raises:
        ConfigError: if a name is unknown, or the size of points is not in its range.
    """

    coloring: str = "photo"
    """Colours of the points, one of `COLORINGS`."""

    background: str = "dark"
    """`dark` or `light`."""

    point_factor: float = 1.0
    """Size of the points, as a multiple of the one that is chosen by their number."""

    sizes_by_distance: bool = True
    """Near points are drawn larger than far ones."""

    cameras: bool = True
    """Whether frusta are drawn."""

    thumbnails: bool = True
    """Whether the nearest frusta have their photos."""

    path: bool = True
    """Whether the trajectory of a sequence is drawn."""

    errors: bool = True
    """Whether the lines between two compared models are drawn."""

    axes: bool = False
    """Whether the axes of the model are drawn: x red, y green, z blue."""

    help: bool = True
    """Whether the list of keys is shown."""

    hidden_models: frozenset[int] = frozenset()
    """Numbers of the models that are not drawn."""

    def __post_init__(self) -> None:
        if self.coloring not in COLORINGS:
            raise ConfigError(f"colour {self.coloring!r} is unknown; choose one of {', '.join(COLORINGS)}")
        if self.background not in BACKGROUNDS:
            raise ConfigError(f"background {self.background!r} is unknown; choose one of {', '.join(BACKGROUNDS)}")
        if not MIN_POINT_FACTOR <= self.point_factor <= MAX_POINT_FACTOR:
            raise ConfigError(
                f"point size {self.point_factor:g}: expected {MIN_POINT_FACTOR:g} to {MAX_POINT_FACTOR:g}, a multiple"
                " of the usual size"
            )


_TOGGLES = {
    "D": "sizes_by_distance",
    "F": "cameras",
    "I": "thumbnails",
    "T": "path",
    "E": "errors",
    "A": "axes",
    "H": "help",
}
"""Fields of `Look` that a key turns on and off."""

VIEW_KEYS = ("R", "U", "N", "P", "V", "X", "S", "Q")
"""Keys that change the viewpoint, what is picked, or the window."""


def after_key(look: Look, key: str, num_models: int = 1) -> Look:
    """The look after a key was pressed; the same one for a key that changes nothing of it.

    Args:
        look: before.
        key: an upper-case letter, a digit, "+" or "-".
        num_models: number of models that are shown.
    """
    if key in _TOGGLES:
        changes: dict[str, Any] = {_TOGGLES[key]: not getattr(look, _TOGGLES[key])}
        return replace(look, **changes)
    if key == "C":
        choices = [name for name in COLORINGS if name != "model" or num_models > 1]
        place = choices.index(look.coloring) if look.coloring in choices else -1
        return replace(look, coloring=choices[(place + 1) % len(choices)])
    if key == "B":
        return replace(look, background="light" if look.background == "dark" else "dark")
    if key in {"+", "-"}:
        factor = look.point_factor * (POINT_STEP if key == "+" else 1 / POINT_STEP)
        return replace(look, point_factor=min(max(factor, MIN_POINT_FACTOR), MAX_POINT_FACTOR))
    if key.isdecimal() and 1 <= int(key) <= min(num_models, MAX_MODELS) and num_models > 1:
        return replace(look, hidden_models=look.hidden_models ^ {int(key) - 1})
    return look


def key_lines(look: Look, num_models: int, has_path: bool, has_errors: bool) -> list[tuple[str, str]]:
    """The keys and what they do, as they are listed on the screen.

    Args:
        look: its present values are named.
        num_models: number of models that are shown.
        has_path: whether there is a trajectory.
        has_errors: whether two models are compared.
    """

    def state(is_on: bool) -> str:
        return "on" if is_on else "off"

    lines = [
        ("click", "a camera: its photo; a point: its track"),
        ("drag", "turn; with ctrl or the right button: shift"),
        ("wheel", "zoom"),
        ("c", f"colours of points: {look.coloring}"),
        ("+ -", f"size of points: {look.point_factor:.2g}"),
        ("d", f"near points larger: {state(look.sizes_by_distance)}"),
        ("f", f"cameras: {state(look.cameras)}"),
        ("i", f"photos in the nearest cameras: {state(look.thumbnails)}"),
    ]
    if has_path:
        lines.append(("t", f"trajectory: {state(look.path)}"))
    if has_errors:
        lines.append(("e", f"errors between the models: {state(look.errors)}"))
    if num_models > 1:
        lines.append((f"1 .. {min(num_models, MAX_MODELS)}", "show or hide a model"))
    return [
        *lines,
        ("a", f"axes (x red, y green, z blue): {state(look.axes)}"),
        ("b", f"background: {look.background}"),
        ("n p", "next, previous camera"),
        ("v", "look through the chosen camera"),
        ("x", "close the picture"),
        ("u", "another axis is up"),
        ("r", "first view"),
        ("s", "save a picture"),
        ("h", "hide or show this list"),
        ("q", "close"),
    ]
