"""Pictures of the result of an image pair."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.types import TwoViewGeometry

if TYPE_CHECKING:
    from PIL import Image as PilImage

    from sfm_lightglue.drawing.matches import PairCanvas
    from sfm_lightglue.image_pair.matching import ImagePairResult

logger = logging.getLogger(__name__)

Colouring = Literal["inliers", "score", "layers"]
"""What the colours of a picture show."""


@dataclass(frozen=True, slots=True)
class PictureConfig:
    """What a picture of matches shows.

    Raises:
        ConfigError: if a value is not valid.
    """

    colour: Colouring = "inliers"
    """"inliers": inliers in green over outliers in red. "score": matches from red, 0, to green, 1. "layers": keypoints
    by the last layer of the network that they went through, from dark, removed first, to bright; no matches."""

    outliers: bool = True
    """Whether matches that are no inliers are drawn."""

    epipolar_lines: int = 0
    """Number of inliers that are drawn with their epipolar lines in place of all matches; 0 draws the matches. A pair
    that was rejected, or is a pure rotation, has no such lines: its matches are drawn, with a warning."""

    height: int = 800
    """Height of the picture in pixels, at most."""

    max_lines: int = 400
    """Largest number of inliers, and of outliers, that are drawn."""

    def __post_init__(self) -> None:
        if self.colour not in get_args(Colouring):
            raise ConfigError(f"`colour` must be {', '.join(get_args(Colouring))}, got {self.colour!r}")
        if self.epipolar_lines < 0 or self.height < 1 or self.max_lines < 1:
            raise ConfigError("`epipolar_lines` must not be negative, `height` and `max_lines` must be positive")


def draw_pair(result: ImagePairResult, config: PictureConfig | None = None) -> PilImage.Image:
    """Draw the matches of two images side by side; without a geometry all are outliers.

    Args:
        result: of `match_images`.
        config: what is drawn.

    Returns:
        An RGB image.

    Raises:
        ConfigError: if layers are wanted that were not asked for when the images were matched.
    """
    from sfm_lightglue.drawing.matches import PairCanvas

    config = config or PictureConfig()
    pair = PairCanvas(result.images, config.height)
    if config.colour == "layers":
        _draw_layers(result, pair)
    geometry = result.geometry
    has_lines = isinstance(geometry, TwoViewGeometry) and geometry.kind != "pure_rotation"
    if config.epipolar_lines and not has_lines:
        what = "is a pure rotation" if isinstance(geometry, TwoViewGeometry) else "was rejected"
        logger.warning("the pair %s: it has no epipolar lines to draw", what)
    if config.epipolar_lines and has_lines:
        _draw_lines(result, pair, config.epipolar_lines)
    elif config.colour != "layers":
        _draw_matches(result, pair, config)
    return pair.canvas


def inlier_mask_of(result: ImagePairResult) -> BoolArray:
    """Which matches are inliers [M]; none without a geometry."""
    geometry = result.geometry
    return geometry.inlier_mask if isinstance(geometry, TwoViewGeometry) else np.zeros(len(result.matches), np.bool_)


def matched_keypoints_of(result: ImagePairResult) -> tuple[AnyArray, AnyArray]:
    """The keypoints of the matches [M, 2] in both images, in pixels of the stored image."""
    features, indices = result.features, result.matches.indices
    return features[0].keypoints[indices[:, 0]], features[1].keypoints[indices[:, 1]]


def _draw_matches(result: ImagePairResult, pair: PairCanvas, config: PictureConfig) -> None:
    from sfm_lightglue.drawing.match_styles import score_colours
    from sfm_lightglue.drawing.matches import INLIER_COLOUR, OUTLIER_COLOUR, evenly_chosen

    mask, (keypoints0, keypoints1) = inlier_mask_of(result), matched_keypoints_of(result)
    for rows, colour in ((~mask, OUTLIER_COLOUR), (mask, INLIER_COLOUR)):
        if colour == OUTLIER_COLOUR and not config.outliers:
            continue
        chosen = evenly_chosen(rows, config.max_lines)
        by_score = config.colour == "score"
        colours = score_colours(result.matches.scores[chosen]) if by_score else [colour] * len(chosen)
        pair.connect(keypoints0[chosen], keypoints1[chosen], colours)


def _draw_layers(result: ImagePairResult, pair: PairCanvas) -> None:
    from sfm_lightglue.drawing.match_styles import draw_layer_legend, draw_layers

    layers = result.layers
    if layers is None:
        raise ConfigError(
            "the layers of the keypoints are not known: match with `with_layers=True`, by a LightGlue, not guided"
        )
    for side, num_layers in enumerate((layers.num_layers0, layers.num_layers1)):
        draw_layers(pair, side, result.features[side].keypoints, num_layers, layers.stop_layer)
    draw_layer_legend(pair, layers.stop_layer, layers.network_layers)


def _draw_lines(result: ImagePairResult, pair: PairCanvas, number: int) -> None:
    from sfm_lightglue.drawing.match_styles import draw_epipolar_lines
    from sfm_lightglue.drawing.matches import evenly_chosen

    geometry = result.geometry
    assert isinstance(geometry, TwoViewGeometry), "checked by draw_pair"
    sizes = result.images[0].size, result.images[1].size
    chosen = evenly_chosen(geometry.inlier_mask, number)
    draw_epipolar_lines(pair, sizes, geometry.F, matched_keypoints_of(result), chosen)
