"""Which models can be extended, and their databases."""

import json
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.model_database import read_stored_names
from sfm_lightglue.errors import DataError
from sfm_lightglue.reconstruction.extend import extend
from sfm_lightglue.reconstruction.extend_base import base_from_elsewhere, base_of_output
from sfm_lightglue.store.publication import file_digest
from sfm_lightglue.store.store import Store
from tests.helpers.exact_scenes import make_model, ring_scene
from tests.helpers.foreign_models import write_model
from tests.helpers.reconstructions import one_thread
from tests.helpers.rigged_models import with_common_frame
from tests.helpers.sparse_maps import EXTRACTOR


def test_a_model_with_a_frame_of_two_images_is_refused(tmp_path):
    model = make_model(ring_scene())
    rigged = with_common_frame(model, "03.jpg", "04.jpg")
    for image_id, image in model.images.items():
        assert np.allclose(image.cam_from_world().matrix(), rigged.images[image_id].cam_from_world().matrix())
    assert base_from_elsewhere(write_model(model, tmp_path / "single")).known == set(ring_scene().poses)
    with pytest.raises(DataError, match=r"rigged: the model has frames of several images.*map anew"):
        base_from_elsewhere(write_model(rigged, tmp_path / "rigged"))


def test_the_database_is_held_from_the_moment_that_it_was_checked(own_scene, tmp_path):
    output = own_scene / "reconstruction"
    before = (output / "database.db").read_bytes()
    with Store(output) as store:
        base = base_of_output(output, store, tmp_path)
        (output / "database.db").write_bytes(b"of another run")
        assert base.database is not None
        assert base.database.read_bytes() == before
        (tmp_path / "again").mkdir()
        assert base_of_output(output, store, tmp_path / "again").database is None


def exchange_ids(output, id0, id1):
    """Exchange the ids of two images in a database, as if its run had read the images in another order."""
    with closing(sqlite3.connect(output / "database.db")) as connection, connection:
        for table in ("images", "keypoints"):
            for old, new in ((id0, 9), (id1, id0), (9, id1)):
                connection.execute(f"UPDATE {table} SET image_id = ? WHERE image_id = ?", (new, old))
    record = json.loads((output / "run.json").read_text())
    record["files"]["database.db"] = file_digest(output / "database.db")
    (output / "run.json").write_text(json.dumps(record))


def test_a_database_with_other_ids_than_the_model_is_not_used(own_scene, small_scene_dir):
    output = own_scene / "reconstruction"
    exchange_ids(output, 1, 2)
    shutil.copy(small_scene_dir / "images" / "view_04.jpg", own_scene / "images")
    extend(own_scene, config=one_thread(extractor=EXTRACTOR, density={"level": "sparse"}, refine={"mode": "off"}))
    stored = read_stored_names(output / "database.db")
    assert len(stored) == 5
    assert stored == {image_id: image.name for image_id, image in read_model(output / "sparse" / "0").images.items()}
