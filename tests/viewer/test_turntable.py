"""Films of a turn: size, number of frames and length, without Open3D."""

import cv2
import numpy as np
import pytest
from PIL import Image

from sfm_lightglue.errors import StoreError
from sfm_lightglue.viewer import turntable


@pytest.fixture
def pictures(tmp_path):
    paths = []
    for number in range(6):
        pixels = np.full((61, 81, 3), 20, np.uint8)
        pixels[:, 10 * number : 10 * number + 10] = (250, 180, 30)
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_a_gif_has_all_frames_and_repeats(pictures, tmp_path):
    turntable.write_turntable(pictures, tmp_path / "a.gif", 1.2)
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.size, film.n_frames, film.info["loop"]) == ((81, 61), 6, 0)
        durations = []
        for number in range(6):
            film.seek(number)
            durations.append(film.info["duration"])
            pixels = np.asarray(film.convert("RGB")).astype(int)
            assert np.abs(pixels[30, 10 * number + 5] - (250, 180, 30)).max() < 12
        assert sum(durations) == 1200


def test_a_film_has_all_frames_an_even_size_and_its_rate(pictures, tmp_path):
    turntable.write_turntable(pictures, tmp_path / "a.mp4", 0.5)
    film = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    frames = []
    while True:
        is_read, pixels = film.read()
        if not is_read:
            break
        frames.append(pixels)
    assert len(frames) == 6 and frames[0].shape == (60, 80, 3)
    for number, pixels in enumerate(frames):
        assert np.abs(pixels[30, 10 * number + 5].astype(int) - (30, 180, 250)).max() < 40


def test_without_a_codec_a_gif_is_suggested(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(turntable, "CODECS", ())
    with pytest.raises(StoreError, match=r"name it a\.gif"):
        turntable.write_turntable(pictures, tmp_path / "a.mp4", 0.5)
