"""How the views of training scenes are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.synthetic.photo_scenes.scene_layouts import SCENE_LAYOUTS


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """How the views of a scene are made."""

    num_views: int = 5
    """Number of views of a scene; n views make up to n (n - 1) / 2 pairs."""

    image_size: tuple[int, int] = (640, 480)
    """(width, height) in pixels of images in landscape format; some are in portrait format or less high."""

    portrait_share: float = 0.2
    """Fraction of scenes in portrait format."""

    layout_shares: tuple[float, ...] = (0.22, 0.36, 0.12, 0.08, 0.08, 0.14)
    """Relative frequency of each of `SCENE_LAYOUTS`: street, room, table, layers, hills, wall."""

    num_photos: int = 6
    """Number of photographs for the textures of a scene."""

    max_zoom: float = 4.0
    """Largest ratio of two focal lengths (in pixels) in a scene."""

    roll_share: float = 0.15
    """Fraction of scenes whose cameras roll by any angle; in an equal fraction they roll by up to 40 degrees."""

    hardness: float = 1.0
    """Strength of the augmentation by light, blur, noise and JPEG, from 0 (almost none) to 1."""

    min_overlap: float = 0.12
    """Smallest overlap with the first camera; cameras with less are drawn again, a few times."""

    easy_share: float = 0.35
    """Fraction of scenes without upper limit of the overlap."""

    def __post_init__(self) -> None:
        if self.num_views < 1 or self.num_photos < 1 or min(self.image_size) < 64:
            raise ConfigError("views: num_views and num_photos must be at least 1, image_size at least 64 x 64 pixels")
        if len(self.layout_shares) != len(SCENE_LAYOUTS) or min(self.layout_shares) < 0 or sum(self.layout_shares) <= 0:
            raise ConfigError(
                f"views: layout_shares must be {len(SCENE_LAYOUTS)} numbers that are not negative, with a positive sum"
            )
        if not (self.max_zoom >= 1 and 0 <= self.hardness <= 1):
            raise ConfigError("views: max_zoom must be at least 1, hardness between 0 and 1")
