"""The trainer: labels in batches, the loss against a loop, resuming, learning, exporting."""

from __future__ import annotations

import json
import math
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
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig, upright_positions
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.weights import load_lightglue, read_state_dict, save_lightglue
from sfm_lightglue.training.batches import BatchConfig, collate, sample_pair
from sfm_lightglue.training.checkpoints import BEST, LAST, STABLE, load_checkpoint, save_checkpoint
from sfm_lightglue.training.feed import FeedConfig, FeedState, PairFeed, assemble
from sfm_lightglue.training.labels import IGNORED, MATCHED, UNMATCHABLE
from sfm_lightglue.training.losses import PairBatch, assignment_loss, training_losses
from sfm_lightglue.training.metrics import nearest_counts, network_counts
from sfm_lightglue.training.options import RunOptions, TrainingConfig, learning_rate
from sfm_lightglue.training.pairs import SceneConfig
from sfm_lightglue.training.scenes import PairLabels, TrainingScene, TrainingView, quantised
from sfm_lightglue.training.shards import SCENES_PER_SHARD, photo_paths, shard_folder, write_shard
from sfm_lightglue.training.trainer import LOG_NAME, Trainer, new_network
from sfm_lightglue.types import Features

CPU = torch.device("cpu")
SIZE = (640, 480)


def make_view(rng: np.random.Generator, keypoints: np.ndarray, descriptors: np.ndarray) -> TrainingView:
    n = len(keypoints)
    unit = np.abs(descriptors) / np.linalg.norm(descriptors, axis=1, keepdims=True)
    numbers = [rng.uniform(low, high, n).astype(np.float32) for low, high in ((2, 40), (0, 6.28), (0, 1))]
    return TrainingView(keypoints.astype(np.float32), *numbers, quantised(unit.astype(np.float32)), SIZE)


def make_scene(seed: int, num_points: int = 60, noise: float = 0.4) -> TrainingScene:
    """Two views of a shifted cloud of points: 60 % of them in both, 30 % unmatchable, the rest ignored.

    Descriptors are so noisy that nearest neighbours miss many; the shift, the same for all, gives them away.
    """
    rng = np.random.default_rng(seed)
    num_shared, num_alone = int(0.6 * num_points), int(0.3 * num_points)
    places = rng.uniform((40, 40), (600, 440), (num_points, 2))
    words = rng.gamma(1.0, 1.0, (num_points, 128))
    shift = rng.uniform(-30, 30, 2)
    order = rng.permutation(num_points)
    shared = np.arange(num_points) < num_shared
    elsewhere = np.where(shared[:, None], places + shift, rng.uniform((40, 40), (600, 440), (num_points, 2)))
    noisy = words * np.exp(noise * rng.standard_normal(words.shape))
    other_words = np.where(shared[:, None], noisy, rng.gamma(1.0, 1.0, words.shape))
    views = (make_view(rng, places, words), make_view(rng, elsewhere[order], other_words[order]))
    state = np.full(num_points, IGNORED, np.int8)
    state[:num_shared], state[num_shared : num_shared + num_alone] = MATCHED, UNMATCHABLE
    rows1 = np.argsort(order)[:num_shared]
    matches = np.stack([np.arange(num_shared), rows1], axis=1).astype(np.int32)
    return TrainingScene(views, (PairLabels(0, 1, matches, state, state[order], 0.6),))


class Shards:
    """A `ShardSource` in memory."""

    is_working = False

    def __init__(self, num_shards: int = 4, scenes_per_shard: int = 8, **options: float) -> None:
        self.shards = [
            [make_scene(1000 * shard + k, **options) for k in range(scenes_per_shard)] for shard in range(num_shards)
        ]
        self.num_ready = num_shards

    def available(self) -> list[int]:
        return list(range(self.num_ready))

    def read(self, shard_idx: int) -> list[TrainingScene]:
        assert shard_idx < self.num_ready
        return self.shards[shard_idx]


TINY = TrainingConfig(
    num_layers=2,
    num_heads=2,
    learning_rate=1e-3,
    num_warmup_steps=5,
    ema_decay=0.9,
    batches=BatchConfig(batch_size=4, num_keypoints=48),
    feed=FeedConfig(shards_at_once=2),
)
SHORT = RunOptions(
    num_steps=30,
    num_decay_steps=10,
    log_every=5,
    validate_every=15,
    checkpoint_every=15,
    bfloat16=False,
    device="cpu",
    num_held_out_pairs=4,
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shards() -> Shards:
    return Shards()


def make_batch(num_pairs: int = 3, num_keypoints: int = 70, seed: int = 0) -> PairBatch:
    scenes = [make_scene(seed + k, 40 + 10 * k) for k in range(num_pairs)]
    return assemble([(scene, scene.pairs[0]) for scene in scenes], BatchConfig(num_pairs, num_keypoints), (seed,))


def tiny_network(seed: int = 0, **options: int) -> LightGlue:
    return new_network(replace(TINY, **options).architecture, seed)


# Batches


@pytest.mark.parametrize("best_share", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_labels_follow_the_keypoints_that_were_drawn(best_share, seed):
    scene = make_scene(seed)
    labels, views = scene.pairs[0], scene.views
    config = BatchConfig(num_keypoints=35, best_share=best_share, turned_share=0.0)
    sample = sample_pair(*views, labels, config, np.random.default_rng(seed))
    rows = []  # which keypoint of which view each drawn one is
    for drawn in (sample.view0, sample.view1):
        found = [
            np.flatnonzero((np.abs(drawn.descriptors[:, None] - view.root_sift[None]).max(2) < 1e-6).any(0))
            for view in views
        ]
        side = int(len(found[1]) > len(found[0]))
        idx = np.abs(drawn.descriptors[:, None] - views[side].root_sift[None]).max(2).argmin(1)
        assert len(idx) == 35
        rows.append((side, idx))
    (side0, idx0), (side1, idx1) = rows
    assert {side0, side1} == {0, 1}
    columns = (idx0, idx1) if side0 == 0 else (idx1, idx0)
    order = slice(None) if side0 == 0 else slice(None, None, -1)
    drawn_matches = sample.matches[:, order]
    pairs = {(int(columns[0][i]), int(columns[1][j])) for i, j in drawn_matches}
    wanted = {(int(i), int(j)) for i, j in labels.matches if i in columns[0] and j in columns[1]}
    assert pairs == wanted and len(pairs) == len(drawn_matches) > 5
    for (side, idx), drawn in zip(rows, (sample.view0, sample.view1), strict=True):
        state = (labels.state0, labels.state1)[side]
        assert np.array_equal(drawn.unmatchable, state[idx] == UNMATCHABLE)


def test_random_draws_keep_the_share_of_matches():
    scene = make_scene(3, num_points=400)
    config = BatchConfig(num_keypoints=100, best_share=0.0)
    rng = np.random.default_rng(0)
    shares = [len(sample_pair(*scene.views, scene.pairs[0], config, rng).matches) / 100 for _ in range(10)]
    assert 0.5 < np.mean(shares) <= 0.65  # of .6; independent draws would leave .15


def test_turned_views_are_those_of_a_turned_photograph():
    """As the matcher would compute them of the same keypoints in a photo with that orientation."""
    scene = make_scene(0)
    config = BatchConfig(num_keypoints=100, turned_share=1.0)
    sample = sample_pair(*scene.views, scene.pairs[0], config, np.random.default_rng(1))
    wanted = []
    for view in scene.views:
        parts = (view.keypoints, view.scores, view.root_sift, view.image_size, view.scales, view.orientations)
        wanted += [upright_positions(Features(*parts, turns), True) for turns in range(1, 4)]
    for drawn in (sample.view0, sample.view1):
        assert sum(np.array_equal(drawn.positions, one) for one in wanted) == 1


def test_padding_holds_no_labels():
    samples = [
        sample_pair(*scene.views, scene.pairs[0], BatchConfig(), np.random.default_rng(0))
        for scene in (make_scene(0, 20), make_scene(1, 40))
    ]
    batch = collate(samples, 50)
    assert batch.inputs.mask0.sum(1).tolist() == [20, 40]
    assert batch.targets.match_mask.sum(1).tolist() == [12, 24]
    assert not (batch.targets.unmatchable0 & ~batch.inputs.mask0).any()
    assert not (batch.targets.unmatchable1 & ~batch.inputs.mask1).any()


def test_a_pair_without_points_is_harmless():
    empty = make_scene(0, 0)
    scenes = [empty, make_scene(1)]
    batch = assemble([(scene, scene.pairs[0]) for scene in scenes], BatchConfig(2, 48), (0,))
    network = tiny_network()
    losses = training_losses(network, batch)
    (losses.assignment + losses.confidence).backward()
    assert math.isfinite(losses.assignment.item())
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


# The loss


def slow_loss(network: LightGlue, batch: PairBatch) -> list[float]:
    """The paper's equation 10, point by point, over the whole assignment of each layer."""
    losses = []
    for prediction in network.forward_all_layers(*batch.inputs):
        total = 0.0
        for b, assignment in enumerate(prediction.log_assignment.double()):
            matches = batch.targets.matches[b][batch.targets.match_mask[b]].tolist()
            positive = [-assignment[i, j].item() for i, j in matches]
            alone0 = [-assignment[i, -1].item() for i in batch.targets.unmatchable0[b].nonzero().flatten().tolist()]
            alone1 = [-assignment[-1, j].item() for j in batch.targets.unmatchable1[b].nonzero().flatten().tolist()]
            total += 0.5 * np.mean(positive) + 0.25 * (np.mean(alone0) + np.mean(alone1))
        losses.append(total / len(batch.inputs.mask0))
    return losses


def test_the_loss_is_the_papers():
    network, batch = tiny_network(num_layers=3), make_batch()
    with torch.no_grad():
        losses = training_losses(network, batch)
        assert losses.by_layer.tolist() == pytest.approx(slow_loss(network, batch), rel=1e-5)
    assert losses.assignment.item() == pytest.approx(losses.by_layer.mean().item())


def test_the_confidence_loss_asks_whether_the_answer_is_the_last_one():
    network, batch = tiny_network(num_layers=3), make_batch()
    with torch.no_grad():
        for assignment in network.assignments:  # so that layers differ and agree
            assignment.projection.weight.mul_(20)
            assignment.matchability.bias.fill_(6.0)
        predictions = network.forward_all_layers(*batch.inputs)
        answers = [
            torch.cat([p.log_assignment[:, :-1].argmax(2), p.log_assignment[:, :, :-1].argmax(1)], 1)
            for p in predictions
        ]
        valid = torch.cat([batch.inputs.mask0, batch.inputs.mask1], 1)
        wanted = []
        for prediction, answer in zip(predictions[:-1], answers[:-1], strict=True):
            settled = (answer == answers[-1])[valid]
            assert 0 < settled.sum() < len(settled)
            sure = torch.sigmoid(torch.cat([prediction.confidence_logits0, prediction.confidence_logits1], 1))[valid]
            wanted.append(-torch.where(settled, sure, 1 - sure).log().mean().item())
        found = training_losses(network, batch, confidence_share=1.0).confidence.item()
    assert found == pytest.approx(np.mean(wanted), rel=1e-5)


def test_the_confidence_loss_teaches_the_heads_alone():
    network = tiny_network(num_layers=3)
    training_losses(network, make_batch()).confidence.backward()
    with_gradient = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert with_gradient == {f"confidences.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")}


def test_ignored_points_have_no_say():
    """In the last head: their labels are neither asked for, nor does their matchability move."""
    batch = make_batch(1, 70)
    network = tiny_network(num_layers=1)
    x, context = network._embed(*batch.inputs)
    states = network.layers[0](x, context).detach().requires_grad_()
    head = network.assignments[0]
    torch.nn.init.zeros_(head.projection.weight)  # then points meet in no softmax: matchability alone is left
    assignment_loss(head, states, context, batch.targets).backward()
    labelled = torch.cat([batch.targets.unmatchable0, batch.targets.unmatchable1], 1)[0]
    idx0, idx1 = batch.targets.matches[0][batch.targets.match_mask[0]].T
    labelled[idx0] = labelled[idx1 + context.num_points0] = True
    moves = states.grad[0].abs().sum(1) > 0
    assert torch.equal(moves, labelled)
    assert 0 < labelled.sum() < torch.cat([batch.inputs.mask0, batch.inputs.mask1], 1).sum()


def test_deep_supervision_needs_all_heads():
    network = LightGlue(LightGlueArchitecture(128, 128, 2, 2, use_scale_orientation=True, has_layer_assignments=False))
    with pytest.raises(ValueError, match="every layer"):
        training_losses(network, make_batch())


# The order of the data


def first_batches(feed: PairFeed, number: int) -> tuple[list[PairBatch], FeedState]:
    batches, state = [], FeedState()
    iterator = iter(feed)
    for _ in range(number):
        batch, state = next(iterator)
        batches.append(batch)
    iterator.close()
    return batches, state


def test_the_feed_goes_on_where_it_was(shards):
    options = (shards, TINY.batches, 0, TINY.feed)
    straight, _ = first_batches(PairFeed(*options), 20)
    before, state = first_batches(PairFeed(*options), 9)
    after, _ = first_batches(PairFeed(*options, FeedState(**state.as_dict())), 11)
    for one, other in zip(straight, [*before, *after], strict=True):
        assert torch.equal(one.inputs.descriptors0, other.inputs.descriptors0)
        assert torch.equal(one.targets.matches, other.targets.matches)
    assert not torch.equal(straight[0].inputs.keypoints0, straight[8].inputs.keypoints0)


def test_held_out_shards_are_never_shown_and_new_ones_come_next():
    source = Shards(6, 4)
    source.num_ready = 2
    feed = PairFeed(source, TINY.batches, 0, FeedConfig(shards_at_once=1), excluded=frozenset({0}))
    iterator = iter(feed)
    visits = []
    for _ in range(40):
        _, state = next(iterator)
        visits.append(tuple(state.shard_idxs))
        source.num_ready = 6 if len(visits) > 8 else 2
    iterator.close()
    assert set(visits[:8]) == {(1,)}
    assert {(idx,) for idx in range(1, 6)} == set(visits)
    assert all(visits.count((idx,)) >= 4 for idx in range(2, 6))


def test_no_shards_and_no_worker_is_an_error():
    source = Shards(1)
    with pytest.raises(DataError, match="no worker"):
        next(iter(PairFeed(source, TINY.batches, 0, excluded=frozenset({0}))))


# The run


def test_the_learning_rate_rises_stays_and_falls():
    config = replace(TINY, learning_rate=1.0, num_warmup_steps=10)
    options = replace(SHORT, num_steps=100, num_decay_steps=20)
    rates = [learning_rate(step, config, options) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10:81] == [1.0] * 71
    assert np.diff(rates[80:]) == pytest.approx(-0.05)
    assert rates[-1] == pytest.approx(0.05)


def test_training_learns(tmp_path):
    """On pairs that it has not seen, the loss falls by far, and it finds what nearest neighbours do not."""
    source = Shards(9, 16, noise=0.9)
    config = replace(TINY, batches=BatchConfig(8, 60, turned_share=0.0), feed=FeedConfig(8))
    options = replace(
        SHORT, num_steps=90, num_decay_steps=30, validate_every=90, checkpoint_every=30, num_held_out_pairs=16
    )
    rows: list[dict[str, float]] = []
    network = Trainer(config, options, tmp_path).run(source, report=lambda row: rows.append(dict(row)))
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.6 * losses[0]
    held_out = [assemble([(scene, scene.pairs[0]) for scene in source.shards[0]], config.batches, (0,))]
    untrained = network_counts(new_network(config.architecture, 0).eval(), held_out, CPU)
    trained, nearest = network_counts(network, held_out, CPU), nearest_counts(held_out)
    assert trained.recall > max(untrained.recall, nearest.recall) + 0.1
    assert trained.precision > 0.6
    assert [row["recall"] for row in rows if "recall" in row] == [pytest.approx(trained.recall, abs=0.1)]
    logged = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    assert logged == rows


def test_bfloat16_and_random_matches_stay_finite(tmp_path, shards):
    network = Trainer(TINY, replace(SHORT, bfloat16=True), tmp_path).run(shards)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def weights_equal(one: LightGlue, other: LightGlue) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_resumed_run_is_the_same_run(tmp_path, shards):
    straight = Trainer(TINY, SHORT, tmp_path / "straight").run(shards)

    class Killed(Exception):
        pass

    def kill(row):
        if row["step"] >= 20:  # the checkpoint is of step 15: five steps are lost
            raise Killed

    with pytest.raises(Killed):
        Trainer(TINY, SHORT, tmp_path / "killed").run(shards, report=kill)
    resumed = Trainer(TINY, SHORT, tmp_path / "killed")
    assert resumed.step == 15
    assert weights_equal(resumed.run(shards), straight)
    assert weights_equal(Trainer(TINY, SHORT, tmp_path / "killed").run(shards), straight)  # nothing is left to do


def test_a_run_can_be_prolonged_from_before_its_decay(tmp_path, shards):
    long = replace(SHORT, num_steps=40)
    straight = Trainer(TINY, long, tmp_path / "straight").run(shards)
    Trainer(TINY, SHORT, tmp_path / "short").run(shards)
    prolonged = Trainer(TINY, long, tmp_path / "short")
    assert prolonged.step == 20
    assert weights_equal(prolonged.run(shards), straight)


def test_another_configuration_is_refused(tmp_path, shards):
    Trainer(TINY, replace(SHORT, num_steps=15, num_decay_steps=5), tmp_path).run(shards)
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.001, now 0\.1"):
        Trainer(replace(TINY, learning_rate=0.1), SHORT, tmp_path)


def test_the_callers_validation_chooses_the_best(tmp_path, shards):
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
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(Exception, match="No space"):
        save_checkpoint(tmp_path / LAST, {"step": 2})
    assert load_checkpoint(tmp_path / LAST) == {"step": 1, "format_version": 1}
    assert [path.name for path in tmp_path.iterdir()] == [LAST]


def test_a_damaged_checkpoint_is_named(tmp_path):
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


def test_exported_weights_match(tmp_path, shards):
    network = Trainer(TINY, SHORT, tmp_path).run(shards).half()
    save_lightglue(network, tmp_path / "weights.safetensors", {"license": "Apache-2.0"})
    loaded = load_lightglue(tmp_path / "weights.safetensors")
    assert loaded.architecture == TINY.architecture
    matcher = LightGlueMatcher(LightGlueMatcherConfig(str(tmp_path / "weights.safetensors")), "cpu")
    sides = [
        Features(v.keypoints, v.scores, v.root_sift, v.image_size, v.scales, v.orientations)
        for v in shards.shards[0][0].views
    ]
    matches = matcher.match(*sides)
    assert matches.stop_layer in (1, 2)
    assert (matches.indices < 60).all()


# The command


@pytest.fixture
def prepared(tmp_path) -> list[str]:
    """Arguments of a short run whose shards exist, so that nothing is rendered."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "any.jpg").write_bytes(b"stands for a photograph")
    folder = shard_folder(tmp_path / "cache", photo_paths(photos), 0, SceneConfig(), SCENES_PER_SHARD)
    for shard_idx, scenes in enumerate(Shards(3, 12).shards):
        write_shard(folder / f"{shard_idx:06d}.npz", scenes)
    text = f"--photos {photos} --cache {tmp_path / 'cache'} --workers 0 --max-shards 3 --layers 2 --batch-size 4"
    text += " --num-keypoints 48 --warmup-steps 5 --steps 24 --decay-steps 4 --threads 1 --device cpu --float32"
    return [*text.split(), "--log-every", "2", "--checkpoint-every", "4", "--validate-every", "12"]


def test_the_command_survives_kill_9(prepared, tmp_path, capsys):
    assert main([*prepared, "--output", str(tmp_path / "straight")]) == 0
    command = [sys.executable, "-m", "pipelines.train", *prepared, "--output", str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "killed" / LAST).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    killed_at = load_checkpoint(tmp_path / "killed" / LAST)["step"]
    assert 4 <= killed_at < 24
    capsys.readouterr()
    assert main([*prepared, "--output", str(tmp_path / "killed")]) == 0
    assert f"goes on after step {killed_at} of 24" in capsys.readouterr().out
    one, other = (load_checkpoint(tmp_path / name / LAST) for name in ("straight", "killed"))
    assert one["step"] == other["step"] == 24
    for name, value in one["network"].items():
        assert torch.allclose(value, other["network"][name], atol=1e-6), name


def test_the_command_exports_and_says_what_it_was_trained_on(prepared, tmp_path, capsys):
    path = tmp_path / "weights.safetensors"
    assert main([*prepared, "--output", str(tmp_path / "run"), "--export", str(path), "--half"]) == 0
    assert "pairs_per_s" in capsys.readouterr().out
    state, metadata = read_state_dict(path)
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert metadata["license"] == "Apache-2.0" and "--half" in metadata["command"]
    assert load_lightglue(path).architecture.num_layers == 2
    assert main([*prepared, "--output", str(tmp_path / "run"), "--learning-rate", "0.1"]) == 2
    assert "learning_rate was 0.0008, now 0.1" in capsys.readouterr().err


def test_the_workers_end_with_the_run(tmp_path):
    """However it ends: their group of processes is gone a few seconds after their parent."""
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for k in range(6):
        picture = PilImage.fromarray(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
        picture.save(photos / f"{k}.png")
    code = (
        "from pathlib import Path; from sfm_lightglue.training.producer import ShardProducer; import os, sys, time\n"
        "if __name__ == '__main__':\n"
        f"    p = ShardProducer(Path({str(photos)!r}), Path({str(tmp_path)!r}), 0, 50, 1)\n"
        "    print(p._process.pid, flush=True); time.sleep(5); os.kill(os.getpid(), 9)\n"
    )
    (tmp_path / "run.py").write_text(code)
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGKILL
    group, deadline = int(done.stdout), time.monotonic() + 15
    while time.monotonic() < deadline and group_is_alive(group):
        time.sleep(0.2)
    assert not group_is_alive(group)


def group_is_alive(group: int) -> bool:
    """Whether a process of the group is there that has not ended."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == group and state != "Z":
            return True
    return False
