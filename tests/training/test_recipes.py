"""Recipes fit their features, their device and the length of the run."""

from __future__ import annotations

import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.registry.builtin import EXTRACTORS
from sfm_lightglue.training.data.batches import BatchConfig
from sfm_lightglue.training.options import TrainingConfig
from sfm_lightglue.training.recipes import RECIPES, recipe_of, scenes_per_shard_on_cpu, settings_with


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_settings_of_a_recipe_are_possible(name, device):
    """Its extractor exists with these options, and a network for its features can be trained."""
    settings = recipe_of(name).settings(device, 9.0, 16)
    EXTRACTORS.choose(settings.features.name, dict(settings.extractor_options))
    shares = {
        field: getattr(settings, field) for field in ("mirrored_share", "turned_share", "cropped_share", "scale_jitter")
    }
    batches = BatchConfig(settings.batch_size, settings.num_keypoints, **shares)
    config = TrainingConfig(
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
        optimizer=settings.optimizer,
        batches=batches,
        features=settings.features,
    )
    assert config.architecture.input_dim == settings.features.descriptor_dim
    assert settings.num_keypoints < settings.num_decay_keypoints
    assert (max(settings.mirrored_share, settings.turned_share) > 0) == settings.features.is_mirrorable


def test_all_recipes_have_their_names():
    assert {"sift", "aliked-n16rot", "xfeat"} == set(RECIPES)
    assert all(recipe.name == name and recipe.description for name, recipe in RECIPES.items())
    with pytest.raises(ConfigError, match=r"recipe 'xfaet' is unknown \(did you mean 'xfeat'\?\)"):
        recipe_of("xfaet")


def test_the_rate_is_that_of_the_runs_behind_the_weights_and_grows_with_the_batch():
    recipe = recipe_of("sift")
    on_gpu, on_cpu, large = recipe.settings("cuda"), recipe.settings("cpu"), recipe.settings("cpu", batch_size=1024)
    assert on_gpu.batch_size == 256 and on_gpu.learning_rate == pytest.approx(2.5e-3)
    assert on_cpu.batch_size == 16 and on_cpu.learning_rate == pytest.approx(2e-3)
    assert large.learning_rate == pytest.approx(2.5e-3 * 1.25**0.5)  # the same factor for each doubling


def test_a_gpu_leaves_one_core_to_the_trainer():
    recipe = recipe_of("sift")
    assert [recipe.settings("cuda", 9, cores).num_workers for cores in (1, 2, 16)] == [1, 1, 15]


def test_short_runs_have_small_shards():
    sizes = [scenes_per_shard_on_cpu(minutes) for minutes in (0.1, 0.5, 2, 5, 60, None)]
    assert sizes[0] == sizes[1] == 1 and sizes[-1] == sizes[-2] == 20
    assert sizes == sorted(sizes)
    recipe = recipe_of("sift")
    assert [recipe.settings("cuda", minutes).num_held_out_shards for minutes in (0.5, 9, None)] == [1, 2, 2]


def test_values_that_are_given_replace_those_of_the_recipe():
    settings = recipe_of("sift").settings("cpu")
    changed = settings_with(settings, num_layers=9, mirrored_share=0.0, num_heads=None)
    assert (changed.num_layers, changed.mirrored_share, changed.num_heads) == (9, 0.0, 2)
