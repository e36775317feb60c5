"""`track --finish` with all real parts on a few small frames."""

from __future__ import annotations

import json
from pathlib import Path

import PIL.Image
import pycolmap
import pytest

from pipelines.track import main
from sfm_lightglue.synthetic.corridor import small_corridor_loop

NUM_FRAMES = 12


def test_finish_gives_the_model_of_the_keyframes_longer_tracks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sequence, folder = small_corridor_loop(60, (480, 360)), tmp_path / "walk"
    folder.mkdir()
    for idx in range(NUM_FRAMES):
        PIL.Image.fromarray(sequence.image(idx)).save(folder / f"{idx}.png")
    params = ",".join(map(str, sequence.camera.params))
    flags = ("--camera-model", sequence.camera.model, "--camera-params", params, "--threads", "1", "--fps", "5")
    assert main([str(folder), "--finish", "--json", "--quiet", *flags, "--max-keypoints", "512"]) == 0
    summary = json.loads(capsys.readouterr().out)
    tracked, dense = (
        pycolmap.Reconstruction(folder / "tracking" / part) for part in ("sparse/0", "densified/sparse/0")
    )
    assert summary["num_posed"] == NUM_FRAMES
    assert summary["densified"]["output"] == str(folder / "tracking" / "densified")
    assert {image.name for image in dense.images.values()} == {image.name for image in tracked.images.values()}
    assert len(tracked.images) >= 2
    assert dense.compute_mean_track_length() > 1.2 * tracked.compute_mean_track_length()
    assert dense.compute_num_observations() > 0.8 * tracked.compute_num_observations()
    assert dense.compute_mean_reprojection_error() < 1.5
