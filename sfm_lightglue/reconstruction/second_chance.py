"""A second look at a mapped scene: pairs for images that are left over, and pairs between models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.extractors.altered import AlteredExtractor, AlteredInPlace
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.images.alteration import ALTERATION_VERSION, Alteration
from sfm_lightglue.mapping.extend_pairs import Covisibility
from sfm_lightglue.mapping.joint_hypotheses import JOINT_HYPOTHESES_VERSION
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.merging_by_points import MERGING_VERSION, is_of_pieces
from sfm_lightglue.mapping.verdict import ImageVerdict
from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig
from sfm_lightglue.messages import shortened
from sfm_lightglue.reconstruction.components import Components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.hypothesis_pairs import HypothesisPairs
from sfm_lightglue.reconstruction.image_status import image_verdicts
from sfm_lightglue.reconstruction.piece_merging import PiecePairs, registered_names
from sfm_lightglue.reconstruction.thorough_pairs import thorough_matcher
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.registry.registry import Choice
from sfm_lightglue.retrieval.describe import describe_scene
from sfm_lightglue.scene.local_frame import positions_m_from_name
from sfm_lightglue.stages.added_pairs import AddedPairs
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.hard_pairs import ATTEMPT_FROM_TEXT, HARD_PAIRS_VERSION, HardMatchers, HardPairs
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.stages.second_chance import SECOND_CHANCE_VERSION, SecondChance
from sfm_lightglue.stages.thorough_chance import ThoroughChance
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Camera, ImagePair, Scene
from sfm_lightglue.weights.lookup import entry_of, locate_weights

logger = logging.getLogger(__name__)

_MORE_KEYPOINTS = 2
"""Factor on the largest number of keypoints."""

_OTHER_EXTRACTOR, _OTHER_WEIGHTS, _OTHER_MATCHER = "aliked", "aliked-n16", "nearest"
"""Tried if its weights are installed, without weights of a matcher."""

_COMPARABLE = {"sift"}
"""Extractors whose descriptors tell whether a point is found in the images of another model: the limits were measured
with these."""

_WITH_POSE = {"registered", "other_model"}

_HELPED = {"no_matches", "blurred", "not_connected", "kept_apart", "few_points"}
"""Reasons of images that are helped, and "contradicts" if only pairs did, which may have been wrong. The others were in
a model that their pairs contradict, or their camera did not move."""


@dataclass(frozen=True, eq=False, slots=True)
class SecondLook:
    """What a second look needs of a run.

    Args:
        config: of the run.
        features: of the scene.
        plan: which pairs may be matched.
        components: of the run.
        store: of the run.
        executor: works on several images at a time.
        progress: called as it advances.
    """

    config: ReconstructConfig
    features: SceneFeatures
    plan: PairPlan
    components: Components
    store: Store
    executor: Executor
    progress: Progress

    def find_thorough(
        self, judged: Sequence[JudgedModel], weighed: WeighedPairs, camera_from_name: Mapping[str, Camera]
    ) -> AddedPairs:
        """Verified pairs that may bring images into a model, by more matches of their ordinary keypoints.

        Nothing is extracted, and few pairs are matched; none if the ones of the scene were matched thoroughly.

        Args:
            judged: the models of the scene.
            weighed: its verified pairs.
            camera_from_name: intrinsics with which these were verified: those of groups of cameras, if there are any.
        """
        max_images = self.config.second_chance.max_images
        matcher = thorough_matcher(self.config, self.components.matcher, self.store)
        registered = _registered(judged)
        if max_images == 0 or not registered or matcher is None:
            return AddedPairs()
        left = left_over(self.features, judged, weighed)[:max_images]
        verifier = CachedVerifier(self.config.two_view, self.config.seed, self.store)
        of_scene = self.features, camera_from_name, matcher, verifier, self.store, self.plan
        pairs = _inliers(weighed), {*weighed.contradicted, *weighed.apart}
        return ThoroughChance(*of_scene, *pairs, self.executor, self.progress).help(left, registered)

    def find(
        self,
        judged: Sequence[JudgedModel],
        weighed: WeighedPairs,
        camera_from_name: Mapping[str, Camera],
        distrusted: frozenset[ImagePair] = frozenset(),
    ) -> AddedPairs:
        """Verified pairs that may bring images into a model, or models together; nothing is done if none can.

        Args:
            judged: the models of the scene.
            weighed: its verified pairs.
            camera_from_name: intrinsics with which these were verified: those of groups of cameras, if there are any.
            distrusted: pairs that joined places that look alike in a model, also those that take part again.
        """
        options = self.config.second_chance
        published = [each for each in judged if each.verdict.outcome != "rejected"]
        left = left_over(self.features, judged, weighed) if options.max_images > 0 else []
        asks_between = len(published) > 1 and options.max_pairs_between > 0
        if not published or not (left or asks_between):
            return AddedPairs()
        verified = {*weighed.kept, *weighed.contradicted, *weighed.apart}
        similar = describe_scene(self.features, self.store, self.executor, self.progress)
        hard = self._hard_pairs()
        added = AddedPairs()
        if left:
            arguments = hard, similar, self.plan, _inliers(weighed), _shared(published), options
            added = SecondChance(*arguments, self.executor, self.progress).help(left, _registered(judged))
        if asks_between:
            positions = positions_m_from_name(self.features.decoded_images)
            limits = verified, weighed.apart, positions, options.max_pairs_between
            between = PiecePairs(hard, similar, self.plan, *limits, self.executor)
            added = added.joined(between.find(published))
        is_known = self.config.extractor.name in _COMPARABLE
        if asks_between and self.config.lookalikes.mode == "auto" and is_known:
            left_out = {ImagePair.from_names(*names) for each in judged for names in each.verdict.left_out}
            with_groups = replace(hard, camera_from_name=camera_from_name)
            found = HypothesisPairs(with_groups, weighed, distrusted | left_out, self.config.seed).find(published)
            added = added.joined(found)
        return added

    def use(self, added: AddedPairs) -> None:
        """Use the features that replace the ordinary ones of images, in the features of the scene.

        Raises:
            DataError: if an image can no longer be read.
        """
        if added.altered:
            hard = self._hard_pairs()
            for name, text in sorted(added.altered.items()):
                if name in self.features:
                    self.features.alter(name, hard.replacing(ATTEMPT_FROM_TEXT[text]))

    def _hard_pairs(self) -> HardPairs:
        config, store = self.config, self.store

        @cache
        def extractor_of(alteration: Alteration | None, has_more_keypoints: bool) -> CachedExtractor:
            extractor = self.components.extractor
            if has_more_keypoints:
                extractor = EXTRACTORS.build(_with_more_keypoints(config.extractor), config.device)
            if alteration is not None:
                is_turned = alteration.angle_deg != 0
                extractor = (AlteredExtractor if is_turned else AlteredInPlace)(extractor, alteration)
            return CachedExtractor(extractor, store)

        thorough = config.matcher
        if isinstance(thorough.config, LightGlueMatcherConfig):
            thorough = Choice(thorough.name, replace(thorough.config, first_keypoints=0))
        quick = CachedMatcher(self.components.matcher, store)
        matchers = HardMatchers(quick, CachedMatcher(MATCHERS.build(thorough, config.device), store))
        other = _other_extractor(config)
        if other is not None:
            nearest = CachedMatcher(MATCHERS.build(MATCHERS.choose(_OTHER_MATCHER)), store)
            matchers = replace(matchers, other=nearest, other_extractor=CachedExtractor(other, store))
        camera_from_name = {image.name: image.camera for image in self.features.decoded_images}
        verifier = CachedVerifier(config.two_view, config.seed, store)
        return HardPairs(self.features, camera_from_name, extractor_of, matchers, verifier)


def _registered(judged: Sequence[JudgedModel]) -> list[str]:
    """The images of published models, sorted."""
    published = [each for each in judged if each.verdict.outcome != "rejected"]
    return sorted({name for each in published for name in registered_names(each)})


def _inliers(weighed: WeighedPairs) -> dict[ImagePair, int]:
    """Numbers of inliers of the pairs that take part in mapping."""
    return {pair: record.num_inliers for pair, record in weighed.kept.items()}


def _other_extractor(config: ReconstructConfig) -> Extractor | None:
    """The other extractor, if its weights are installed: nothing is downloaded for a second chance."""
    choice = EXTRACTORS.choose(_OTHER_EXTRACTOR)
    if config.extractor.name == choice.name or locate_weights(entry_of(_OTHER_WEIGHTS)) is None:
        return None
    return EXTRACTORS.build(choice, config.device)


def second_look_identity(config: ReconstructConfig, scene: Scene) -> list[object]:
    """What models depend on because of a second look, for their keys."""
    versions = [
        HARD_PAIRS_VERSION,
        SECOND_CHANCE_VERSION,
        MERGING_VERSION,
        ALTERATION_VERSION,
        JOINT_HYPOTHESES_VERSION,
    ]
    options = config.second_chance
    other = _other_extractor(config) if options.max_images > 0 else None
    asks = options.max_images > 0 or options.max_pairs_between > 0
    positions = [(image.gps_position, image.xyz_m) for image in scene.images] if asks else []
    return [options, versions, other and other.identity, positions]


def _with_more_keypoints(extractor: Choice) -> Choice:
    """An extractor with a higher limit of keypoints, if it has one."""
    if "max_keypoints" not in {field.name for field in fields(extractor.config)}:
        return extractor
    return Choice(
        extractor.name, replace(extractor.config, max_keypoints=_MORE_KEYPOINTS * extractor.config.max_keypoints)
    )


def left_over(features: SceneFeatures, judged: Sequence[JudgedModel], weighed: WeighedPairs) -> list[str]:
    """Names of the images that no published model has and that may be helped, sorted.

    Where twins match as completely as one place does, more matches of an image that was kept apart say nothing.
    """
    is_apart = {name for pair in (weighed.apart if weighed.has_twins else ()) for name in (pair.name0, pair.name1)}
    num_keypoints = {name: features.num_keypoints_from_name[name] for name in features}
    verdicts = image_verdicts(num_keypoints, judged, weighed)
    return sorted(
        name
        for name, verdict in verdicts.items()
        if name not in is_apart
        and (verdict.reason in _HELPED or (verdict.reason == "contradicts" and verdict.status == "left_out"))
    )


def _shared(published: Sequence[JudgedModel]) -> Callable[[str], dict[str, int]]:
    """Numbers of points that a registered image shares with others of its largest model, by name."""
    models = [(registered_names(each), Covisibility(each.model)) for each in published]

    def shared(name: str) -> dict[str, int]:
        return next((model.shared(name) for names, model in models if name in names), {})

    return shared


def with_tried(images: Mapping[str, ImageVerdict], added: AddedPairs) -> dict[str, ImageVerdict]:
    """The verdicts of images with what was tried for those that were left over.

    Args:
        images: by name.
        added: of the second look.
    """
    return {name: replace(image, tried=added.tried.get(name, ())) for name, image in images.items()}


def tell_second_look(added: AddedPairs, images: Mapping[str, ImageVerdict], judged: Sequence[JudgedModel]) -> None:
    """Tell which models were merged, which images have no pose after a second chance, and what was tried.

    Args:
        added: of the second look.
        images: verdicts by name.
        judged: the models.
    """
    published = [each.verdict for each in judged if each.verdict.outcome != "rejected"]
    of_pieces = [note for verdict in published for note in verdict.notes if is_of_pieces(note)]
    for note in dict.fromkeys([*added.notes, *of_pieces]):
        logger.warning("%s", note)
    names = [name for name, image in sorted(images.items()) if image.tried and image.status not in _WITH_POSE]
    helped = [name for name, image in sorted(images.items()) if image.tried and image.status in _WITH_POSE]
    if helped:
        logger.info("registered after a second chance: %s", shortened(helped, 3))
    if names:
        tried = ", ".join(dict.fromkeys(text for name in names for text in images[name].tried))
        logger.warning("not registered, also after a second chance: %s; tried: %s", shortened(names, 3), tried)
