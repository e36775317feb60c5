"""Where exports are written: as one, never over other files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from pipelines.export import main
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.reconstruction.export_map import export_map
from sfm_lightglue.registry.builtin import EXPORTERS
from sfm_lightglue.scene.folder import load_scene
from tests.helpers.export_scenes import NAMES, PINHOLE, write_scene
from tests.helpers.foreign_models import write_model


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of a model and of its images."""
    folder = tmp_path_factory.mktemp("scene")
    return write_scene(folder, PINHOLE)[1], folder / "images"


GEOREGISTRATION = {"origin": {"latitude_deg": 47.4, "longitude_deg": 8.5, "altitude_m": 450}}


@pytest.mark.parametrize("name", ["ply", "nvm", "openmvg", "opensfm", "tum", "kitti", "geojson", "kml"])
def test_a_file_is_replaced_only_on_request_and_only_by_the_same_format(tmp_path: Path, name: str) -> None:
    path = write_scene(tmp_path / "map", PINHOLE)[1]
    (path / "georegistration.json").write_text(json.dumps(GEOREGISTRATION))
    output = tmp_path / "out" / "file"
    export_map(path, name, output)
    content = output.read_bytes()
    with pytest.raises(ConfigError, match=r"exists already; replace it by `overwrite=True`"):
        export_map(path, name, output)
    export_map(path, name, output, overwrite=True)
    assert output.read_bytes() == content
    for foreign in (
        b"mine",
        b"",
        b"ply\nformat ascii 1.0\n",
        b'{"type": "FeatureCollection", "features": []}',
        b"[1, 2]",
    ):
        output.write_bytes(foreign)
        with pytest.raises(
            ConfigError, match=f"out/file: exists and is no export in the format {name}; other files are"
        ):
            export_map(path, name, output, overwrite=True)
        assert output.read_bytes() == foreign
    (output.parent / "export.json").write_text('{"sfm_lightglue": "0"}')
    export_map(path, name, output, overwrite=True)
    assert output.read_bytes() == content


def test_a_folder_is_replaced_only_if_it_is_an_export(scene, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    export_map(scene[0], "bundler", output)
    with pytest.raises(ConfigError, match="exists already"):
        export_map(scene[0], "nerfstudio", output, images=scene[1])
    export_map(scene[0], "nerfstudio", output, images=scene[1], overwrite=True)
    assert sorted(path.name for path in output.iterdir()) == ["export.json", "images", "points.ply", "transforms.json"]
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "a.jpg").write_text("photo")
    with pytest.raises(ConfigError, match="has files that are not of an export, which are never replaced"):
        export_map(scene[0], "bundler", foreign, overwrite=True)
    assert (foreign / "a.jpg").read_text() == "photo"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


def test_an_export_within_a_folder_of_photos_gives_no_photos(scene, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(scene[1], photos)
    export_map(scene[0], "splatting", photos / "splat", images=scene[1])
    assert load_scene(photos).names == tuple(sorted(NAMES))


def test_a_file_and_a_folder_are_not_mixed_up(scene, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="is a file, and this export is a folder"):
        export_map(scene[0], "colmap", tmp_path / "file", overwrite=True)
    with pytest.raises(ConfigError, match="is a folder, and this format is one file"):
        export_map(scene[0], "nvm", tmp_path / "folder", overwrite=True)


def test_an_export_that_fails_leaves_nothing(scene, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"a b\.png: no such image; give the folder .*`images`"):
        export_map(scene[0], "nerfstudio", tmp_path / "out", images=tmp_path / "images")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    lonely = write_model(pycolmap.Reconstruction(scene[0]), tmp_path / "lonely")
    with pytest.raises(DataError, match="format splatting: needs the images, and their folder is not known"):
        export_map(lonely, "splatting", tmp_path / "out")


@pytest.mark.parametrize(
    ("format_name", "name", "message"),
    [
        ("kapture", "a,b.png", "Kapture cannot express commas"),
        ("nvm", 'a"b.png', "NVM cannot express quotation marks"),
        ("colmap-text", "a b.png", "text models cannot express spaces"),
        ("kml", "a.png", "format kml: the model has no georegistration"),
    ],
)
def test_a_model_is_checked_before_images_are_written(
    tmp_path: Path, format_name: str, name: str, message: str
) -> None:
    model, path = write_scene(tmp_path / "map", PINHOLE)
    model.images[1].name = name
    model.write_binary(path)
    steps: list[str] = []
    with pytest.raises(DataError, match=message):
        export_map(
            path,
            format_name,
            tmp_path / "out",
            images=tmp_path / "map" / "images",
            undistort=True,
            progress=lambda *step: steps.append(step[0]),
        )
    assert not steps


def test_paths_without_a_name_are_outputs_too(scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    summary = export_map(scene[0].absolute(), "bundler", ".")
    assert summary.output == Path()
    monkeypatch.chdir(tmp_path)
    assert export_map(scene[0], "bundler", "box/a/..").output == Path("box/a/..")
    files = ["bundle.out", "export.json", "list.txt"]
    assert [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("box", "here")] == [files, files]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box", "here"]


def test_a_model_without_registered_images_is_refused(tmp_path: Path) -> None:
    path = write_model(pycolmap.Reconstruction(), tmp_path / "empty")
    with pytest.raises(DataError, match="no registered image"):
        export_map(path, "ply", tmp_path / "out.ply")


@pytest.mark.parametrize("name", ["../a.png", "/a.png"])
def test_names_do_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    model, path = write_scene(tmp_path / "map", PINHOLE)
    model.images[1].name = name
    model.write_binary(path)
    with pytest.raises(DataError, match="leads out of the folder"):
        export_map(path, "nerfstudio", tmp_path / "out", images=tmp_path / "map" / "images")


def test_with_undistorted_images_a_file_lies_in_a_folder(scene, tmp_path: Path) -> None:
    export_map(scene[0], "openmvg", tmp_path / "out", images=scene[1], undistort=True)
    values = json.loads((tmp_path / "out" / "sfm_data.json").read_text(encoding="utf-8"))
    assert Path(values["root_path"]) == tmp_path / "out" / "images"
    names = sorted(path.relative_to(values["root_path"]).as_posix() for path in Path(values["root_path"]).rglob("*.*"))
    assert names == sorted(NAMES)


def test_two_exports_have_the_same_bytes(scene, tmp_path: Path) -> None:
    for name in ("splatting", "nerfstudio", "kapture", "bundler"):
        contents = []
        for number in (0, 1):
            output = tmp_path / f"{name}{number}"
            export_map(scene[0], name, output, images=scene[1])
            contents.append(
                {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}
            )
        assert contents[0] == contents[1]


def test_kapture_has_the_poses_the_observations_and_the_images(scene, tmp_path: Path) -> None:
    output = tmp_path / "out"
    export_map(scene[0], "kapture", output, images=scene[1])
    model = pycolmap.Reconstruction(scene[0])

    def rows(name: str) -> list[list[str]]:
        lines = (output / name).read_text(encoding="utf-8").splitlines()
        assert lines[0] == "# kapture format: 1.1"
        return [line.split(", ") for line in lines if not line.startswith("#")]

    records = {row[0]: row[2] for row in rows("sensors/records_camera.txt")}
    assert sorted(records.values()) == sorted(NAMES)
    for timestamp, _, *numbers in rows("sensors/trajectories.txt"):
        pose = model.find_image_with_name(records[timestamp]).cam_from_world()
        w, x, y, z, *t = map(float, numbers)
        assert np.allclose(pycolmap.Rotation3d([x, y, z, w]).matrix(), pose.rotation.matrix(), atol=1e-12)
        assert np.allclose(t, pose.translation, atol=1e-12)
    ((_, _, kind, camera, width, height, *params),) = rows("sensors/sensors.txt")
    assert (kind, camera, int(width), int(height)) == ("camera", "SIMPLE_PINHOLE", *PINHOLE.size)
    assert tuple(map(float, params)) == PINHOLE.params
    keypoints = {
        name: np.fromfile(output / "reconstruction/keypoints/keypoints" / f"{name}.kpt").reshape(-1, 2)
        for name in NAMES
    }
    points = [list(map(float, row)) for row in rows("reconstruction/points3d.txt")]
    num_observations = 0
    for point_id, _, *seen in rows("reconstruction/observations.txt"):
        for name, index in zip(seen[::2], seen[1::2], strict=True):
            pose = model.find_image_with_name(name).cam_from_world()
            x, y, z = pose.rotation.matrix() @ points[int(point_id)][:3] + pose.translation
            at = 290 * np.array([x, y]) / z + (160, 120)
            assert np.abs(at - keypoints[name][int(index)]).max() < 1e-6
            num_observations += 1
    assert num_observations == model.compute_num_observations()
    assert (output / "sensors" / "records_data" / NAMES[1]).read_bytes() == (scene[1] / NAMES[1]).read_bytes()


def test_the_command_prints_what_it_wrote(scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--images", str(scene[1]), "--output", str(tmp_path / "out"), "--set", "export.num_neighbors=8"]
    assert main([str(scene[0]), "--format", "ply", *flags, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == len(NAMES)
    assert main([str(scene[0]), "--format", "ply", *flags]) == 2
    assert "exists already; replace it by --overwrite" in capsys.readouterr().err
    assert main([str(scene[0]), "--format", "plyy", *flags]) == 2
    assert "unknown export 'plyy' (did you mean 'ply'?)" in capsys.readouterr().err
    assert main([str(scene[0]), "--format", "ply", *flags[:-1], "export.num=3", "--overwrite"]) == 2
    assert "unknown option 'num'" in capsys.readouterr().err
    assert main([str(scene[0]), "--format", "ply", *flags[:-1], "pairs.x=3", "--overwrite"]) == 2
    assert "the options of a format are in the table export" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), "--format", "ply", *flags[:-2], "--overwrite"]) == 3


def test_every_format_is_tested() -> None:
    assert set(EXPORTERS.builtin_names) == {
        *("colmap", "colmap-text", "ply", "nvm", "bundler", "openmvg", "opensfm", "nerfstudio"),
        *("splatting", "tum", "kitti", "geojson", "kml", "kapture"),
    }
