"""The pipeline on paths, URLs, PIL images and arrays, with exact positions of matches."""

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
from sfm_lightglue.huggingface import image_loading
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
    """Two crops of one image, (width, height) `size` and less; a point moves by minus SHIFT."""
    image = textured(size[0], size[1], 3)
    return image, np.ascontiguousarray(image[SHIFT[1] :, SHIFT[0] :])


def errors_px(matches, shift=SHIFT) -> np.ndarray:
    points = [[[match[f"keypoint_image_{side}"][axis] for axis in "xy"] for match in matches] for side in (0, 1)]
    return np.linalg.norm(np.array(points[0]) - np.array(points[1]) - shift, axis=1)


@pytest.mark.parametrize("size", [WIDE, TALL])
def test_points_have_exact_positions_for_any_aspect_ratio(matcher, size):
    """Width and height are not swapped, fractions of a pixel are kept, and both images are scaled differently."""
    matches = matcher([*pair_of(size)], threshold=0.3)
    assert len(matches) > 30
    errors = errors_px(matches)
    assert np.median(errors) < 0.25 and (errors < 1).mean() > 0.7
    xs = np.array([match["keypoint_image_0"]["x"] for match in matches])
    assert np.abs(xs - xs.round()).mean() > 0.1
    assert xs.max() > SHIFT[0] + 0.5 * (size[0] - SHIFT[0])


def test_matches_are_dictionaries_by_descending_score(matcher):
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
    """Serves an image, a page, a slow response, and errors 404."""

    image = b""

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(1.0)
        body = b"<html>" if self.path == "/page" else self.image
        self.send_response(404 if self.path == "/absent" else 302 if self.path == "/moved" else 200)
        if self.path == "/moved":
            self.send_header("Location", "/image.png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """No log."""


@pytest.fixture(scope="module")
def url():
    buffer = BytesIO()
    PilImage.fromarray(pair_of(WIDE)[0]).save(buffer, "PNG")
    Server.image = buffer.getvalue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_paths_urls_and_arrays_give_equal_matches(matcher, tmp_path, url):
    first, second = pair_of(WIDE)
    path = write_photo(tmp_path / "a b.png", first)
    expected = matcher([first, second])
    forms = [path, str(path), PilImage.fromarray(first), torch.from_numpy(first), f"{url}/image.png"]
    for form in [*forms, f"{url}/moved"]:
        assert matcher([form, second]) == expected
    assert matcher((path, PilImage.fromarray(second))) == expected


def test_several_pairs_give_the_matches_of_each_pair(matcher):
    wide, tall = pair_of(WIDE), pair_of(TALL)
    alone = [matcher(list(wide)), matcher(list(tall)), matcher([tall[1], wide[0]])]
    pairs = [wide, list(tall), (tall[1], wide[0])]
    assert matcher(pairs) == alone
    assert matcher([wide]) == alone[0]
    for together, single in zip(matcher(pairs, batch_size=2), alone, strict=True):
        assert len(together) == len(single)
        for one, other in zip(together, single, strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-3)


def test_rotated_images_are_matched_upright(matcher, tmp_path):
    """With an EXIF orientation of 90 degrees, points are in the upright image."""
    first, second = pair_of(WIDE)
    stored = np.ascontiguousarray(np.rot90(first))  # rotated counterclockwise
    turned = write_photo(tmp_path / "turned.png", stored, orientation=6)
    assert matcher([turned, second]) == matcher([first, second])
    image = PilImage.fromarray(stored)
    image.getexif().update(make_exif(6))
    assert matcher([image, second]) == matcher([first, second])


def test_unreadable_images_are_named(matcher, tmp_path, url):
    second = pair_of(WIDE)[1]
    (tmp_path / "text.jpg").write_text("not an image")
    for bad, reason in [
        (tmp_path / "absent.jpg", "cannot be read"),
        (tmp_path / "text.jpg", "cannot be decoded"),
        (f"{url}/absent", "cannot be downloaded .*Not Found"),
        (f"{url}/page", "cannot be decoded"),
        ("http://127.0.0.1:1/x.jpg", "cannot be downloaded"),
    ]:
        with pytest.raises(DataError, match=reason) as caught:
            matcher([bad, second])
        assert str(bad) in str(caught.value)
    with pytest.raises(DataError, match=r"slow: cannot be downloaded \(.*timed out.*\)"):
        matcher([f"{url}/slow", second], timeout=0.1)


def test_large_downloads_are_refused(matcher, url, monkeypatch):
    monkeypatch.setattr(image_loading, "MAX_DOWNLOAD_BYTES", 1000)
    with pytest.raises(DataError, match="larger than"):
        matcher([f"{url}/image.png", pair_of(WIDE)[1]])


@pytest.mark.parametrize("inputs", [None, "a.jpg", ["a.jpg"], ["a.jpg", "b.jpg", "c.jpg"], [["a.jpg"], "b.jpg"]])
def test_other_values_than_pairs_are_refused(matcher, inputs):
    with pytest.raises(ValueError, match="expected a pair of images"):
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


def test_a_given_model_is_not_copied(weights):
    """`dtype` changes the model itself; "auto" keeps its type, and is float32 for a file."""
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
def test_black_parts_of_an_image_are_not_padding(weights, keep):
    """The content ends where that of an image with another aspect ratio would; below it, the image is black."""
    image = np.zeros((400, 800), np.uint8)
    image[:150] = textured(800, 150, 3)
    detector = {"model_type": "sift", "max_keypoints": 250}
    processor = LightGlueImageProcessor(size=(320, 320), keep_aspect_ratio=keep)
    matcher = pipeline(
        model=weights, image_processor=processor, filter_threshold=0.0, keypoint_detector_config=detector
    )
    ys = [match["keypoint_image_0"]["y"] for match in matcher([image, image])]
    assert len(ys) > 30
    assert 100 < max(ys) < 160


def test_the_processor_in_the_folder_of_the_model_is_used(weights, tmp_path):
    LightGlueForKeypointMatching.from_pretrained(weights).save_pretrained(tmp_path)
    assert pipeline(model=tmp_path).image_processor.size == {"height": 1024, "width": 1024}
    LightGlueImageProcessor(size=(64, 96)).save_pretrained(tmp_path)
    assert pipeline(model=str(tmp_path)).image_processor.size == {"height": 64, "width": 96}
    assert pipeline(model=weights, image_processor=tmp_path).image_processor.size == {"height": 64, "width": 96}


def test_a_model_with_sift_equals_extractor_and_matcher(weights):
    """Points and matches are those of the extractor and the matcher of a reconstruction."""
    first, second = pair_of(WIDE)
    processor = LightGlueImageProcessor(do_resize=False)
    found = pipeline(model=weights, image_processor=processor)([first, second])
    extractor = SiftExtractor(SiftConfig())
    features = [extractor.extract(Image.from_array(image)) for image in (first, second)]
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


def test_the_default_model_is_sift_with_the_weights_of_the_package(monkeypatch):
    """Offline, on real photographs of a wall with known homography."""
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
