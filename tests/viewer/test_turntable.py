"""Films of a turn: size, number of frames and length, without Open3D."""

import cv2
import numpy as np
import pytest
from PIL import Image

from sfm_lightglue.errors import ConfigError, StoreError
from sfm_lightglue.viewer import show, turntable
from sfm_lightglue.viewer.open3d_worker import picture_name


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


def test_a_gif_is_as_long_as_asked_though_its_times_are_hundredths(pictures, tmp_path):
    turntable.write_turntable(pictures, tmp_path / "a.gif", 0.2)
    durations = []
    with Image.open(tmp_path / "a.gif") as film:
        for number in range(film.n_frames):
            film.seek(number)
            durations.append(film.info["duration"])
    assert sum(durations) == 200 and {*durations} == {30, 40}


def test_a_gif_that_browsers_show_more_slowly_is_refused(pictures, tmp_path):
    turntable.write_turntable(pictures, tmp_path / "a.gif", 0.12)
    with pytest.raises(ConfigError, match="at most 5"):
        turntable.write_turntable(pictures, tmp_path / "a.gif", 0.119)
    with pytest.raises(ConfigError, match="at most 50"):
        show.ViewConfig((tmp_path,), turntable=tmp_path / "a.gif", num_frames=51, seconds=1.0)
    show.ViewConfig((tmp_path,), turntable=tmp_path / "a.mp4", num_frames=51, seconds=1.0)


@pytest.mark.parametrize(("codecs", "told"), [(("vp09", "mp4v"), 0), (("mp4v",), 1)])
def test_another_codec_than_vp9_is_told(pictures, tmp_path, monkeypatch, caplog, codecs, told):
    def draw(contents, folder, job, limit_s):
        for number, path in enumerate(pictures):
            (folder / picture_name(number)).write_bytes(path.read_bytes())

    monkeypatch.setattr(show, "_run_worker", draw)
    monkeypatch.setattr(turntable, "CODECS", codecs)
    show.save_turntable(None, show.Look(), tmp_path / "a.mp4", (81, 61), len(pictures), 0.5)
    assert (tmp_path / "a.mp4").stat().st_size > 0
    assert [f"{tmp_path / 'a.mp4'} has the codec MPEG-4" in message for message in caplog.messages] == [True] * told


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
