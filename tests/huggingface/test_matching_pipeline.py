"""The one-liner on paths, addresses, PIL images and arrays: matches where they truly are."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from sfm_lightglue import LightGlueForKeypointMatching, LightGlueImageProcessor, pipeline
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.huggingface import matching_pipeline
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.weights.lookup import EMBEDDED_FOLDER
from tests.helpers.photos import make_exif, textured, write_photo
from tests.helpers.shared_data import shared_data
from tests.helpers.untrained import write_lightglue

SHIFT = (40, 25)
WIDE, TALL = (260, 170), (200, 290)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_lightglue(tmp_path_factory.mktemp("weights") / "lightglue.safetensors")


@pytest.fixture(scope="module")
def matcher(weights):
    processor = LightGlueImageProcessor(size=(320, 320))
    detector = {"model_type": "sift", "max_keypoints": 250}
    return pipeline("keypoint-matching", weights, processor, filter_threshold=0.0, keypoint_detector_config=detector)


def pair_of(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two views of one picture, (width, height) `size` and somewhat less; a point moves by minus SHIFT."""
    picture = textured(size[0], size[1], 3)
    return picture, np.ascontiguousarray(picture[SHIFT[1] :, SHIFT[0] :])


def errors_px(matches, shift=SHIFT) -> np.ndarray:
    points = [[[match[f"keypoint_image_{side}"][axis] for axis in "xy"] for match in matches] for side in (0, 1)]
    return np.linalg.norm(np.array(points[0]) - np.array(points[1]) - shift, axis=1)


@pytest.mark.parametrize("size", [WIDE, TALL])
def test_points_lie_where_they_are_in_pictures_of_any_shape(matcher, size):
    """(width, height), not the reverse; fractions of a pixel are kept; the two pictures are scaled differently."""
    matches = matcher([*pair_of(size)], threshold=0.3)
    assert len(matches) > 30
    errors = errors_px(matches)
    assert np.median(errors) < 0.25 and (errors < 1).mean() > 0.7
    xs = np.array([match["keypoint_image_0"]["x"] for match in matches])
    assert np.abs(xs - xs.round()).mean() > 0.1
    assert xs.max() > SHIFT[0] + 0.5 * (size[0] - SHIFT[0])


def test_matches_are_dictionaries_best_first(matcher):
    matches = matcher([*pair_of(WIDE)])
    scores = [match["score"] for match in matches]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] > 0
    assert matches[0].keys() == {"keypoint_image_0", "keypoint_image_1", "score"}
    assert matches[0]["keypoint_image_0"].keys() == {"x", "y"}
    middle = scores[len(scores) // 2]
    assert [match["score"] for match in matcher([*pair_of(WIDE)], threshold=middle)] == [
        s for s in scores if s > middle
    ]


class Server(BaseHTTPRequestHandler):
    """Serves a picture, a page, a slow answer, and nothing else."""

    picture = b""

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(1.0)
        body = b"<html>" if self.path == "/page" else self.picture
        self.send_response(404 if self.path == "/absent" else 302 if self.path == "/moved" else 200)
        if self.path == "/moved":
            self.send_header("Location", "/picture.png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture(scope="module")
def address():
    buffer = BytesIO()
    PilImage.fromarray(pair_of(WIDE)[0]).save(buffer, "PNG")
    Server.picture = buffer.getvalue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_picture_may_be_anywhere(matcher, tmp_path, address):
    first, second = pair_of(WIDE)
    path = write_photo(tmp_path / "a b.png", first)
    expected = matcher([first, second])
    forms = [path, str(path), PilImage.fromarray(first), torch.from_numpy(first), f"{address}/picture.png"]
    for form in [*forms, f"{address}/moved"]:
        assert matcher([form, second]) == expected
    assert matcher((path, PilImage.fromarray(second))) == expected


def test_many_pairs_are_each_as_if_alone(matcher):
    wide, tall = pair_of(WIDE), pair_of(TALL)
    alone = [matcher(list(wide)), matcher(list(tall)), matcher([tall[1], wide[0]])]
    pairs = [wide, list(tall), (tall[1], wide[0])]
    assert matcher(pairs) == alone
    assert matcher([wide]) == alone[:1]
    for together, single in zip(matcher(pairs, batch_size=2), alone, strict=True):
        assert len(together) == len(single)
        for one, other in zip(together, single, strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-3)


def test_turned_photos_are_matched_upright(matcher, tmp_path):
    """EXIF says that the stored picture must be turned clockwise; points lie in the upright one."""
    first, second = pair_of(WIDE)
    stored = np.ascontiguousarray(np.rot90(first))  # turned counterclockwise
    turned = write_photo(tmp_path / "turned.png", stored, orientation=6)
    assert matcher([turned, second]) == matcher([first, second])
    image = PilImage.fromarray(stored)
    image.getexif().update(make_exif(6))
    assert matcher([image, second]) == matcher([first, second])


def test_what_cannot_be_read_is_named(matcher, tmp_path, address):
    second = pair_of(WIDE)[1]
    (tmp_path / "text.jpg").write_text("no picture")
    for bad, reason in [
        (tmp_path / "absent.jpg", "cannot be read"),
        (tmp_path / "text.jpg", "not an image"),
        (f"{address}/absent", "cannot be fetched .*Not Found"),
        (f"{address}/page", "not an image"),
        ("http://127.0.0.1:1/x.jpg", "cannot be fetched"),
    ]:
        with pytest.raises(DataError, match=reason) as caught:
            matcher([bad, second])
        assert str(bad) in str(caught.value)
    with pytest.raises(DataError, match=r"slow: cannot be fetched \(.*timed out.*\)"):
        matcher([f"{address}/slow", second], timeout=0.1)


def test_endless_downloads_are_cut_off(matcher, address, monkeypatch):
    monkeypatch.setattr(matching_pipeline, "MAX_DOWNLOAD_BYTES", 1000)
    with pytest.raises(DataError, match="more than"):
        matcher([f"{address}/picture.png", pair_of(WIDE)[1]])


@pytest.mark.parametrize("inputs", [None, "a.jpg", ["a.jpg"], ["a.jpg", "b.jpg", "c.jpg"], [["a.jpg"], "b.jpg"]])
def test_what_is_no_pair_is_refused(matcher, inputs):
    with pytest.raises(ValueError, match="expected a pair of pictures"):
        matcher(inputs)


def test_options_are_checked(weights):
    with pytest.raises(ValueError, match="expected 'keypoint-matching'"):
        pipeline("keypoint-detection")
    with pytest.raises(ConfigError, match="did you mean 'filter_threshold'"):
        pipeline(model=weights, filter_treshold=0.1)
    with pytest.raises(ConfigError, match="device"):
        pipeline(model=weights, device="cuda:99")
    model = LightGlueForKeypointMatching.from_pretrained(weights)
    with pytest.raises(ConfigError, match="filter_threshold: set in the configuration"):
        pipeline(model=model, filter_threshold=0.1)
    assert pipeline(model=model, device=-1).device == torch.device("cpu")


def test_a_given_model_is_changed_itself(weights):
    """By `dtype`, but "auto" is as it is; a file is float32 then."""
    model = LightGlueForKeypointMatching.from_pretrained(weights)
    for dtype, expected in [("bfloat16", torch.bfloat16), ("auto", torch.bfloat16), (torch.float32, torch.float32)]:
        assert pipeline(model=model, dtype=dtype).model is model
        assert model.dtype == expected
    assert pipeline(model=weights, dtype="auto").model.dtype == torch.float32
    for bad in ("bfloat61", "int8", "nn"):
        with pytest.raises(ConfigError, match=rf"dtype: expected a floating-point type .* got '{bad}'"):
            pipeline(model=model, dtype=bad)
    assert model.dtype == torch.float32


@pytest.mark.parametrize("keep", [True, False])
def test_black_parts_of_a_picture_are_no_padding(weights, keep):
    """Content that ends where a letterboxed picture would: what is black below it is still the picture."""
    picture = np.zeros((400, 800), np.uint8)
    picture[:150] = textured(800, 150, 3)
    detector = {"model_type": "sift", "max_keypoints": 250}
    processor = LightGlueImageProcessor(size=(320, 320), keep_aspect_ratio=keep)
    matcher = pipeline(
        model=weights, image_processor=processor, filter_threshold=0.0, keypoint_detector_config=detector
    )
    ys = [match["keypoint_image_0"]["y"] for match in matcher([picture, picture])]
    assert len(ys) > 30
    assert 100 < max(ys) < 160


def test_the_processor_beside_the_model_is_used(weights, tmp_path):
    LightGlueForKeypointMatching.from_pretrained(weights).save_pretrained(tmp_path)
    assert pipeline(model=tmp_path).image_processor.size == {"height": 1024, "width": 1024}
    LightGlueImageProcessor(size=(64, 96)).save_pretrained(tmp_path)
    assert pipeline(model=str(tmp_path)).image_processor.size == {"height": 64, "width": 96}
    assert pipeline(model=weights, image_processor=tmp_path).image_processor.size == {"height": 64, "width": 96}


def test_sift_within_the_model_is_sift_and_our_matcher(weights):
    """The same points and matches as the extractor and the matcher of the reconstruction give."""
    first, second = pair_of(WIDE)
    processor = LightGlueImageProcessor(do_resize=False)
    found = pipeline(model=weights, image_processor=processor)([first, second])
    extractor = SiftExtractor(SiftConfig())
    features = [extractor.extract(Image.from_array(picture)) for picture in (first, second)]
    matches = LightGlueMatcher(LightGlueMatcherConfig(str(weights))).match(*features)
    assert len(matches) == len(found) > 30
    expected = {
        tuple(np.round(np.concatenate([features[0].keypoints[i], features[1].keypoints[j]]) - 0.5, 3))
        for i, j in matches.indices
    }
    ours = {
        tuple(
            np.round([match[f"keypoint_image_{side}"][axis] for side in (0, 1) for axis in "xy"], 3).astype(np.float32)
        )
        for match in found
    }
    assert len(expected & ours) >= 0.98 * len(expected)


def test_without_a_model_it_is_sift_with_the_weights_of_the_package(monkeypatch):
    """Offline, on real photographs of a wall, whose homography is known."""
    if not (EMBEDDED_FOLDER / "lightglue_sift.safetensors").is_file():
        pytest.skip("this checkout has no embedded weights")
    monkeypatch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
    graf = shared_data("homographies", "graf")
    matches = pipeline("keypoint-matching")([graf / "img1.png", str(graf / "img2.png")], threshold=0.2)
    assert len(matches) > 100
    points = [[[match[f"keypoint_image_{side}"][axis] for axis in "xy"] for match in matches] for side in (0, 1)]
    mapped = np.column_stack([np.array(points[0]), np.ones(len(matches))]) @ np.loadtxt(graf / "H1to2p").T
    errors = np.linalg.norm(mapped[:, :2] / mapped[:, 2:] - points[1], axis=1)
    assert (errors < 3).mean() > 0.85 and np.median(errors) < 1.2
