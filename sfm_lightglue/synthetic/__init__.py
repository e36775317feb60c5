"""A textured, self-occluding 3D scene, rendered with exact ground truth, for the demo and the tests."""

from sfm_lightglue.synthetic.courtyard import render_courtyard
from sfm_lightglue.synthetic.files import read_truth, write_photos, write_scene
from sfm_lightglue.synthetic.render import SyntheticPhotos, SyntheticScene, corresponding_points, render_scene
from sfm_lightglue.synthetic.room import render_room
from sfm_lightglue.synthetic.square import render_square
from sfm_lightglue.synthetic.street import render_street

__all__ = [
    "SyntheticPhotos",
    "SyntheticScene",
    "corresponding_points",
    "read_truth",
    "render_courtyard",
    "render_room",
    "render_scene",
    "render_square",
    "render_street",
    "write_photos",
    "write_scene",
]
