"""Options of the executor, and their flags."""

from __future__ import annotations

import pytest

from pipelines import colmap, reconstruct
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.config import ExecutorConfig
from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "slurm"}, "executor: name: expected one of threads, folder, ray"),
        ({"images_per_batch": 0}, "`executor.images_per_batch` must be at least 1"),
        ({"pairs_per_batch": -1}, "`executor.pairs_per_batch` must be at least 1"),
        ({"lease_s": 0.5}, "`executor.lease_s` must lie in"),
        ({"max_tasks": -1}, "`executor.max_tasks` must not be negative"),
        ({"gpus_per_task": -0.5}, "`executor.gpus_per_task` must not be negative"),
        ({"name": "folder", "address": "auto"}, "`executor.address` 'auto' is for `executor.name` ray, not folder"),
    ],
)
def test_bad_options_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DatabaseConfig.from_mapping({"executor": values})
    assert message in str(caught.value)


def test_the_default_is_this_process() -> None:
    assert ReconstructConfig().executor == ExecutorConfig("threads")


def test_both_commands_have_the_flags() -> None:
    flags = ["--executor", "ray", "--executor-address", "ray://head:10001", "--set", "executor.max_tasks=9"]
    first = reconstruct.build_parser().parse_args(["photos", *flags])
    second = colmap.build_parser().parse_args(["new.db", "photos", *flags])
    for arguments, config_type in ((first, ReconstructConfig), (second, DatabaseConfig)):
        values = reconstruct.config_values(arguments, config_type)
        expected = ExecutorConfig("ray", "ray://head:10001", max_tasks=9)
        assert config_type.from_mapping(values).executor == expected
