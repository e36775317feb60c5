"""What every pair selector is, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.types import Features, ImagePair, Scene

if TYPE_CHECKING:
    import pycolmap

    from sfm_lightglue.store.store import Store


@dataclass(frozen=True, eq=False, slots=True)
class PairContext:
    """What is known of a scene when its pairs are selected.

    Args:
        scene: the images.
        features: by name of image; each is read when it is looked up, so that a selector which needs none costs
            nothing. Images that could not be decoded are missing.
        store: keeps what a selector computes, such as descriptors of whole images; None if nothing is kept.
        model: an existing model of the scene; None if there is none.
        progress: called as a long selection advances.
        executor: computes what a selector needs of many images.
    """

    scene: Scene
    features: Mapping[str, Features] = field(default_factory=dict)
    store: Store | None = None
    model: pycolmap.Reconstruction | None = None
    progress: Progress = silent
    executor: Executor = SERIAL


class PairSelector(Protocol):
    """Chooses the pairs of images that are worth matching."""

    def check(self, scene: Scene) -> None:
        """Find errors in the selector's input before features are extracted, which may take hours.

        Raises:
            DataError: if `select` would fail for this scene.
        """

    def select(self, context: PairContext) -> Sequence[ImagePair]:
        """The pairs, sorted, without repetition; called after the features were extracted.

        A selector of very many pairs returns a sequence that makes each pair when it is asked for, such as `AllPairs`
        or `IndexedPairs`.

        Raises:
            DataError: if the selector's input cannot be used for this scene.
        """


@runtime_checkable
class CountsPairs(Protocol):
    """What a `PairSelector` may have too: the number of pairs before the features are extracted."""

    def num_pairs(self, scene: Scene) -> int:
        """The number of pairs that `select` will return, or an upper bound; cheap."""


@runtime_checkable
class SelectsEarly(Protocol):
    """What a `PairSelector` may have too: whether it can select before the features are extracted.

    Its pairs can then be matched while other images are extracted. Selectors without this method need features.
    """

    def needs_features(self, scene: Scene) -> bool:
        """Whether `select` looks at the features of this scene; cheap."""


def needs_features(selector: PairSelector, scene: Scene) -> bool:
    """Whether a selector can select the pairs of a scene only after its features were extracted."""
    return not isinstance(selector, SelectsEarly) or selector.needs_features(scene)


@runtime_checkable
class ExplainsChoice(Protocol):
    """What a `PairSelector` may have too: why it chose these pairs."""

    @property
    def explanation(self) -> str:
        """One line for the user, after `select`; "" before it, or if there is nothing to say."""


@runtime_checkable
class ExcludesPairs(Protocol):
    """What a `PairSelector` may have too: pairs that the user does not want, whatever suggests them."""

    def excluded(self, scene: Scene) -> Sequence[ImagePair]:
        """The pairs, sorted, without repetition; also those that `select` would not have chosen.

        Raises:
            DataError: if the list of them cannot be used for this scene.
        """
