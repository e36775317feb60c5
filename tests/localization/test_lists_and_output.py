"""Lists of hloc, and the files of the results, which independent readers read back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.localization.output import require_output, write_localizations
from sfm_lightglue.localization.query_lists import queries_of_paths, read_candidates, read_query_list
from sfm_lightglue.localization.result import Localization, SupportingImage, best_of_models
from sfm_lightglue.scene.cameras import make_camera

CAMERA = make_camera("PINHOLE", (640, 480), (500, 501, 320, 240))
POSE = Rigid3.from_rotvec([0.1, -0.2, 2.9], [1, 2, 3])
FOUND = Localization("a b.jpg", POSE, None, 50, 40, (SupportingImage("m.jpg", 50, 40),), CAMERA, np.eye(6) * 1e-4, 0.2)
REFUSED = Localization("c.jpg", None, "ambiguous", 50, 40, (), CAMERA, None, 0.1)


@pytest.fixture
def folder(tmp_path):
    for name in ("a b.jpg", "c.jpg", "sub/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_list_of_queries_with_and_without_cameras(folder):
    path = folder / "queries.txt"
    path.write_text(
        "# hloc\na b.jpg PINHOLE 640 480 500 501 320 240\nc.jpg\n\nsub/d.png SIMPLE_PINHOLE 64 48 50 32 24\n"
    )
    found = read_query_list(path, [folder / "missing", folder])
    assert [one.name for one in found] == ["a b.jpg", "c.jpg", "sub/d.png"]
    assert [one.camera and one.camera.params for one in found] == [CAMERA.params, None, (50.0, 32.0, 24.0)]
    assert found[2].path == folder / "sub/d.png"


@pytest.mark.parametrize(
    ("text", "error", "what"),
    [
        ("missing.jpg\n", DataError, "queries.txt:1: no file 'missing.jpg'"),
        ("\nc.jpg PINHOLE 640 480 500\n", ConfigError, "queries.txt:2: "),
        ("# nothing\n", DataError, "lists no image"),
    ],
)
def test_wrong_lists_are_named(folder, text, error, what):
    (folder / "queries.txt").write_text(text)
    with pytest.raises(error, match=what):
        read_query_list(folder / "queries.txt", [folder])


def test_files_and_folders(folder):
    assert [one.name for one in queries_of_paths([folder])] == ["a b.jpg", "c.jpg", "sub/d.png"]
    assert queries_of_paths([folder / "c.jpg"])[0].name == str(folder / "c.jpg")
    with pytest.raises(DataError, match="no such file"):
        queries_of_paths([folder / "missing.jpg"])
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        queries_of_paths([folder / "empty"])


def test_pairs_name_queries_and_images_of_the_map(folder):
    path = folder / "pairs.txt"
    path.write_text("a b.jpg m 1.jpg\na b.jpg m2.jpg\na b.jpg m2.jpg\nc.jpg m2.jpg\n")
    found = read_candidates(path, ["a b.jpg", "c.jpg"], ["m 1.jpg", "m2.jpg"])
    assert found == {"a b.jpg": ["m 1.jpg", "m2.jpg"], "c.jpg": ["m2.jpg"]}
    with pytest.raises(DataError, match=r"pairs.txt:1"):
        read_candidates(path, ["c.jpg"], ["m2.jpg"])


def test_results_are_read_back(tmp_path):
    output = tmp_path / "found"
    require_output(output)
    write_localizations(output, [FOUND, REFUSED], {"seed": 0})
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    assert [line["registered"] for line in lines] == [True, False]
    assert [line["reason"] for line in lines] == [None, "ambiguous"]
    assert lines[1]["cam_from_world"] is None
    assert lines[1]["covariance"] is None
    assert np.allclose(lines[0]["cam_from_world"]["R"], POSE.R)
    assert np.shape(lines[0]["covariance"]) == (6, 6)
    words = (output / "poses.txt").read_text().rsplit(maxsplit=7)
    w, x, y, z, *t = map(float, words[1:])
    assert words[0] == "a b.jpg"
    assert np.allclose(pycolmap.Rotation3d(np.array([x, y, z, w])).matrix(), POSE.R)
    assert np.allclose(t, POSE.t)
    record = json.loads((output / "run.json").read_text())
    assert record["summary"]["reasons"] == {"ambiguous": 1}
    require_output(output)  # results of an earlier run are replaced


def test_the_model_of_the_queries_is_one_of_colmap(tmp_path):
    named = Localization("a.jpg", POSE, None, 50, 40, (), CAMERA, None, 0.2)
    write_localizations(tmp_path, [named], {})
    model = pycolmap.Reconstruction(tmp_path / "sparse")
    image = model.find_image_with_name("a.jpg")
    assert np.allclose(image.cam_from_world().matrix(), POSE.as_matrix()[:3])
    assert model.cameras[image.camera_id].params.tolist() == list(CAMERA.params)


def test_poses_of_other_models_are_apart(tmp_path):
    """Their frames are others; those of an earlier run are emptied."""
    found = [replace(FOUND, name=f"{number}.jpg", model=f"sparse/{number}") for number in range(3)]
    write_localizations(tmp_path, found, {})
    for number, folder in enumerate([tmp_path, tmp_path / "model_1", tmp_path / "model_2"]):
        assert (folder / "poses.txt").read_text().split()[0] == f"{number}.jpg"
        images = pycolmap.Reconstruction(folder / "sparse").images.values()
        assert [image.name for image in images] == [f"{number}.jpg"]
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["summary"]["num_of_model"] == {"sparse/0": 1, "sparse/1": 1, "sparse/2": 1}
    write_localizations(tmp_path, found[1:], {}, "sparse/1")
    assert (tmp_path / "poses.txt").read_text().startswith("1.jpg")
    assert (tmp_path / "model_1" / "poses.txt").read_text() == ""
    assert (tmp_path / "model_2" / "poses.txt").read_text().startswith("2.jpg")


@pytest.mark.parametrize(
    ("inliers", "shared", "model"),
    [
        ((100, 200), False, "sparse/1"),
        ((100, 100), True, "sparse/0"),
        ((200, 130), False, None),
        ((200, 130), True, "sparse/0"),
    ],
)
def test_the_model_with_most_inliers_answers(inliers, shared, model):
    """Two models that are no part of one place make a pose ambiguous."""
    results = [
        replace(
            FOUND,
            num_inliers=num,
            model=f"sparse/{number}",
            images=(SupportingImage("both.jpg" if shared else f"{number}.jpg", num, num),),
        )
        for number, num in enumerate(inliers)
    ]
    best = best_of_models(results, 0.6)
    assert best.model == (model or "")
    assert best.reason == (None if model else "ambiguous")
    assert best.registered == (model is not None)


def test_a_pose_in_one_model_goes_before_reasons_of_others():
    refused = replace(REFUSED, reason="too_few_inliers", num_inliers=90)
    assert best_of_models([refused, replace(FOUND, model="sparse/1")], 0.6).model == "sparse/1"
    assert best_of_models([REFUSED, replace(FOUND, num_inliers=50)], 0.6).reason == "ambiguous"
    assert best_of_models([refused, replace(refused, reason="not_spread", num_inliers=95)], 0.6).reason == "not_spread"


def test_a_map_is_not_overwritten(tmp_path):
    (tmp_path / "sparse").mkdir()
    with pytest.raises(ConfigError, match="sparse"):
        require_output(tmp_path)


def test_folders_of_the_user_are_left_alone(tmp_path):
    """Only `model_N` of an earlier run are emptied."""
    own, number = tmp_path / "model_of_castle", tmp_path / "model_1"
    for folder in (own, number):
        folder.mkdir()
        (folder / "poses.txt").write_text("of the user")
    with pytest.raises(ConfigError, match="model_1"):
        require_output(tmp_path)
    write_localizations(tmp_path, [FOUND], {})
    assert (number / "poses.txt").read_text() == "of the user"
    write_localizations(tmp_path, [FOUND], {})
    assert (own / "poses.txt").read_text() == "of the user"
    assert [path.name for path in own.iterdir()] == ["poses.txt"]


@pytest.mark.parametrize("reason", ["low_inlier_share", "not_spread", "uncertain", "ambiguous"])
def test_a_refused_pose_in_another_model_is_a_rival(reason):
    """A pose of few inliers is not told if another model gives many, whatever is wrong with that pose."""
    few = replace(FOUND, num_inliers=30, model="sparse/1")
    many = replace(REFUSED, reason=reason, num_inliers=300, images=(SupportingImage("other.jpg", 400, 300),))
    best = best_of_models([many, few], 0.6)
    assert (best.registered, best.reason, best.model) == (False, "ambiguous", "")
    assert best_of_models([replace(many, images=few.images), few], 0.6).model == "sparse/1", "the same place"
    assert best_of_models([replace(many, num_inliers=10), few], 0.6).model == "sparse/1"
