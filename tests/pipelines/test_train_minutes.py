"""Runs of some minutes through the command: from photographs to weights, killed, resumed, prolonged."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.train import main
from pipelines.train_arguments import build_parser
from pipelines.train_settings import shard_producer, training_settings
from sfm_lightglue.models.checkpoints import load_lightglue
from sfm_lightglue.training.checkpoints import BEST, LAST, STABLE, load_checkpoint
from sfm_lightglue.training.data.shards import write_shard
from sfm_lightglue.training.trainer import LOG_NAME
from sfm_lightglue.weights.state_dict import read_weights
from tests.helpers.checkout import ROOT
from tests.helpers.rendered_scenes import write_photos
from tests.helpers.training_scenes import Shards, one_thread

SMALL_SCENES = """
import pipelines.train_settings as settings
from pipelines.train import main
from tests.helpers.rendered_scenes import CONFIG

if __name__ == "__main__":
    settings.scene_config = lambda chosen: CONFIG
    raise SystemExit(main())
"""
"""The command, with small scenes: as a file, because processes that make scenes import it again."""


def rows_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / LOG_NAME).read_text().splitlines()]


def test_a_recipe_in_half_a_minute_survives_a_kill(tmp_path):
    """The whole way: photographs, scenes, training, kill, resuming, confidence heads, export with metrics."""
    (tmp_path / "photos").mkdir()
    write_photos(tmp_path / "photos")
    (tmp_path / "command.py").write_text(SMALL_SCENES)
    run, weights = tmp_path / "run", tmp_path / "weights.safetensors"
    text = f"--recipe sift --photos {tmp_path / 'photos'} --output {run} --max-minutes 0.5 --device cpu --threads 1"
    text += f" --export {weights} --half --layers 2 --batch-size 4 --num-keypoints 64 --optimizer adamw"
    command = [sys.executable, str(tmp_path / "command.py"), *text.split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not (run / LAST).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    killed = load_checkpoint(run / LAST)
    assert killed["step"] > 0 and 0 < killed["seconds"] < 30 and not weights.exists()
    # The time until the checkpoint counts as used; the rest is enough for a slow start.
    minutes = round(killed["seconds"] / 60 + 0.35, 3)
    command[command.index("--max-minutes") + 1] = str(minutes)
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=environment, check=True)
    told = re.search(r"continuing after step (\d+) and \S+ of (\S+) minutes", done.stdout)
    begin = int(told[1])  # with more minutes, a decay that had begun is repeated
    assert 0 < begin <= killed["step"] and float(told[2]) == minutes
    assert "waiting" in done.stdout and "held-out renderings: " in done.stdout
    last = load_checkpoint(run / LAST)
    assert last["step"] > begin and killed["seconds"] < last["seconds"]
    assert 0 < load_checkpoint(run / STABLE)["step"] < last["step"]
    rates = [row["rate"] for row in rows_of(run) if "rate" in row]
    assert rates[-1] < 0.5 * max(rates)
    file, result = read_weights(weights), json.loads((run / "result.json").read_text())
    held_out = json.loads(file.metadata["held_out"])
    assert held_out.keys() == result["held_out"].keys() and {"held_out_loss", "recall", "precision"} <= held_out.keys()
    assert file.metadata["recipe"] == result["recipe"] == "sift"
    assert json.loads(file.metadata["thresholds"]) == {"depth_confidence": 0.99, "width_confidence": 0.65}
    assert load_lightglue(weights).architecture.num_layers == 2


@pytest.fixture
def prepared(tmp_path) -> list[str]:
    """Arguments of a run with existing shards, so that no scene is rendered."""
    (tmp_path / "photos").mkdir()
    write_photos(tmp_path / "photos")
    text = f"--photos {tmp_path / 'photos'} --output {tmp_path / 'run'} --cache {tmp_path / 'cache'} --workers 0"
    text += " --recipe sift --layers 2 --num-keypoints 32 --decay-keypoints 48 --batch-size 4 --device cpu --float32"
    arguments = [*text.split(), "--scenes-per-shard", "12", "--optimizer", "adamw"]
    parsed = build_parser().parse_args(arguments)
    with shard_producer(parsed, training_settings(parsed), 0) as producer:
        for shard_idx, scenes in enumerate(Shards(3, 12).shards):
            write_shard(producer.folder / f"{shard_idx:06d}.npz", scenes)
    return arguments


def test_minutes_are_divided_as_planned_and_a_finished_run_is_prolonged(tmp_path, prepared, capsys):
    run, weights = tmp_path / "run", tmp_path / "weights.safetensors"
    with one_thread():
        assert main([*prepared, "--max-minutes", "0.25", "--export", str(weights)]) == 0
        printed = capsys.readouterr().out
        first = load_checkpoint(run / LAST)
        assert first["plan"]["max_minutes"] == 0.25
        assert "confidence heads: loss" in printed and "held-out renderings: held_out_loss" in printed
        stable = load_checkpoint(run / STABLE)
        assert 0 < stable["step"] < first["step"]
        assert main([*prepared, "--max-minutes", "0.35", "--resume"]) == 0
    printed = capsys.readouterr().out
    assert f"continuing after step {stable['step']} and" in printed
    prolonged = load_checkpoint(run / LAST)
    assert prolonged["step"] > stable["step"] and prolonged["plan"]["max_minutes"] == 0.35
    result = json.loads((run / "result.json").read_text())
    assert result["step"] == str(first["step"]) and result["throughput"]["pairs_per_s"] > 0
    assert 0 <= result["throughput"]["waiting"] <= 1


def test_the_weights_of_a_finished_run_can_be_exported_again(tmp_path, prepared, capsys):
    weights = tmp_path / "weights.safetensors"
    with one_thread():
        assert main([*prepared, "--max-minutes", "0.15"]) == 0
        export = ["--export-only", "--export", str(weights), "--confidence-steps", "3"]
        assert main([*prepared, "--max-minutes", "0.15", *export]) == 0
    printed = capsys.readouterr().out
    assert "in 3 steps" in printed and f"{weights}: wrote the weights" in printed
    assert "held_out" in read_weights(weights).metadata


def test_no_time_for_a_step_is_one_line(tmp_path, prepared, capsys):
    assert main([*prepared, "--max-minutes", "1e-6", "--export", str(tmp_path / "weights.safetensors")]) == 2
    error = capsys.readouterr().err
    assert "no step was made" in error and error.count("\n") == 1
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_restart_removes_what_a_run_has_written(tmp_path, prepared):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("settings.json", "result.json", LAST, STABLE, BEST, LOG_NAME):
        (run / name).write_text("old")
    assert main([*prepared, "--max-minutes", "1e-6", "--restart"]) == 2
    assert {path.name for path in run.iterdir()} <= {f"{LOG_NAME}.lock"}
