"""Densifying a finished model: ours or that of another tool, again, interrupted, and worse than before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from PIL import Image as PilImage

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError, DataError, ReconstructionError, SfmError, StoreError
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.reconstruction import densify_map
from sfm_lightglue.reconstruction.densify_map import densify
from sfm_lightglue.store import publication
from sfm_lightglue.synthetic import SyntheticScene
from tests.helpers.foreign_models import NUM_UNMATCHED, with_other_keypoints, write_model
from tests.helpers.full_disk import TOLD, fail_writes
from tests.helpers.reconstructions import tree
from tests.helpers.sparse_maps import NUM_IMAGES, densify_config


def center_error(model: pycolmap.Reconstruction, truth: SyntheticScene) -> float:
    return align_poses(poses_of_model(model), truth.cam_from_world_from_name).mean_center_error


def test_a_model_of_another_tool_gets_more_points_and_keeps_its_keypoints_and_tracks(
    sparse_scene: Path, small_scene: SyntheticScene, tmp_path: Path
) -> None:
    foreign = with_other_keypoints(read_model(sparse_scene))
    folder = write_model(foreign, tmp_path / "tool" / "sparse" / "0")
    before = tree(folder)
    result = densify(folder, sparse_scene / "images", config=densify_config())
    assert result.output == tmp_path / "tool" / "densified"
    assert tree(folder) == before
    dense, summary = result.model, result.summary
    assert (summary.before.num_points, summary.after.num_points) == (foreign.num_points3D(), dense.num_points3D())
    assert summary.after.num_points > 2 * summary.before.num_points
    assert summary.after.mean_track_length > 2.9
    for image_id, image in foreign.images.items():
        found = dense.images[image_id].points2D
        assert dense.images[image_id].name == image.name and len(found) > len(image.points2D)
        assert np.array_equal([p.xy for p in found[: len(image.points2D)]], [p.xy for p in image.points2D])
        assert not any(p.has_point3D() for p in image.points2D[:NUM_UNMATCHED])
    assert continued_tracks(foreign, dense) > 0.9
    assert center_error(dense, small_scene) < 1.2 * center_error(foreign, small_scene)
    assert all(np.array_equal(dense.cameras[i].params, camera.params) for i, camera in foreign.cameras.items())
    assert len({tuple(point.color) for point in dense.points3D.values()}) > 100


def continued_tracks(before: pycolmap.Reconstruction, after: pycolmap.Reconstruction) -> float:
    """Of the points in three images and more, the fraction of which two keypoints observe one point afterwards."""
    kept = []
    for point in before.points3D.values():
        elements = point.track.elements
        if len(elements) < 3:
            continue
        ids = [after.images[e.image_id].points2D[e.point2D_idx].point3D_id for e in elements]
        known = [one for one in ids if one in after.points3D]
        kept.append(len(known) > len(set(known)))
    assert len(kept) > 50
    return float(np.mean(kept))


def test_a_model_of_ours_reuses_its_features_and_a_second_run_computes_nothing(
    own_scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = json.loads((own_scene / "reconstruction" / "run.json").read_text())["config"]["extractor"]
    config = densify_config(refine={"mode": "on"})
    result = densify(own_scene, config=config)
    output = own_scene / "reconstruction" / "densified"
    assert result.output == output
    assert result.summary.cache["features"] == {"hits": NUM_IMAGES, "misses": 0}
    assert result.summary.num_aligned > 100
    assert sorted(path.name for path in output.iterdir() if path.name[0] != ".") == [
        *("densify.json", "log.txt", "points.ply", "sparse", "state.json")
    ]
    record = json.loads((output / "densify.json").read_text())
    assert record["config"]["extractor"] == run and record["model"] == "../sparse/0"
    before = tree(output)
    with monkeypatch.context() as patch:
        patch.setattr(densify_map, "extract_scene", lambda *_: pytest.fail("nothing is to be extracted"))
        assert densify(own_scene, config=config).summary == result.summary
    assert tree(output) == before
    (output / "points.ply").write_bytes(b"")
    again = densify(own_scene, config=config)  # the features are still there
    assert again.summary.cache["dense_features"] == {"hits": NUM_IMAGES, "misses": 0}
    after = tree(output)
    assert {name: after[name] for name in after if name != "densify.json"} == {
        name: before[name] for name in before if name != "densify.json"
    }


def test_the_extractor_is_that_of_the_run_unless_another_one_is_stated(own_scene: Path) -> None:
    location = densify_map.find_map(own_scene)
    values = densify_map.values_of_run(location)
    assert set(values) == {"extractor", "mapping", "masks"} and values["extractor"]["max_keypoints_dense"] == 2000
    assert densify_map.values_of_run(densify_map.MapLocation(location.model, None, None)) == {}


def test_an_interrupted_run_publishes_nothing_and_continues_and_a_full_disk_loses_nothing(
    own_scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    output = own_scene / "elsewhere"
    with monkeypatch.context() as patch:
        patch.setattr(densify_map, "color_points", interrupt)
        with pytest.raises(KeyboardInterrupt):
            densify(own_scene, output=output, config=densify_config())
    assert sorted(path.name for path in output.iterdir()) == ["log.txt", "state.json"]
    assert json.loads((output / "state.json").read_text())["status"] == "interrupted"
    result = densify(own_scene, output=output, config=densify_config())
    assert result.summary.cache["dense_features"] == {"hits": NUM_IMAGES, "misses": 0}
    assert (output / "sparse" / "0" / "points3D.bin").is_file()
    before = tree(output)
    for error in ("ENOSPC", "EROFS"):
        with monkeypatch.context() as patch:
            fail_writes(patch, own_scene, error)
            text = failed(StoreError, own_scene, None, output, density={"max_ratio": 0.7})
        assert TOLD[error] in text
    assert tree(output) == before


def test_a_run_that_is_killed_while_it_publishes_is_completed(own_scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are moved one after the other; the record comes last."""
    config, move, moved = densify_config(), publication._move_part, []

    def killed(output: Path, pending: Path, name: str, *rest: Any) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(name)
        move(output, pending, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(publication, "_move_part", killed)
        with pytest.raises(KeyboardInterrupt):
            densify(own_scene, config=config)
    output = own_scene / "reconstruction" / "densified"
    assert (output / "sparse").is_dir() and not (output / "densify.json").exists()
    monkeypatch.setattr(densify_map, "densify_model", lambda *_: pytest.fail("the results are there"))
    result = densify(own_scene, config=config)
    assert result.model.num_points3D() == result.summary.after.num_points
    assert (output / "points.ply").is_file() and not (output / ".publish").exists()


def test_a_model_that_gets_worse_is_not_published(own_scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shake(*_: object) -> Any:
        def adjust(model: pycolmap.Reconstruction) -> None:
            image = model.images[min(model.reg_image_ids())]
            pose = image.cam_from_world()
            image.frame.rig_from_world = pycolmap.Rigid3d(pose.rotation, pose.translation + np.array([0.0, 0.0, 1.0]))

        return adjust

    monkeypatch.setattr(densify_map, "adjustment_like", shake)
    with pytest.raises(ReconstructionError, match="not published, because") as caught:
        densify(own_scene, config=densify_config())
    assert caught.value.summary is not None
    assert caught.value.summary["pose_change"]["mean_center_shift"] > 0.02
    assert not (own_scene / "reconstruction" / "densified" / "sparse").exists()


def failed(kind: type[SfmError], folder: Path, *arguments: Any, **config: Any) -> str:
    with pytest.raises(kind) as caught:
        densify(folder, *arguments, config=densify_config(**config))
    return str(caught.value)


def test_images_that_are_missing_or_of_another_size_are_named(own_scene: Path, tmp_path: Path) -> None:
    model = write_model(read_model(own_scene), tmp_path / "tool" / "0")
    assert "the folder of the images of this model is not known" in failed(DataError, model)
    (tmp_path / "empty").mkdir()
    text = failed(DataError, model, tmp_path / "empty")
    assert "view_00.jpg: no such image (and 3 more of 4 images)" in text and "`images`" in text
    assert not (tmp_path / "tool" / "densified").exists()
    image = own_scene / "images" / "view_01.jpg"
    PilImage.open(image).resize((240, 180)).save(image)
    text = failed(DataError, own_scene)
    assert "view_01.jpg: has 240 x 180 pixels, its camera in the model 480 x 360" in text
    image.write_bytes(b"no image")
    assert "view_01.jpg" in failed(DataError, own_scene)


def test_models_without_common_points_are_refused(own_scene: Path, tmp_path: Path) -> None:
    images = own_scene / "images"
    few = read_model(own_scene)
    for point_id in sorted(few.point3D_ids())[10:]:
        few.delete_point3D(point_id)
    text = failed(ReconstructionError, write_model(few, tmp_path / "few" / "0"), images)
    assert "no two images have 15 common points" in text
    for point_id in sorted(few.point3D_ids()):
        few.delete_point3D(point_id)
    assert "4 images with poses and 0 points" in failed(
        ReconstructionError, write_model(few, tmp_path / "none" / "0"), images
    )


def test_output_folders_of_others_are_left_alone(own_scene: Path, tmp_path: Path) -> None:
    own = own_scene / "reconstruction"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    assert "thesis.txt" in failed(ConfigError, own_scene, None, tmp_path / "full")
    assert "is a file" in failed(ConfigError, own_scene, None, tmp_path / "full" / "thesis.txt")
    for folder in (own, own / "sparse", own / "sparse" / "0"):
        assert "has the model that is to be densified" in failed(ConfigError, own_scene, None, folder)
    (own / "densified").mkdir()
    record = {"versions": {"sfm_lightglue": "1"}, "model": "../sparse/1", "key": ""}
    (own / "densified" / "densify.json").write_text(json.dumps(record))
    assert "has the densified model of ../sparse/1" in failed(ConfigError, own_scene)
    with pytest.raises(ConfigError, match="adds no points"):
        densify_config(density={"level": "sparse"})
