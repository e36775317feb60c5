"""The trainer and its command: loss falls, runs are resumed, the best weights are chosen and exported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from pipelines.train import main
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.models.checkpoints import load_lightglue, save_lightglue
from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.training.checkpoints import (
    BEST,
    FORMAT_VERSION,
    LAST,
    STABLE,
    load_checkpoint,
    save_checkpoint,
)
from sfm_lightglue.training.data.batches import BatchConfig
from sfm_lightglue.training.data.feature_kind import FeatureKind
from sfm_lightglue.training.fastest import faster_in_bfloat16, faster_with_explicit_attention
from sfm_lightglue.training.metrics import nearest_counts, network_counts
from sfm_lightglue.training.options import learning_rate
from sfm_lightglue.training.trainer import LOG_NAME, Trainer, new_network
from sfm_lightglue.types import Features
from sfm_lightglue.weights.state_dict import read_weights
from tests.helpers.checkout import ROOT
from tests.helpers.training_scenes import CPU, SHORT, TINY, Shards, batch_of, prepare_run


def test_the_learning_rate_has_warm_up_and_decay():
    config = replace(TINY, learning_rate=1.0, num_warmup_steps=10)
    options = replace(SHORT, num_steps=100, num_decay_steps=20)
    rates = [learning_rate(step, config, options) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10:81] == [1.0] * 71
    assert np.diff(rates[80:]) == pytest.approx(-0.05)
    assert rates[-1] == pytest.approx(0.05)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_improves_recall(tmp_path, optimizer):
    """The loss falls, and recall on held-out pairs exceeds that of nearest neighbours."""
    source = Shards(9, 16, noise=0.9)
    config = replace(TINY, batches=BatchConfig(8, 60, turned_share=0.0), optimizer=optimizer)
    options = replace(
        SHORT, num_steps=90, num_decay_steps=30, validate_every=90, checkpoint_every=30, num_held_out_pairs=16
    )
    rows: list[dict[str, float]] = []
    network = Trainer(config, options, tmp_path).run(source, report=lambda row: rows.append(dict(row)))
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.6 * losses[0]
    held_out = [batch_of(source.shards[0], 60)]
    untrained = network_counts(new_network(config.architecture, 0).eval(), held_out, CPU)
    trained, nearest = network_counts(network, held_out, CPU), nearest_counts(held_out)
    assert trained.recall > max(untrained.recall, nearest.recall) + 0.1
    assert trained.precision > 0.6
    assert [row["recall"] for row in rows if "recall" in row] == [pytest.approx(trained.recall, abs=0.1)]
    logged = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    assert logged == rows


def test_bfloat16_and_random_matches_stay_finite(tmp_path, shards):
    network = Trainer(TINY, replace(SHORT, bfloat16=True, num_steps=5, num_decay_steps=2), tmp_path).run(shards)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def weights_equal(one: LightGlue, other: LightGlue) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_run_can_start_from_the_first_layers_of_a_deeper_network(tmp_path):
    deeper = new_network(replace(TINY, num_layers=3).architecture, 7)
    trainer = Trainer(TINY, SHORT, tmp_path / "run", deeper)
    started = trainer.network.state_dict()
    assert TINY.num_layers == 2 and len(started) < len(deeper.state_dict())
    for name, value in started.items():
        assert torch.equal(value, deeper.state_dict()[name]), name
    for others in ({"num_layers": 1}, {"num_heads": 1}):
        other = new_network(replace(TINY, **others).architecture, 7)
        with pytest.raises(ConfigError, match="belong to another network"):
            Trainer(TINY, SHORT, tmp_path / "other", other)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_is_the_same_run(tmp_path, shards, optimizer):
    config = replace(TINY, optimizer=optimizer)
    straight = Trainer(config, SHORT, tmp_path / "straight").run(shards)

    class Killed(Exception):
        pass

    def kill(row):
        if row["step"] >= 20:  # the last checkpoint has step 15
            raise Killed

    with pytest.raises(Killed):
        Trainer(config, SHORT, tmp_path / "killed").run(shards, report=kill)
    resumed = Trainer(config, SHORT, tmp_path / "killed")
    assert resumed.step == 15
    assert weights_equal(resumed.run(shards), straight)
    assert weights_equal(Trainer(config, SHORT, tmp_path / "killed").run(shards), straight)  # no step is left


def test_a_prolonged_run_continues_from_before_its_decay(tmp_path, shards):
    long = replace(SHORT, num_steps=40)
    straight = Trainer(TINY, long, tmp_path / "straight").run(shards)
    Trainer(TINY, SHORT, tmp_path / "short").run(shards)
    prolonged = Trainer(TINY, long, tmp_path / "short")
    assert prolonged.step == 20
    assert weights_equal(prolonged.run(shards), straight)


def test_a_run_goes_on_where_nothing_can_be_compiled(tmp_path, shards, monkeypatch, caplog):
    def fail(*arguments, **options):
        raise RuntimeError("no C++ compiler")

    def compile_(self, **options):
        self._compiled_call_impl = fail

    monkeypatch.setattr(torch.nn.Module, "compile", compile_)
    options = replace(SHORT, num_steps=3, num_decay_steps=1)
    wanted = Trainer(TINY, options, tmp_path / "plain").run(shards)
    found = Trainer(TINY, replace(options, compile=True), tmp_path / "compiled").run(shards)
    assert weights_equal(found, wanted) and "compiling failed, the run goes on without it" in caplog.text


def test_choices_by_measuring_work_on_the_cpu():
    assert isinstance(faster_in_bfloat16(CPU), bool)
    for dtype in (torch.float32, torch.bfloat16):
        assert isinstance(faster_with_explicit_attention(CPU, dtype, (2, 2, 16, 8), 4), bool)


def test_parts_of_a_batch_give_the_gradient_of_the_batch(tmp_path, shards):
    config = replace(TINY, confidence_share=0.0)
    whole = Trainer(config, SHORT, tmp_path / "whole").run(shards)
    parts = Trainer(config, replace(SHORT, num_parts=2), tmp_path / "parts").run(shards)
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, parts.state_dict()[name], atol=2e-4), name
    with pytest.raises(ConfigError, match="4 pairs cannot be divided into 3 equal parts"):
        Trainer(config, replace(SHORT, num_parts=3), tmp_path / "other")


def test_matchers_for_other_features_have_their_inputs():
    xfeat = FeatureKind("xfeat", 64, has_scale_orientation=False, is_mirrorable=False)
    unchanged = BatchConfig().unchanged
    architecture = replace(TINY, features=xfeat, batches=unchanged).architecture
    assert (architecture.input_dim, architecture.use_scale_orientation) == (64, False)
    with pytest.raises(ConfigError, match="must be 0 for xfeat"):
        replace(TINY, features=xfeat)


def test_another_configuration_is_refused(tmp_path, shards):
    Trainer(TINY, replace(SHORT, num_steps=15, num_decay_steps=5), tmp_path).run(shards)
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.001, now 0\.1"):
        Trainer(replace(TINY, learning_rate=0.1), SHORT, tmp_path)


def test_the_validation_of_the_caller_selects_the_best(tmp_path, shards):
    scores = iter([0.7, 0.2])
    trainer = Trainer(TINY, SHORT, tmp_path)
    trainer.run(shards, validation=lambda network: {"auc": next(scores)})
    best = load_checkpoint(tmp_path / BEST)
    assert best is not None and best["step"] == 15 and best["best"] == 0.7
    assert {path.name for path in tmp_path.iterdir()} == {LAST, BEST, STABLE, LOG_NAME}
    network, step = trainer.best_result()
    assert step == 15 and not weights_equal(network, trainer.result())


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / LAST, {"step": 1})

    def torn(value, file):
        file.write(b"partial")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(Exception, match="No space"):
        save_checkpoint(tmp_path / LAST, {"step": 2})
    assert load_checkpoint(tmp_path / LAST) == {"step": 1, "format_version": FORMAT_VERSION}
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_a_damaged_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path / LAST, {"step": 1})
    content = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"last\.pt: damaged"):
        load_checkpoint(tmp_path / LAST)


def test_a_diverged_run_stops(tmp_path, shards):
    trainer = Trainer(TINY, SHORT, tmp_path)
    with torch.no_grad():
        trainer.network.layers[0].self_mlp.fc2.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="learning rate"):
        trainer.run(shards)
    assert not (tmp_path / LAST).exists()


def test_a_matcher_reads_exported_weights(tmp_path, shards):
    network = Trainer(TINY, SHORT, tmp_path).run(shards).half()
    save_lightglue(network, tmp_path / "weights.safetensors", {"license": "Apache-2.0"})
    loaded = load_lightglue(tmp_path / "weights.safetensors")
    assert loaded.architecture == TINY.architecture
    matcher = LightGlueMatcher(LightGlueMatcherConfig(str(tmp_path / "weights.safetensors")), "cpu")
    sides = [
        Features(v.keypoints, v.scores, v.unit_descriptors, v.image_size, v.scales, v.orientations)
        for v in shards.shards[0][0].views
    ]
    matches = matcher.match(*sides)
    assert matches.stop_layer in (1, 2)
    assert (matches.indices < 60).all()


def test_the_command_resumes_after_kill_9(tmp_path, capsys):
    prepared = prepare_run(tmp_path)
    assert main([*prepared, "--output", str(tmp_path / "straight")]) == 0
    command = [sys.executable, "-m", "pipelines.train", *prepared, "--output", str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "killed" / LAST).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    killed_at = load_checkpoint(tmp_path / "killed" / LAST)["step"]
    assert 4 <= killed_at < 24
    capsys.readouterr()
    assert main([*prepared, "--output", str(tmp_path / "killed")]) == 0
    assert f"continuing after step {killed_at} of 24" in capsys.readouterr().out
    one, other = (load_checkpoint(tmp_path / name / LAST) for name in ("straight", "killed"))
    assert one["step"] == other["step"] == 24
    for name, value in one["network"].items():
        assert torch.allclose(value, other["network"][name], atol=1e-6), name


def test_the_command_exports_weights_with_metadata(tmp_path, capsys):
    prepared = prepare_run(tmp_path)
    path = tmp_path / "weights.safetensors"
    export = ["--export", str(path), "--half", "--width-confidence", "0.8", "--confidence-target", "pair"]
    assert main([*prepared, "--output", str(tmp_path / "run"), *export]) == 0
    printed = capsys.readouterr().out
    assert "pairs_per_s" in printed and "in 200 steps" in printed
    file = read_weights(path)
    state, metadata = file.state, file.metadata
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert metadata["license"] == "Apache-2.0" and "--half" in metadata["command"]
    assert load_lightglue(path).architecture.num_layers == 2
    assert json.loads(metadata["thresholds"]) == {"width_confidence": 0.8}
    assert main([*prepared, "--output", str(tmp_path / "run"), "--learning-rate", "0.1"]) == 2
    assert "learning_rate was 0.0008, now 0.1" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["point", "pair"])
def test_weights_can_recommend_no_pruning(tmp_path, target):
    prepared = prepare_run(tmp_path)
    path = tmp_path / "weights.safetensors"
    export = ["--export", str(path), "--width-confidence", "-1", "--confidence-target", target]
    assert main([*prepared, "--output", str(tmp_path / "run"), *export, "--confidence-steps", "3"]) == 0
    assert json.loads(read_weights(path).metadata["thresholds"]) == {"width_confidence": -1.0}


def test_the_workers_end_with_their_parent(tmp_path):
    """A few seconds after the parent is killed, no process of their group is left."""
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for k in range(6):
        image = PilImage.fromarray(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
        image.save(photos / f"{k}.png")
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from sfm_lightglue.training.data.producer import ShardProducer\n"
        "if __name__ == '__main__':\n"
        f"    p = ShardProducer(Path({str(photos)!r}), Path({str(tmp_path)!r}), 0, 50, 1)\n"
        "    print(p._process.pid, flush=True); time.sleep(5); os.kill(os.getpid(), 9)\n"
    )
    (tmp_path / "run.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGKILL
    group, deadline = int(done.stdout), time.monotonic() + 15
    while time.monotonic() < deadline and group_is_alive(group):
        time.sleep(0.2)
    assert not group_is_alive(group)


def group_is_alive(group: int) -> bool:
    """Whether the group has a process that is not a zombie."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == group and state != "Z":
            return True
    return False
