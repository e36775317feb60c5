"""What the fuzz reads: how an input of each kind is made, and which function of the library reads it."""

from __future__ import annotations

import argparse
import functools
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.robustness_corpus import Corpus, load_corpus
from benchmarks.robustness_mutators import (
    mutate_bytes,
    mutate_database,
    mutate_entry,
    mutate_safetensors,
    mutate_shard,
    mutate_tables,
    mutate_text,
    random_value,
)
from pipelines.arguments import add_component_arguments, component_values, parse_camera_params
from pipelines.reconstruct import add_camera_arguments
from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.extractors.sift import SiftExtractor
from sfm_lightglue.image_pair.pair_list import read_listed_pairs
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.mask import Mask
from sfm_lightglue.mapping.cached_models import load_models
from sfm_lightglue.models.checkpoints import load_lightglue
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.from_file import PairsFromFile, PairsFromFileConfig
from sfm_lightglue.reconstruction.config import ReconstructConfig, read_config_file
from sfm_lightglue.reconstruction.run_record import RecordedResults
from sfm_lightglue.registry.components import tables_from_config
from sfm_lightglue.scene.camera_assignment import CameraConfig, camera_of_image
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.store.encoding import geometry_from_arrays, matches_from_arrays
from sfm_lightglue.store.inventory import check_store
from sfm_lightglue.store.output_folder import is_results_folder
from sfm_lightglue.store.shard_file import shard_number
from sfm_lightglue.store.store import SHARDED_KINDS, Store
from sfm_lightglue.types import Camera, Features, Scene, SceneImage

__all__ = ["TARGETS", "Corpus", "Target", "load_corpus"]

_LIST = "pairs.txt"


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of input.

    Args:
        name: of the kind.
        make: writes an input into an empty folder.
        read: reads it; may raise an `SfmError`, and nothing else.
        writes: whether reading may change or make files in the folder of the input.
        limit_s: time limit of one input.
        memory_mb: limit of the memory of the process, without what it shares with other processes.
    """

    name: str
    make: Callable[[random.Random, Corpus, Path], None]
    read: Callable[[Corpus, Path], object]
    writes: bool = False
    limit_s: float = 20.0
    memory_mb: int = 1500


def _make_image(rng: random.Random, corpus: Corpus, folder: Path) -> None:
    suffix, content = rng.choice(corpus.images)
    others = [rng.choice(corpus.images)[1] for _ in range(3)]
    if rng.random() < 0.1:
        suffix = rng.choice(corpus.images)[0]
    (folder / f"image.{suffix}").write_bytes(mutate_bytes(content, rng, others))


def _read_image(corpus: Corpus, folder: Path) -> None:
    (path,) = folder.iterdir()
    image = Image.read(path)
    assert len(image.digest) == 64
    camera_of_image(image, CameraConfig())
    grey, colour = image.grey(), image.rgb()
    assert grey.shape[::-1] == image.size and colour.shape[1::-1] == image.size
    image.to_fit(32, colour=True)


def _make_scene(rng: random.Random, corpus: Corpus, folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "images" / "good.jpg").write_bytes(corpus.good_image)
    suffix, content = rng.choice(corpus.images)
    (folder / "images" / f"bad.{suffix}").write_bytes(mutate_bytes(content, rng))


def _read_scene(corpus: Corpus, folder: Path) -> None:
    """One bad file never costs the good one."""
    scene = load_scene(folder)
    assert "good.jpg" in scene.names


def _make_mask(rng: random.Random, corpus: Corpus, folder: Path) -> None:
    content = rng.choice([content for suffix, content in corpus.images if suffix in {"png", "bmp", "gif", "tif"}])
    (folder / "mask.png").write_bytes(mutate_bytes(content, rng, [corpus.good_image]))


def _read_mask(corpus: Corpus, folder: Path) -> None:
    Mask.read(folder / "mask.png", (96, 80), 0)


def _make_entry(rng: random.Random, corpus: Corpus, folder: Path) -> None:
    name, content = rng.choice(corpus.entries)
    if rng.random() < 0.25:  # there is only one entry of models
        name, content = next(entry for entry in corpus.entries if entry[0].startswith("models/"))
    others = [entry[1] for entry in rng.sample(corpus.entries, 2)]
    path = folder / name
    path.parent.mkdir(parents=True)
    kind = rng.random()
    if kind < 0.5 and shard_number(path.name) is not None:
        mutate_shard(content, path.parent, rng)
    else:
        path.write_bytes(mutate_entry(content, rng) if kind < 0.75 else mutate_bytes(content, rng, others))


def _read_entry(corpus: Corpus, folder: Path) -> None:
    """A damaged entry is a miss, also if its checksums are right."""
    (path,) = folder.rglob("*.npz")
    kind = path.relative_to(folder).parts[0]
    store = Store(folder)
    if kind == "models":
        load_models(store, path.stem)
    elif kind == "features":
        CachedExtractor(SiftExtractor(), store).read(path.stem)
    elif kind in SHARDED_KINDS:
        for key in _keys_of(kind, corpus):
            store.load_as("matches", key, lambda arrays: matches_from_arrays(arrays, "", _two_features()))
            store.load_as("two_view", key, lambda arrays: geometry_from_arrays(arrays, 50))
        check_store(folder)
    else:
        store.load(kind, path.stem)


@functools.cache
def _keys_of(kind: str, corpus: Corpus) -> tuple[str, ...]:
    """The keys of all shards of a kind."""
    keys = []
    for name, content in corpus.entries:
        if name.startswith(f"{kind}/"):
            with np.load(io.BytesIO(content)) as arrays:
                keys += [key.tobytes().hex() for key in arrays["index"]["key"]]
    return tuple(keys)


@functools.cache
def _two_features() -> tuple[Features, Features]:
    keypoints = np.zeros((200, 2), np.float32)
    features = Features(keypoints, np.zeros(200, np.float32), np.zeros((200, 1), np.float32), (320, 240))
    return features, features


def _make_database(rng: random.Random, corpus: Corpus, folder: Path) -> None:
    path = folder / "database.db"
    if rng.random() < 0.5:
        path.write_bytes(corpus.database)
        mutate_database(path, rng)
    else:
        path.write_bytes(mutate_bytes(corpus.database, rng))


def _read_database(corpus: Corpus, folder: Path) -> None:
    read_database(folder / "database.db")


def _make_model(rng: random.Random, corpus: Corpus, folder: Path) -> None:
    files = dict(rng.choice(corpus.models))
    if rng.random() < 0.3:  # only the files that every program writes
        files = {name: content for name, content in files.items() if name.split(".")[0] not in {"rigs", "frames"}}
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(sorted(files))
        if name.endswith(".txt") and rng.random() < 0.7:
            files[name] = mutate_text(files[name].decode("utf-8", "replace"), rng)
        else:
            files[name] = mutate_bytes(files[name], rng, list(files.values()))
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _read_model(corpus: Corpus, folder: Path) -> None:
    model = read_model(folder)
    model.compute_mean_reprojection_error()


def _make_config(rng: random.Random, corpus: Corpus, folder: Path) -> None:
    tables = corpus.record["config"]
    kind = rng.random()
    if kind < 0.4:
        record = {"config": mutate_tables(tables, rng)} if rng.random() < 0.7 else mutate_tables(corpus.record, rng)
        text = json.dumps(record)
        content = mutate_text(text, rng) if rng.random() < 0.3 else text.encode()
        (folder / "run.json").write_bytes(content)
    else:
        toml = _toml(mutate_tables(tables, rng) if kind < 0.8 else tables)
        content = mutate_text(toml, rng) if rng.random() < 0.6 else toml.encode("utf-8", "surrogatepass")
        (folder / "config.toml").write_bytes(content)


def _toml(tables: dict[str, Any]) -> str:
    lines: list[str] = []
    for name, value in tables.items():
        if isinstance(value, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(one)}" for key, one in value.items() if one is not None)]
        else:
            lines.insert(0, f"{name} = {json.dumps(value)}")
    return "\n".join(lines).replace("Infinity", "inf").replace("NaN", "nan")


def _read_config(corpus: Corpus, folder: Path) -> None:
    (path,) = folder.iterdir()
    if path.suffix == ".json":
        is_results_folder(folder)
        RecordedResults.read(folder)
    config = ReconstructConfig.from_mapping(read_config_file(path))
    tables_from_config(config)


def _make_settings(rng: random.Random, corpus: Corpus, folder: Path) -> None:
    tables: dict[str, Any] = {name: one for name, one in corpus.record["config"].items() if isinstance(one, dict)}
    arguments = []
    for _ in range(rng.choice((1, 1, 2))):
        table = rng.choice(sorted(tables))
        option = rng.choice([*tables[table], "name", "extra"])
        value = tables[table].get(option) if rng.random() < 0.5 else random_value(rng)
        text = f"{table}.{option}={json.dumps(value)}"
        if rng.random() < 0.4:
            text = mutate_text(text, rng).decode("utf-8", "surrogateescape")
        arguments += ["--set=" + text]
    params = ",".join(str(rng.choice((500, 320, 240, 0, -1, "nan", "inf", "1e400", "", "x", 1e-9))) for _ in range(5))
    arguments += [f"--camera-params={params}"] * (rng.random() < 0.3)
    (folder / "arguments.json").write_text(json.dumps(arguments))


def _read_settings(corpus: Corpus, folder: Path) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_component_arguments(parser)
    add_camera_arguments(parser)
    parser.set_defaults(seed=None, device=None)
    arguments = parser.parse_args(json.loads((folder / "arguments.json").read_text()))
    values = component_values(arguments, {})
    params = parse_camera_params(arguments.camera_params)
    cameras = values.get("cameras", {}) | ({"params": params} if params else {})
    config = ReconstructConfig.from_mapping(values | {"cameras": cameras})
    image = Image("good.jpg", corpus.good_image)
    camera_of_image(image, config.cameras)
    for model in ("SIMPLE_PINHOLE", "PINHOLE", "OPENCV"):
        if len(config.cameras.params) == 5:
            camera_of_image(image, replace(config.cameras, model=model, params=config.cameras.params[:4]))


def _make_pair_list(rng: random.Random, corpus: Corpus, folder: Path) -> None:
    names = corpus.names
    lines = [f"{rng.choice(names)} {rng.choice(names)}" for _ in range(4)]
    lines += ["# a comment", "", f'"{names[1]}" "{names[2]}"', f"images/{names[0]}\t{names[3]}"]
    if rng.random() < 0.5:  # SuperGlue's format
        K = ["500", "0", "160", "0", "500", "120", "0", "0", "1"]
        lines += [f"{names[0]} {names[1]} " + " ".join(["0", "1", *K, *K, *["1"] * 16])]
    rng.shuffle(lines)
    text = "\n".join(lines)
    (folder / _LIST).write_bytes(text.encode() if rng.random() < 0.02 else mutate_text(text, rng))


def _read_pair_list(corpus: Corpus, folder: Path) -> None:
    camera = Camera("SIMPLE_RADIAL", 320, 240, (384.0, 160.0, 120.0, 0.0))
    images = tuple(SceneImage(name, folder / name, camera, 0, "") for name in sorted(corpus.names))
    scene = Scene(folder, images, ())
    selector = PairsFromFile(PairsFromFileConfig(str(folder / _LIST)))
    read_listed_pairs(folder / _LIST, folder)
    selector.check(scene)
    selector.select(PairContext(scene))


def _make_weights(rng: random.Random, corpus: Corpus, folder: Path) -> None:
    index = rng.choice((0, 0, 1, 2))
    content = corpus.weights[index]
    is_header = index == 0 and rng.random() < 0.5
    changed = mutate_safetensors(content, rng) if is_header else mutate_bytes(content, rng, corpus.weights)
    (folder / "weights.safetensors").write_bytes(changed)


def _read_weights(corpus: Corpus, folder: Path) -> None:
    load_lightglue(folder / "weights.safetensors")


TARGETS = {
    target.name: target
    for target in (
        Target("images", _make_image, _read_image, memory_mb=3000),
        Target("scenes", _make_scene, _read_scene, memory_mb=3000),
        Target("masks", _make_mask, _read_mask, memory_mb=3000),
        Target("store entries", _make_entry, _read_entry),
        Target("databases", _make_database, _read_database),
        Target("models", _make_model, _read_model),
        Target("configurations", _make_config, _read_config),
        Target("settings", _make_settings, _read_settings),
        Target("pair lists", _make_pair_list, _read_pair_list),
        Target("weights", _make_weights, _read_weights),
    )
}
"""The kinds of inputs, by name."""
