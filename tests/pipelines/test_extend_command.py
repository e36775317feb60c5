"""`--extend` of the command `reconstruct`."""

import json
import shutil

import pytest

from pipelines.reconstruct import main


def test_the_options_of_the_last_run_are_used(own_scene, small_scene_dir, capsys):
    shutil.copy(small_scene_dir / "images" / "view_04.jpg", own_scene / "images")
    before = json.loads((own_scene / "reconstruction" / "run.json").read_text())["config"]
    assert main([str(own_scene), "--extend", "auto", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_registered"] == 5
    record = json.loads((own_scene / "reconstruction" / "run.json").read_text())
    assert record["extension"]["added"] == ["view_04.jpg"]
    assert record["config"] == before


def test_nothing_to_extend_is_told_and_is_no_error(own_scene, capsys):
    assert main([str(own_scene), "--extend", "--quiet"]) == 0
    assert "nothing to extend" in capsys.readouterr().err


def test_without_a_finished_model_the_exit_code_tells(small_scene_dir, tmp_path, capsys):
    assert main([str(small_scene_dir), "--output", str(tmp_path / "none"), "--extend"]) == 5
    assert "no finished model" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("other", ["--demo"])
def test_options_that_need_no_finished_model_are_refused(own_scene, other):
    with pytest.raises(SystemExit) as error:
        main([str(own_scene), "--extend", "auto", other])
    assert error.value.code == 2
