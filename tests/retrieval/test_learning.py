"""Principal axes and k-means."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.retrieval.learning import cluster_centers, learn_vocabulary, principal_axes
from sfm_lightglue.retrieval.vocabulary import Vocabulary
from sfm_lightglue.testing.photos import textured, write_photo
from sfm_lightglue.weights.array_file import read_arrays
from tests.helpers.checkout import ROOT


def rows_of(num: int, dimension: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(num, dimension)) * np.arange(dimension, 0, -1) + 3).astype(np.float32)


@pytest.mark.parametrize("num", [8, 400])
def test_principal_axes_are_orthonormal_and_ordered_by_variance(num):
    rows = rows_of(num, 12)
    mean, axes = principal_axes(rows, 5)
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-5)
    deviations = ((rows - mean) @ axes).std(axis=0)
    assert (np.diff(deviations) < 0).all()
    largest = np.linalg.svd(rows - mean)[1][:5] / np.sqrt(num)
    np.testing.assert_allclose(deviations, largest, rtol=1e-4)


def test_few_rows_have_fewer_axes_and_equal_rows_have_none():
    assert principal_axes(rows_of(4, 12), 9)[1].shape == (12, 3)
    assert principal_axes(np.ones((4, 12), np.float32), 9)[1].shape == (12, 0)


def test_clusters_far_from_each_other_are_found():
    true = np.eye(6, dtype=np.float32) * 100
    rows = np.repeat(true, 50, axis=0) + np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    centers = cluster_centers(rows, 12, seed=0)  # of more centres than clusters, each cluster gets one
    distances = np.linalg.norm(true[:, None] - centers[None], axis=2)
    assert distances.min(axis=1).max() < 5


def test_the_seed_decides():
    rows = rows_of(300, 8)
    np.testing.assert_array_equal(cluster_centers(rows, 9, 0), cluster_centers(rows, 9, 0))
    assert not np.array_equal(cluster_centers(rows, 9, 0), cluster_centers(rows, 9, 1))


def test_there_are_no_more_words_than_descriptors():
    vocabulary = learn_vocabulary(rows_of(5, 128))
    assert vocabulary.words.shape == (5, 4)  # five points have four directions
    assert np.isfinite(vocabulary.axes).all()


def test_the_training_script_repeats_its_file(tmp_path: Path):
    for i in range(3):
        write_photo(tmp_path / "photos" / f"{i}.png", textured(96 + i, 80))
    spec = importlib.util.spec_from_file_location("train_vocabulary", ROOT / "scripts" / "train_vocabulary.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    outputs = [tmp_path / name for name in ("one.safetensors", "other.safetensors")]
    for output in outputs:
        script.train(tmp_path / "photos", output, 2, 50, 0)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert Vocabulary.from_arrays(read_arrays(outputs[0])).mean.shape == (128,)
