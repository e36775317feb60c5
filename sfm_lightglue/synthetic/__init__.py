"""A textured, self-occluding 3D scene, rendered with exact ground truth, for the demo and the tests."""

from sfm_lightglue.synthetic.courtyard import render_courtyard
from sfm_lightglue.synthetic.files import read_truth, write_photos, write_scene
from sfm_lightglue.synthetic.render import SyntheticPhotos, SyntheticScene, corresponding_points, render_scene
from sfm_lightglue.synthetic.room import render_room
from sfm_lightglue.synthetic.square import render_square
from sfm_lightglue.synthetic.street import render_street
from sfm_lightglue.synthetic.town import Town, render_town, town_overlaps, write_town

__all__ = [
    "SyntheticPhotos",
    "SyntheticScene",
    "Town",
    "corresponding_points",
    "read_truth",
    "render_courtyard",
    "render_room",
    "render_scene",
    "render_square",
    "render_street",
    "render_town",
    "town_overlaps",
    "write_photos",
    "write_scene",
    "write_town",
]
