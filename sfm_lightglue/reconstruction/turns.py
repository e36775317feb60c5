"""Images that match no other one unless they are turned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfm_lightglue.retrieval.describe import describe_scene
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.turned_images import TurnedImages, most_turned
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.store.store import make_key

if TYPE_CHECKING:
    from sfm_lightglue.reconstruction.job import Job


def turns_key(job: Job) -> str:
    """Key of the turns of a job in the store."""
    return make_key("turns", job.keys.mapped)


def find_turns(job: Job, weighed: WeighedPairs) -> dict[str, int]:
    """Quarter turns of the images without a verified pair that EXIF does not turn, if they match others so.

    Args:
        job: the run.
        weighed: the verified pairs of the images as they are.
    """
    verified = {*weighed.kept, *weighed.contradicted, *weighed.apart}
    matched = {name for pair in verified for name in (pair.name0, pair.name1)}
    alone = [one.name for one in job.features.decoded_images if one.name not in matched and one.quarter_turns == 0]
    if not matched or not 0 < len(alone) <= most_turned(len(job.features)):
        return {}
    matcher = CachedMatcher(job.components.matcher, job.store)
    verifier = CachedVerifier(job.config.two_view, job.config.seed, job.store)
    camera_from_name = {image.name: image.camera for image in job.features.decoded_images}
    with job.clock.stage("match"):
        similar = describe_scene(job.features, job.store, job.executor, job.progress)
        turned = TurnedImages(job.features, camera_from_name, matcher, verifier, job.executor)
        return turned.find(alone, similar, job.plan)
