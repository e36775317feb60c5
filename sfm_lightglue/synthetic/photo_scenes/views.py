"""Views of training scenes: images and exact depths of scenes that are textured with photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.synthetic.photo_scenes.augmentation import draw_photometry, photographed, random_light
from sfm_lightglue.synthetic.photo_scenes.cameras import choose_cameras
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.synthetic.photo_scenes.placement import SKY_SHAPE
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.rasteriser import Rasteriser, Shot
from sfm_lightglue.synthetic.photo_scenes.scene_layouts import SCENE_LAYOUTS, SceneLayout
from sfm_lightglue.synthetic.photo_scenes.surface_table import SurfaceTable
from sfm_lightglue.synthetic.photo_scenes.textures import Photos, draw_photos, smooth_noise
from sfm_lightglue.synthetic.photo_scenes.view_config import ViewConfig

__all__ = ["RenderedView", "SceneRequest", "ViewConfig", "random_sky", "render_scenes"]

_STEADY_LIGHT_SHARE = 0.4
"""Fraction of scenes with the same light in all views."""


@dataclass(frozen=True, slots=True)
class SceneRequest:
    """A scene to be rendered.

    Args:
        names: photographs of the library, of which `ViewConfig.num_photos` are drawn.
        seed: the same seed and names give the same bytes on one machine.
        num_views: number of views.
    """

    names: tuple[str, ...]
    seed: int
    num_views: int

    def __post_init__(self) -> None:
        if len(self.names) == 0 or self.num_views < 1:
            raise ValueError("scenes: need at least one photograph and one view")


@dataclass(frozen=True, slots=True, eq=False)
class RenderedView:
    """One rendered image of a scene.

    Args:
        image: uint8 [H, W, 3] RGB.
        depth: float32 [H, W], z in the camera frame in metres along the ray through the pixel centre
            (x + 0.5, y + 0.5), 0 where no surface is visible; on the device of the image.
        camera: of the image.
    """

    image: Tensor
    depth: Tensor
    camera: PosedCamera


@torch.inference_mode()
def render_scenes(
    library: PhotoLibrary, requests: Sequence[SceneRequest], config: ViewConfig
) -> list[tuple[RenderedView, ...]]:
    """Build scenes textured with photographs, and render their views, all in one batch.

    Args:
        library: the photographs; everything is rendered on its device.
        requests: the scenes.
        config: how the views are made. Its `num_views` is not used.

    Returns:
        The views of each scene.

    Raises:
        DataError: if a photograph cannot be read.
    """
    if len(requests) == 0:
        return []
    rngs = [np.random.default_rng([request.seed, 1]) for request in requests]
    layouts = [_layout(library, *pair, config) for pair in zip(requests, rngs, strict=True)]
    table = SurfaceTable.of([layout.surfaces for layout in layouts])
    chosen = choose_cameras(layouts, table, rngs, [request.num_views for request in requests], config)
    shots, effects = [], []
    for scene, (cameras, rng) in enumerate(zip(chosen, rngs, strict=True)):
        steady_light = random_light(rng) if rng.random() < _STEADY_LIGHT_SHARE else None
        hardness = config.hardness * rng.uniform(0.3, 1.0)
        for camera in cameras:
            shots.append(Shot(scene, camera, steady_light or random_light(rng), random_sky(rng)))
            effects.append(draw_photometry(rng, hardness, camera.size))
    images, traces = zip(*Rasteriser(table).render(shots), strict=True)
    views = [
        RenderedView(image, trace.depth, shot.camera)
        for image, trace, shot in zip(photographed(images, effects), traces, shots, strict=True)
    ]
    ends = np.cumsum([len(cameras) for cameras in chosen])
    return [tuple(views[end - len(cameras) : end]) for end, cameras in zip(ends, chosen, strict=True)]


def _layout(library: PhotoLibrary, request: SceneRequest, rng: np.random.Generator, config: ViewConfig) -> SceneLayout:
    drawn = draw_photos(request.names, config.num_photos, rng)
    shares = np.asarray(config.layout_shares) / sum(config.layout_shares)
    build = SCENE_LAYOUTS[int(rng.choice(len(SCENE_LAYOUTS), p=shares))]
    return build(Photos(library, drawn, rng), rng)


def random_sky(rng: np.random.Generator) -> UInt8Array:
    """A bright gradient with smooth clouds, to be enlarged, so that no keypoint is at infinity: [12, 16, 3]."""
    colour = np.array([rng.uniform(120, 230), rng.uniform(150, 235), rng.uniform(180, 250)])
    clouds = smooth_noise(rng, SKY_SHAPE, 3).numpy()[..., None] * rng.uniform(0, 25)
    gradient = np.linspace(15, -15, SKY_SHAPE[0])[:, None, None]
    return np.clip(colour + clouds + gradient, 0, 255).astype(np.uint8)
