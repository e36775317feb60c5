"""Options of an extension: excluded pairs hold, and what it cannot use is refused."""

import json
import shutil

import pytest

from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.reconstruction.extend import extend, extend_or_reconstruct
from sfm_lightglue.types import ImagePair
from tests.helpers.reconstructions import one_thread, tree
from tests.helpers.sparse_maps import EXTRACTOR

OPTIONS = {"extractor": EXTRACTOR, "density": {"level": "sparse"}, "refine": {"mode": "off"}}
ADDED = "view_04.jpg"


def test_excluded_pairs_are_never_matched(own_scene, small_scene_dir):
    excluded = ImagePair("view_03.jpg", ADDED)
    (own_scene / "excluded.txt").write_text(f"{excluded.name0} {excluded.name1}\n")
    shutil.copy(small_scene_dir / "images" / ADDED, own_scene / "images")
    pairs = {"name": "exhaustive", "exclude": str(own_scene / "excluded.txt")}
    result = extend(own_scene, config=one_thread(**OPTIONS, pairs=pairs))
    assert result.summary.num_registered == 5
    database = own_scene / "reconstruction" / "database.db"
    matched = {pair for pair in read_database(database).matches_from_pair if ADDED in (pair.name0, pair.name1)}
    assert matched == {ImagePair(f"view_0{number}.jpg", ADDED) for number in range(3)}


def test_a_rig_is_refused(own_scene, small_scene_dir):
    shutil.copy(small_scene_dir / "images" / ADDED, own_scene / "images")
    with pytest.raises(ConfigError, match=r"`rig`.*map anew without extending"):
        extend(own_scene, config=one_thread(**OPTIONS, rig="rig_config.json"))


def test_another_executor_is_refused_unless_the_last_run_had_it(own_scene, small_scene_dir):
    shutil.copy(small_scene_dir / "images" / ADDED, own_scene / "images")
    config = one_thread(**OPTIONS, executor={"name": "folder"})
    with pytest.raises(ConfigError, match=r"`executor\.name` 'folder'.*threads of one machine"):
        extend(own_scene, config=config)
    path = own_scene / "reconstruction" / "run.json"
    record = json.loads(path.read_text())
    record["config"]["executor"]["name"] = "folder"
    path.write_text(json.dumps(record))
    assert extend(own_scene, config=config).summary.num_registered == 5


def test_changed_options_are_told_and_change_nothing_without_photos(own_scene, caplog):
    """Ids and poses stay until the user maps anew: `--extend auto` in a script must not rebuild a model."""
    before = tree(own_scene)
    extend_or_reconstruct(own_scene, config=one_thread(**OPTIONS))
    assert "have no effect" not in caplog.text
    changed = OPTIONS | {"seed": 7, "checks": {"min_support": 0.2}, "executor": {"lease_s": 99}, "device": "cpu"}
    extend_or_reconstruct(own_scene, config=one_thread(**changed))
    assert "have no effect (`checks.min_support`, `seed`); run the same command without extending" in caplog.text
    assert tree(own_scene) == before


def test_changed_options_are_used_for_what_comes_in(own_scene, small_scene_dir, caplog):
    shutil.copy(small_scene_dir / "images" / ADDED, own_scene / "images")
    result = extend(own_scene, config=one_thread(**OPTIONS | {"checks": {"min_support": 0.2}}))
    assert "used for what comes in only: `checks.min_support`" in caplog.text
    assert result.summary.num_registered == 5


def test_a_list_that_leaves_the_photos_out_is_told(own_scene, small_scene_dir, caplog):
    images = sorted(path.name for path in (own_scene / "images").iterdir())
    (own_scene / "list.txt").write_text("\n".join(images))
    shutil.copy(small_scene_dir / "images" / ADDED, own_scene / "images")
    extend(own_scene, config=one_thread(**OPTIONS, image_list=str(own_scene / "list.txt")))
    assert "knows all 4 images of the list" in caplog.text
    assert "list.txt (`image_list`" in caplog.text
