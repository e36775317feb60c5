"""Several processes that train one network together give the result of one process."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pipelines.train import main
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.training.checkpoints import LAST, load_checkpoint
from sfm_lightglue.training.replicas import Replicas
from sfm_lightglue.training.trainer import Trainer
from tests.helpers.checkout import ROOT
from tests.helpers.training_scenes import SHORT, TINY, make_batch, one_thread, prepare_run


def test_two_processes_train_like_one_and_can_resume_its_run(tmp_path):
    """Twelve steps of one process, then twelve of two, give the same weights as 24 steps of one process.

    The confidence heads are not compared: each process trains them with the first pairs of its own share.
    """
    arguments = prepare_run(tmp_path)
    alone, together = tmp_path / "alone", tmp_path / "together"
    with one_thread():
        assert main([*arguments, "--output", str(alone)]) == 0
        # With 16 steps, of which 4 are decay, the learning rate is constant up to step 12, as with 24 steps.
        assert main([*arguments, "--output", str(together), "--steps", "16"]) == 0
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pipelines.train"]
    command = [sys.executable, *launcher, *arguments, "--output", str(together)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("continuing after step 12 of 24") == 1, done.stdout
    one, other = load_checkpoint(alone / LAST), load_checkpoint(together / LAST)
    assert one is not None and other is not None and one["step"] == other["step"] == 24
    assert one["pool"]["residents"] == other["pool"]["residents"] == [1, 2]
    assert all(torch.equal(uses, other["pool"]["num_uses"][idx]) for idx, uses in one["pool"]["num_uses"].items())
    names = [name for name in one["network"] if not name.startswith("confidences.")]
    assert len(names) > 20
    for name in names:
        assert torch.allclose(one["network"][name], other["network"][name], atol=2e-4), name


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="4 pairs cannot be divided among 3 processes"):
        Trainer(TINY, SHORT, tmp_path, replicas=Replicas(0, 3))


def test_a_share_that_cannot_be_divided_into_parts_is_refused():
    with pytest.raises(ConfigError, match="6 pairs cannot be divided into 4 equal parts"):
        Replicas(0, 2).require_equal_shares(12, 4)


def test_a_single_process_keeps_the_whole_batch():
    batch = make_batch()
    tensor = torch.ones(3)
    replicas = Replicas()
    replicas.average([tensor])
    replicas.wait()
    assert replicas.share(batch, 0.1) is batch and replicas.is_first
    assert tensor.tolist() == [1.0, 1.0, 1.0]
