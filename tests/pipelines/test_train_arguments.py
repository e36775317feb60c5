"""Arguments of `train`: contradictions, settings of recipes and what overrides them, plan, archive of photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.train import main
from pipelines.train_arguments import build_parser
from pipelines.train_plan import first_step_s
from pipelines.train_settings import (
    SETTINGS_NAME,
    confidence_config,
    default_threads,
    run_options,
    training_config,
    training_settings,
    write_sizes,
)
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.training.recipes import Throughput, TrainingSettings, recipe_of
from tests.helpers.rendered_scenes import write_photos

RUN = "--photos photos --output run --device cpu"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)


def settings_of(text: str) -> TrainingSettings:
    return training_settings(build_parser().parse_args(f"{RUN} {text}".split()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--output run", "--photos is missing"),
        ("--photos photos", "--output is missing"),
        (f"{RUN} --max-minutes 9 --steps 100", "leave out --steps"),
        (f"{RUN} --max-minutes 9 --decay-steps 0 --warmup-steps 0", "leave out --decay-steps, --warmup-steps"),
        (f"{RUN} --resume --restart", "give one of them"),
        (f"{RUN} --decay-keypoints 9", "--decay-keypoints needs --max-minutes"),
        ("--pack-photos photos.zip", "--pack-photos needs --photos"),
        ("--photos photos --pack-photos photos.zip --dry-run", "leave out one of them"),
        (f"{RUN} --pack-size 9", "--pack-photos, which is missing"),
    ],
)
def test_contradictions_are_refused(text, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(text.split())
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--recipe shift", "recipe 'shift' is unknown (did you mean 'sift'?)"),
        ("--max-minutes 0", "max_minutes must be positive"),
        ("--max-minutes nan", "max_minutes must be positive"),
        ("--scenes-per-shard 0", "--scenes-per-shard"),
        ("--workers -1", "--workers"),
        ("--recipe xfeat --mirrored-share 0.5", "mirrored_share and turned_share must be 0 for xfeat"),
        ("--accumulate 0", "num_parts"),
        ("--depth-confidence 3", "depth_confidence"),
    ],
)
def test_impossible_values_are_one_line(text, message, capsys):
    assert main([*RUN.split(), *text.split(), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_without_a_recipe_the_defaults_are_those_of_the_help():
    arguments = build_parser().parse_args(RUN.split())
    settings = training_settings(arguments)
    config, options = training_config(arguments, settings), run_options(arguments, settings)
    assert settings == TrainingSettings()
    assert (config.num_layers, config.optimizer, config.learning_rate, config.num_warmup_steps) == (
        6,
        "adamw",
        8e-4,
        500,
    )
    assert (config.batches.batch_size, config.batches.num_keypoints, config.batches.mirrored_share) == (16, 384, 0.5)
    assert (options.num_steps, options.num_decay_steps, options.plan, options.num_parts) == (20_000, 4_000, None, 1)
    assert confidence_config(arguments, settings).target == "point"


def test_workers_have_cores_of_their_own(monkeypatch):
    monkeypatch.setattr("pipelines.train_settings.num_cores", lambda: 8)
    for text, wanted in (("", 7), ("--workers 3", 5), ("--workers 8", 1), ("--workers 0", 8)):
        arguments = build_parser().parse_args(f"--output x --photos y --device cpu {text}".split())
        assert default_threads(arguments) == wanted
    assert default_threads(arguments, num_replicas=2) == 0


def test_arguments_override_a_recipe():
    recipe = recipe_of("sift").settings("cpu", 9.0)
    assert settings_of("--recipe sift --max-minutes 9") == recipe
    given = settings_of("--recipe sift --max-minutes 9 --layers 9 --workers 0 --compile --confidence-target point")
    assert (given.num_layers, given.num_workers, given.compile, given.confidence_target) == (9, 0, True, "point")
    assert given.optimizer == recipe.optimizer and given.num_decay_keypoints == recipe.num_decay_keypoints
    larger = settings_of("--recipe sift --batch-size 64")
    assert larger.batch_size == 64 and larger.learning_rate == pytest.approx(1.25**0.5 * recipe.learning_rate)
    assert settings_of("--recipe sift --batch-size 64 --learning-rate 1e-4").learning_rate == 1e-4


def test_minutes_become_a_plan_with_the_keypoints_of_both_parts():
    def plan_of(text: str):
        arguments = build_parser().parse_args(f"{RUN} {text}".split())
        return run_options(arguments, training_settings(arguments)).plan

    plan = plan_of("--recipe sift --max-minutes 9")
    assert (plan.max_minutes, plan.num_keypoints, plan.num_decay_keypoints) == (9, 256, 384)
    equal = plan_of("--recipe sift --max-minutes 9 --num-keypoints 100")
    assert (equal.num_keypoints, equal.num_decay_keypoints) == (100, 100)
    both = plan_of("--max-minutes 9 --num-keypoints 100 --decay-keypoints 200 --confidence-steps 0")
    assert (both.num_keypoints, both.num_decay_keypoints, both.heads_s) == (100, 200, 0)
    assert plan_of("--max-minutes 9 --export-only") is None  # heads are trained, even if the minutes are over


def test_a_run_keeps_the_sizes_of_its_shards(tmp_path):
    """Else a session with more minutes would not find the shards of the sessions before."""
    first = settings_of("--recipe sift --max-minutes 0.5")
    write_sizes(tmp_path / "run", first)
    later = settings_of("--recipe sift --max-minutes 60")
    assert first.scenes_per_shard == later.scenes_per_shard == 1
    assert recipe_of("sift").settings("cpu", 60).scenes_per_shard > 1
    assert settings_of("--recipe sift --max-minutes 60 --restart").scenes_per_shard > 1
    with pytest.raises(ConfigError, match="run: its shards have 1 scenes, so --scenes-per-shard 7 needs"):
        settings_of("--recipe sift --max-minutes 60 --scenes-per-shard 7")
    write_sizes(tmp_path / "run", later)
    (tmp_path / "run" / SETTINGS_NAME).write_text("{")
    with pytest.raises(DataError, match=r"settings\.json: damaged"):
        settings_of("--recipe sift --max-minutes 60")


@pytest.mark.parametrize("name", ["last.pt", "stable.pt"])
def test_a_run_of_minutes_is_not_continued_by_mistake(name, tmp_path, capsys):
    write_photos(tmp_path / "photos")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_bytes(b"not read")
    for more in ([], ["--dry-run"]):
        assert main([*RUN.split(), "--recipe", "sift", "--max-minutes", "9", *more]) == 2
        assert "run: holds a run; continue it with --resume, or replace it with --restart" in capsys.readouterr().err
    for more in ("--resume", "--restart"):
        assert main([*RUN.split(), "--recipe", "sift", "--max-minutes", "9", more, "--dry-run"]) == 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    write_photos(tmp_path / "photos")
    more = "--recipe sift --max-minutes 9 --init lightglue_sift --export weights.safetensors --half --dry-run"
    assert main([*RUN.split(), *more.split()]) == 0
    printed = capsys.readouterr().out
    for text in ("4 layers, 2 heads, 128 dimensions", "lightglue_sift.safetensors", "muon, learning rate 2.00e-03"):
        assert text in printed
    for text in (
        "16 pairs, 256 keypoints per view, then 384, not compiled",
        "photos: 8 photographs",
        "in half precision",
    ):
        assert text in printed
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line[:1].isalpha()}
    assert [float(rows[name][2]) for name in ("heads", "export")] == [30.0, 20.0]
    begins = [float(rows[name][1]) for name in ("waiting", "warm-up", "flat", "decay", "heads", "export")]
    assert begins == sorted(begins) and begins[-1] == 520
    assert rows["decay"][3] == "384" and int(rows["flat"][5]) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_dry_run_of_a_recipe_without_figures_says_so(tmp_path, capsys):
    write_photos(tmp_path / "photos")
    assert main([*RUN.split(), "--recipe", "aliked-n16rot", "--max-minutes", "9", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "aliked, model n16rot: 128 values, position;" in printed.replace("position\n", "position;\n")
    assert "no figures of this recipe" in printed
    assert main([*RUN.split(), "--recipe", "sift", "--steps", "70", "--dry-run"]) == 0
    assert "70 steps, the last 14 with a falling learning rate" in capsys.readouterr().out


def test_the_waiting_of_the_plan_grows_with_the_shards_and_shrinks_with_the_workers():
    figures = Throughput(100, 50, 3.0, 10.0)
    assert first_step_s(TrainingSettings(num_views=6, scenes_per_shard=2, num_workers=1), figures) == 10 + 2 * 4
    assert first_step_s(TrainingSettings(num_views=6, scenes_per_shard=2, num_workers=4), figures) == 10 + 4
    on_gpu = TrainingSettings(num_views=6, scenes_per_shard=2, num_workers=4, compile=True)
    assert first_step_s(on_gpu, figures) == 10 + 2 * 4 / 4


def test_photographs_are_packed_into_one_file(tmp_path, capsys):
    from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary

    write_photos(tmp_path / "photos")
    assert main(["--photos", "photos", "--pack-photos", "packed.zip", "--pack-size", "0.2"]) == 0
    size = (tmp_path / "packed.zip").stat().st_size
    printed = capsys.readouterr().out
    assert "packed.zip: 8 photographs in quality" in printed and f"{size / 1e6:.1f} MB" in printed
    assert size <= 200_000
    assert len(PhotoLibrary.open(Path("packed.zip")).names) == 8
    assert main([*RUN.replace("photos photos", "photos packed.zip").split(), "--recipe", "sift", "--dry-run"]) == 0
    assert "packed.zip: 8 photographs" in capsys.readouterr().out


def test_the_sizes_are_plain_json(tmp_path):
    write_sizes(tmp_path, recipe_of("sift").settings("cuda", 9))
    stored = json.loads((tmp_path / SETTINGS_NAME).read_text())
    assert stored == {"scenes_per_shard": 16, "num_held_out_shards": 2, "num_views": 6}
