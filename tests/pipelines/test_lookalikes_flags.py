"""--lookalikes and --trust-pairs: what they set, and which lists are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.reconstruct import build_parser, config_values, main
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.reconstruction.config import ReconstructConfig


def config_of(*arguments: str) -> ReconstructConfig:
    parsed = build_parser().parse_args(["photos", *arguments])
    return ReconstructConfig.from_mapping(config_values(parsed, ReconstructConfig))


def test_the_flags_set_the_table(tmp_path: Path) -> None:
    listed = tmp_path / "pairs.txt"
    listed.write_text("a.jpg b.jpg\n")
    assert config_of().lookalikes.mode == "auto"
    lookalikes = config_of("--lookalikes", "strict", "--trust-pairs", str(listed)).lookalikes
    assert lookalikes.mode == "strict"
    assert lookalikes.trust_pairs_file == listed
    with pytest.raises(ConfigError, match=r"--trust-pairs .*no such file"):
        config_of("--trust-pairs", str(tmp_path / "missing.txt"))


def test_an_unknown_name_is_an_error_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    listed = tmp_path / "pairs.txt"
    listed.write_text("a.png b.png\na.png c.png\n")
    code = main([str(tmp_path), "--trust-pairs", str(listed), "--quiet", "--output", str(tmp_path / "output")])
    assert code == 3
    message = capsys.readouterr().err
    assert f"{listed}:2" in message
    assert "c.png" in message
