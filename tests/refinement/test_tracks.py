"""Refinement of the tracks of a rendered scene, whose surfaces and cameras are known exactly."""

import functools

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.geometry.alignment import AlignedPoses, align_poses
from sfm_lightglue.images.image import Image
from sfm_lightglue.refinement import tracks
from sfm_lightglue.refinement.adjustment import adjust_by_precision
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.refinement.observations import move_keypoints, read_observations
from sfm_lightglue.refinement.planes import choose_references, view_planes
from sfm_lightglue.refinement.tracks import DETECTED_SIGMA_PX, refine_tracks
from sfm_lightglue.synthetic import render_scene
from tests.helpers.refinable_models import exact_model, written

NOISE_PX = 0.5


@functools.cache
def scene():
    return render_scene(4, (320, 240), seed=1)


@functools.cache
def exact() -> pycolmap.Reconstruction:
    return exact_model(scene())


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return written(scene(), tmp_path_factory.mktemp("refined"))


def disturbed(seed: int = 0):
    """A model with disturbed keypoints except for the references, its exact pixels, and which rows are references."""
    model = pycolmap.Reconstruction(exact())
    seen = read_observations(model)
    references, _ = choose_references(seen, view_planes(model, seen))
    is_reference = np.isin(np.arange(len(seen)), references)
    noise = np.random.default_rng(seed).normal(scale=NOISE_PX, size=(len(seen), 2))
    noise[is_reference] = 0
    for row, image_id in enumerate(seen.image_ids):
        of_image = seen.of(row)
        move_keypoints(model, image_id, seen.keypoints[of_image], seen.xy[of_image] + noise[of_image])
    return model, seen.xy, is_reference


def pixels(model: pycolmap.Reconstruction) -> np.ndarray:
    return read_observations(model).xy


def sigmas_of(model: pycolmap.Reconstruction, report) -> np.ndarray:
    seen = read_observations(model)
    return np.concatenate(
        [report.sigmas_px[id_][seen.keypoints[seen.of(row)]] for row, id_ in enumerate(seen.image_ids)]
    )


def test_keypoints_move_to_the_same_place_of_the_surface(paths):
    model, exact, is_reference = disturbed()
    before = np.linalg.norm(pixels(model) - exact, axis=1)
    report = refine_tracks(model, paths)
    after = np.linalg.norm(pixels(model) - exact, axis=1)
    is_aligned = (sigmas_of(model, report) < DETECTED_SIGMA_PX) & ~is_reference
    assert is_aligned.sum() == report.num_aligned > 0.5 * (~is_reference).sum()
    assert np.median(after[is_aligned]) < 0.2 * np.median(before[is_aligned])
    assert np.median(after[is_aligned]) < 0.1
    assert report.median_correlation_after > report.median_correlation_before
    assert "aligned, moved by" in str(report)
    np.testing.assert_array_equal(report.observations.xy, pixels(model))


def test_references_and_keypoints_that_are_not_aligned_stay(paths):
    model, _, is_reference = disturbed()
    before = pixels(model)
    report = refine_tracks(model, paths)
    stays = is_reference | (sigmas_of(model, report) == np.float32(DETECTED_SIGMA_PX))
    assert stays.sum() > is_reference.sum()
    np.testing.assert_array_equal(pixels(model)[stays], before[stays])


def test_a_keypoint_elsewhere_stays_where_it_was(paths):
    model, _, is_reference = disturbed()
    wrong = np.flatnonzero(~is_reference)[::10]
    seen = read_observations(model)
    away = np.clip(seen.xy[wrong] + [23, -17], 30, [290, 210])
    for row, pixel in zip(wrong, away, strict=True):
        move_keypoints(model, seen.image_ids[seen.images[row]], seen.keypoints[row : row + 1], pixel[None])
    report = refine_tracks(model, paths)
    stayed = (pixels(model)[wrong] == away).all(axis=1)
    assert stayed.mean() > 0.9
    assert (sigmas_of(model, report)[wrong[stayed]] > 0).all()


def test_images_are_decoded_once_if_there_is_room_for_them(paths, monkeypatch):
    read = []
    original = Image.read
    monkeypatch.setattr(Image, "read", lambda path, name=None: read.append(name) or original(path, name))
    found = []
    for num_bytes, num_reads in ((128 << 20, 1), (0, 2)):
        monkeypatch.setattr(tracks, "_KEPT_BYTES", num_bytes)
        model, _, _ = disturbed()
        refine_tracks(model, paths, executor=ThreadExecutor(2))
        assert sorted(read) == sorted([image.name for image in model.images.values()] * num_reads)
        read.clear()
        found.append(pixels(model))
    np.testing.assert_array_equal(*found)


def test_a_second_refinement_changes_little(paths):
    model, _, _ = disturbed()
    first = refine_tracks(model, paths)
    once = pixels(model)
    second = refine_tracks(model, paths)
    assert second.num_aligned == pytest.approx(first.num_aligned, rel=0.02)
    assert second.median_shift_px < 0.02
    assert np.median(np.linalg.norm(pixels(model) - once, axis=1)) < 0.02


def test_keypoints_that_were_aligned_before_stay_and_the_others_agree_with_them(paths):
    model, exact, _ = disturbed()
    refine_tracks(model, paths)
    seen, before = read_observations(model), pixels(model)
    fresh = seen.images == len(seen.image_ids) - 1  # an image that comes in, with disturbed keypoints
    last = seen.image_ids[-1]
    noise = np.random.default_rng(1).normal(scale=NOISE_PX, size=(int(fresh.sum()), 2))
    move_keypoints(model, last, seen.keypoints[fresh], exact[fresh] + noise)
    settled = {
        image_id: np.isin(np.arange(model.images[image_id].num_points2D()), seen.keypoints[seen.of(row)])
        for row, image_id in enumerate(seen.image_ids[:-1])
    }
    report = refine_tracks(model, paths, settled=settled)
    np.testing.assert_array_equal(pixels(model)[~fresh], before[~fresh])
    sigmas = sigmas_of(model, report)
    assert np.isnan(sigmas[~fresh]).all()
    is_aligned = sigmas[fresh] < DETECTED_SIGMA_PX
    errors = np.linalg.norm(pixels(model) - exact, axis=1)[fresh][is_aligned]
    assert is_aligned.mean() > 0.4, is_aligned.mean()
    assert np.median(errors) < 0.2 * np.median(np.linalg.norm(noise, axis=1))


def test_no_keypoint_moves_further_than_the_bound(paths):
    model, _, _ = disturbed()
    before = pixels(model)
    report = refine_tracks(model, paths, RefinementConfig(max_shift_px=0.3))
    shifts = np.linalg.norm(pixels(model) - before, axis=1)
    assert report.num_aligned > 0
    assert shifts.max() <= 0.3


def test_the_result_does_not_depend_on_the_number_of_threads(paths):
    results = []
    for num_threads in (1, 3):
        model, _, _ = disturbed()
        report = refine_tracks(model, paths, executor=ThreadExecutor(num_threads))
        results.append((pixels(model), sigmas_of(model, report)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_images_that_cannot_be_read_are_left_out(paths, tmp_path):
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no image")
    first, second, *others = scene().names
    some = {first: damaged, **{name: paths[name] for name in others}}
    model, _, _ = disturbed()
    before = pixels(model)
    report = refine_tracks(model, some)
    seen = read_observations(model)
    assert report.unread_images == (first, second)
    assert report.num_aligned > 0
    for row in (0, 1):
        np.testing.assert_array_equal(pixels(model)[seen.of(row)], before[seen.of(row)])


def test_a_model_without_points_stays():
    report = refine_tracks(pycolmap.Reconstruction(), {})
    assert report.num_points == report.num_observations == report.num_aligned == 0


def test_a_refined_and_adjusted_model_is_more_exact(paths):
    errors = {}
    for is_refined in (False, True):
        model, _, _ = disturbed()
        seen = read_observations(model)
        sigmas = {image_id: np.full(model.images[image_id].num_points2D(), 0.4) for image_id in seen.image_ids}
        if is_refined:
            sigmas = refine_tracks(model, paths).sigmas_px
        assert adjust_by_precision(model, sigmas, {1})
        aligned = align_poses(dict(poses_of_model(model)), scene().cam_from_world_from_name)
        assert isinstance(aligned, AlignedPoses)
        errors[is_refined] = aligned.mean_center_error
    assert errors[True] < 0.5 * errors[False]


@pytest.mark.parametrize(
    "values",
    [
        {"patch_size": 14},
        {"patch_size": 5},
        {"max_shift_px": 0},
        {"max_sigma_px": 0},
        {"min_correlation": 1.5},
        {"num_iterations": 0},
        {"mode": "sometimes"},
    ],
)
def test_bad_options_are_named(values):
    (option,) = values
    with pytest.raises(ConfigError, match=f"refine.{option}"):
        RefinementConfig(**values)
