"""The pipeline of the documentation, with the same small model in both libraries; and each with parts of the other."""

from __future__ import annotations

import copy
import logging
import pickle

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

import sfm_lightglue
from sfm_lightglue import LightGlueForKeypointMatching, LightGlueImageProcessor, pipeline
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.host_pipelines import host_swaps_sizes
from sfm_lightglue.huggingface.matching_pipeline import KeypointMatchingPipeline
from tests.helpers.both_libraries import LIBRARIES
from tests.helpers.file_server import file_server
from tests.helpers.matching_references import make_inputs, make_reference
from tests.helpers.two_libraries import THEIRS, in_both

TheirModel = pytest.importorskip("transformers").LightGlueForKeypointMatching

FRAME = {"height": 64, "width": 88}
TASK = "keypoint-matching"
ADAPTIVE = {"depth_confidence": 0.95, "width_confidence": 0.99}


def image(side: int, width: int, height: int) -> PilImage.Image:
    """The first or the second image of a pair in which the model finds matches, in another size."""
    pixels = (make_inputs(1)[0, side].clamp(0, 1) * 255).round().to(torch.uint8)
    return PilImage.fromarray(pixels.permute(1, 2, 0).numpy()).resize((width, height), PilImage.Resampling.BICUBIC)


WIDE, TALL = image(0, 300, 120), image(1, 100, 260)


@pytest.fixture(scope="module")
def theirs():
    return make_reference(**ADAPTIVE)


@pytest.fixture(scope="module")
def folder(theirs, tmp_path_factory):
    """A model and a processor as transformers writes them."""
    path = tmp_path_factory.mktemp("small_lightglue")
    theirs.save_pretrained(path)
    THEIRS.matching_processor(size=FRAME).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def ours(folder):
    return pipeline(TASK, model=folder)


def points(matches) -> np.ndarray:
    """[M, 5]: x, y in the first image, x, y in the second, and the score."""
    rows = [
        [match[f"keypoint_image_{side}"][axis] for side in (0, 1) for axis in "xy"] + [match["score"]]
        for match in matches
    ]
    return np.array(sorted(rows)).reshape(-1, 5)


@in_both
def test_the_result_has_the_documented_form(library, folder):
    matcher = library.pipeline(TASK, model=str(folder), image_processor=str(folder))
    single = matcher([WIDE, TALL])
    assert len(single) > 5 and single[0].keys() == {"keypoint_image_0", "keypoint_image_1", "score"}
    assert single[0]["keypoint_image_1"].keys() == {"x", "y"} and isinstance(single[0]["score"], float)
    scores = [match["score"] for match in single]
    assert scores == sorted(scores, reverse=True)
    assert matcher([[WIDE, TALL]]) == single  # one pair in a list is one pair
    assert matcher([[WIDE, TALL], [WIDE, TALL]]) == [single, single]
    some = matcher([WIDE, TALL], threshold=scores[3])
    assert [match["score"] for match in some] == [score for score in scores if score > scores[3]]


@in_both
def test_images_are_paths_addresses_and_pil_images(library, folder, tmp_path):
    matcher = library.pipeline(TASK, model=str(folder), image_processor=str(folder), device=-1)
    WIDE.save(tmp_path / "wide.png")
    expected = matcher([WIDE, TALL])
    with file_server() as server:
        server.content = (tmp_path / "wide.png").read_bytes()
        assert matcher([server.url, TALL], timeout=20) == expected
    assert matcher([str(tmp_path / "wide.png"), TALL]) == expected


@in_both
@pytest.mark.parametrize("inputs", [None, WIDE, [WIDE], [WIDE] * 3, [[WIDE], [TALL]], [[WIDE, 7]]])
def test_other_inputs_are_refused(library, folder, inputs):
    with pytest.raises(ValueError):
        library.pipeline(TASK, model=str(folder), image_processor=str(folder))(inputs)


@in_both
def test_pipelines_are_objects_with_their_parts(library, folder, tmp_path):
    matcher = library.pipeline(TASK, model=str(folder), image_processor=str(folder), device="cpu", dtype="auto")
    assert matcher.task == TASK and matcher.device == torch.device("cpu") and matcher.dtype == torch.float32
    assert matcher.tokenizer is matcher.feature_extractor is None and not matcher.model.training
    assert matcher.predict([WIDE, TALL]) == matcher.transform([WIDE, TALL]) == matcher([WIDE, TALL])
    matcher.save_pretrained(tmp_path / library.name)
    again = library.pipeline(TASK, model=str(tmp_path / library.name), image_processor=str(tmp_path / library.name))
    assert again([WIDE, TALL]) == matcher([WIDE, TALL])
    assert "KeypointMatchingPipeline" in repr(matcher) and "float32" in repr(matcher)


def test_the_same_files_give_the_same_matches(folder, ours):
    """Scores are equal. Theirs calls the width height and rounds: for square images, points differ by that alone."""
    square = [image(0, 220, 220), image(1, 220, 220)]
    other = THEIRS.pipeline(TASK, model=str(folder), image_processor=str(folder))
    mine, their = ours(square), other(square)
    assert len(mine) == len(their) > 5
    assert [match["score"] for match in mine] == pytest.approx([match["score"] for match in their], abs=1e-5)
    shift = np.tile(0.5 * (220 / np.array([88, 64]) - 1), 2)
    distance = np.abs(points(mine)[:, :4] - shift - points(their)[:, :4])
    assert np.median(distance) < 1 and (distance < 1.01).mean() > 0.9  # equal scores can change the order


def test_the_positions_are_those_of_the_model_output(folder, ours, theirs):
    """With sizes that differ from each other and from the input; theirs gives (width, height) for (height, width)."""
    processor = LightGlueImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        outputs = theirs(processor([WIDE, TALL], return_tensors="pt").pixel_values)
    index = outputs.matches[0, 0]
    kept = (index > -1) & (outputs.matching_scores[0, 0] > 0)
    expected = []
    for side, rows, image in ((0, kept.nonzero()[:, 0], WIDE), (1, index[kept], TALL)):
        inside = outputs.keypoints[0, side, rows].double().numpy() * (88, 64)
        expected.append((inside + 0.5) * (np.array(image.size) / (88, 64)) - 0.5)
    expected = np.array(sorted(map(tuple, np.hstack(expected))))
    assert points(ours([WIDE, TALL]))[:, :4] == pytest.approx(expected, abs=1e-3)
    xs = points(THEIRS.pipeline(TASK, model=theirs, image_processor=processor.from_pretrained(folder))([WIDE, TALL]))
    assert xs[:, :4] == pytest.approx(expected, abs=1e-3)  # ours in their pipeline: the sizes are put right
    swapped = points(
        THEIRS.pipeline(TASK, model=theirs, image_processor=THEIRS.matching_processor(size=FRAME))([WIDE, TALL])
    )
    assert xs[:, 0].max() > 150 and swapped[:, 0].max() < 121  # theirs: no point in the right half of the wide image


def test_our_processor_in_their_pipeline_gives_right_points_for_batches(theirs, folder, ours):
    processor = LightGlueImageProcessor.from_pretrained(folder)
    pairs = [[WIDE, TALL], [TALL, WIDE], [WIDE, WIDE]]
    alone = [points(ours(pair)) for pair in pairs]
    host = THEIRS.pipeline(TASK, model=theirs, image_processor=processor)
    for keywords in ({}, {"num_workers": 1}):
        for matches, expected in zip(host(pairs, **keywords), alone, strict=True):
            assert points(matches) == pytest.approx(expected, abs=1e-3)
    for kind in (processor, THEIRS.matching_processor(size=FRAME)):  # their pipeline cannot make a batch of pairs
        with pytest.raises(TypeError, match="must be a mapping"):
            THEIRS.pipeline(TASK, model=theirs, image_processor=kind)(pairs, batch_size=2)
    assert [len(each) for each in ours(pairs, batch_size=2)] == [len(each) for each in alone]


def test_our_model_in_their_pipeline_gives_right_points(folder, ours):
    model = LightGlueForKeypointMatching.from_pretrained(folder)
    host = THEIRS.pipeline(TASK, model=model, image_processor=LightGlueImageProcessor.from_pretrained(folder))
    assert points(host([WIDE, TALL])) == pytest.approx(points(ours([WIDE, TALL])), abs=1e-3)


def test_padded_images_in_their_pipeline_are_refused(theirs, folder):
    """Neither their model nor their pipeline tells how an image was padded."""
    for model in (theirs, LightGlueForKeypointMatching.from_pretrained(folder)):
        host = THEIRS.pipeline(TASK, model=model, image_processor=LightGlueImageProcessor(size=FRAME))
        with pytest.raises(ValueError, match=r"use sfm_lightglue\.pipeline"):
            host([WIDE, TALL])


def test_a_pipeline_that_does_not_tell_the_order_of_its_sizes_is_refused():
    class Host:
        def preprocess(self, images):
            return {"target_sizes": [(1, 1), (1, 1)]}

    scope: dict[str, object] = {"__name__": "transformers.pipelines.new", "host_swaps_sizes": host_swaps_sizes}
    exec("def postprocess(self):\n    return host_swaps_sizes()", scope)
    with pytest.raises(ValueError, match="gives sizes"):
        scope["postprocess"](Host())
    Host.preprocess = lambda self, images: {}
    with pytest.raises(ValueError, match="does not tell"):
        scope["postprocess"](Host())
    Host.preprocess = lambda self, images: {"target_sizes": [(image.height, image.width) for image in images]}
    assert scope["postprocess"](Host()) is False
    assert host_swaps_sizes() is False


@pytest.mark.parametrize("keep", [True, False])
def test_their_model_in_our_pipeline(theirs, folder, keep):
    """Padded or stretched, positions are right: the same pair, matched with itself, has each point twice."""
    processor = LightGlueImageProcessor(size=FRAME, keep_aspect_ratio=keep)
    found = points(pipeline(TASK, model=theirs, image_processor=processor)([WIDE, WIDE]))
    same = LightGlueForKeypointMatching.from_pretrained(folder)
    expected = points(pipeline(TASK, model=same, image_processor=processor)([WIDE, WIDE]))
    if keep:  # points in the padding exist in their model only
        found = found[(found[:, [1, 3]] < 115).all(1)]
        assert len(found) > 5 and found[:, 0].max() > 200
    else:
        assert found == pytest.approx(expected, abs=1e-3)
    assert found[:, :2] == pytest.approx(found[:, 2:4], abs=1e-3)


def test_their_processor_and_their_default(theirs, folder, ours):
    """A processor of transformers is used as it is; points keep their fractions and order of sizes."""
    expected = points(ours([WIDE, TALL]))
    given = pipeline(TASK, model=theirs, image_processor=THEIRS.matching_processor(size=FRAME))
    assert points(given([WIDE, TALL])) == pytest.approx(expected, abs=1e-3)
    loaded = TheirModel.from_pretrained(folder)
    assert points(pipeline(TASK, model=loaded)([[WIDE, TALL]] * 2)[1]) == pytest.approx(expected, abs=1e-3)
    assert pipeline(TASK, model=theirs).image_processor.keep_aspect_ratio is False


def test_keywords_of_the_pipeline(folder, ours, caplog):
    expected = ours([WIDE, TALL])
    processor = LightGlueImageProcessor.from_pretrained(folder)

    class Processor:
        image_processor = processor

    for keywords in (
        {"framework": "pt", "num_workers": 2, "batch_size": 2, "device": "cpu"},
        {"model_kwargs": {"dtype": "float32"}, "revision": "main", "use_fast": True, "token": None},
        {"image_processor": None, "processor": Processor(), "trust_remote_code": False},
        {"feature_extractor": processor, "local_files_only": True, "device_map": "cpu"},
        {"pipeline_class": KeypointMatchingPipeline, "torch_dtype": torch.float32, "config": str(folder)},
    ):
        found = pipeline(TASK, model=folder, **keywords)([[WIDE, TALL], [WIDE, TALL]])[1]
        assert points(found) == pytest.approx(points(expected), abs=1e-3)
    assert pipeline(model=folder, model_kwargs={"filter_threshold": 0.5}).model.config.filter_threshold == 0.5
    with caplog.at_level(logging.WARNING):
        pipeline(TASK, model=folder, tokenizer="words", attn_implementation="sdpa", device=0)
    assert "tokenizer" in caplog.text and "attn_implementation" in caplog.text
    if not torch.cuda.is_available():
        assert "device=0: there is no GPU here" in caplog.text


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"framework": "tf"}, "framework"),
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"device": "cpu", "device_map": "cpu"}, "exclude each other"),
        ({"revision": "a", "model_kwargs": {"revision": "b"}}, "revision: is given twice"),
        ({"pipeline_class": 3}, "pipeline_class"),
        ({"device": "cuda:99"}, "device"),
    ],
)
def test_impossible_keywords_are_refused(folder, keywords, reason):
    with pytest.raises(ConfigError, match=reason):
        pipeline(TASK, model=folder, **keywords)


def test_the_threshold_of_the_pipeline_holds_for_its_calls(folder, ours):
    """Theirs takes it, and each call resets it to 0."""
    scores = [match["score"] for match in ours([WIDE, TALL])]
    middle = scores[len(scores) // 2]
    strict = pipeline(TASK, model=folder, threshold=middle)
    assert len(strict([WIDE, TALL])) == sum(score > middle for score in scores)
    assert len(strict([WIDE, TALL], threshold=0.0)) == len(scores)
    other = THEIRS.pipeline(TASK, model=str(folder), image_processor=str(folder), threshold=middle)
    assert min(match["score"] for match in other([WIDE, TALL])) <= middle
    for wrong in ({"batch_size": 0}, {"num_workers": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ours([WIDE, TALL], **wrong)
    with pytest.raises(ConfigError, match="expected a name, a path"):
        pipeline(TASK, model=3)


def test_the_class_is_made_of_a_model_and_a_processor(folder, ours):
    model = LightGlueForKeypointMatching.from_pretrained(folder)
    processor = LightGlueImageProcessor.from_pretrained(folder)
    made = sfm_lightglue.KeypointMatchingPipeline(model=model, image_processor=processor, device="cpu", task=TASK)
    assert made([WIDE, TALL]) == ours([WIDE, TALL])
    assert type(KeypointMatchingPipeline(model).image_processor) is LightGlueImageProcessor


def test_outputs_without_early_stopping(tmp_path):
    """Theirs returns [2 B, N] instead of [B, 2, N] for them, and its pipeline fails."""
    model = make_reference()
    processor = LightGlueImageProcessor(size=FRAME, keep_aspect_ratio=False)
    assert len(pipeline(TASK, model=model, image_processor=processor)([WIDE, TALL])) > 5
    with pytest.raises(IndexError):
        THEIRS.pipeline(TASK, model=model, image_processor=THEIRS.matching_processor(size=FRAME))([WIDE, TALL])


@in_both
def test_the_class_takes_the_keywords_of_its_documentation(library, folder, ours):
    """All parts by keyword; those for other media are empty."""
    host = LIBRARIES[library.name]
    model = host.LightGlueForKeypointMatching.from_pretrained(folder)
    processor = library.matching_processor.from_pretrained(folder)
    empty = {"tokenizer": None, "feature_extractor": None, "video_processor": None, "binary_output": False}
    for parts in ({"image_processor": processor, "processor": None}, {"processor": Holder(processor)}):
        made = host.KeypointMatchingPipeline(model=model, torch_dtype="float32", device=-1, **parts, **empty)
        assert made.image_processor is processor and made.dtype == torch.float32
        assert made((WIDE, TALL))[0]["score"] == pytest.approx(ours([WIDE, TALL])[0]["score"], abs=1e-5)
    with pytest.raises(TypeError):
        host.KeypointMatchingPipeline(model=model, image_processor=processor, tresholds=0.3)


class Holder:
    """A processor of several parts."""

    tokenizer = feature_extractor = None

    def __init__(self, image_processor) -> None:
        self.image_processor = image_processor


@in_both
def test_pipelines_are_copied_and_pickled(library, folder):
    matcher = library.pipeline(TASK, model=str(folder), image_processor=str(folder), device="cpu")
    expected = matcher([WIDE, TALL])
    for again in (copy.deepcopy(matcher), pickle.loads(pickle.dumps(matcher))):
        assert again([WIDE, TALL]) == expected


def test_parts_for_other_media_are_refused_and_types_act(folder):
    """Theirs takes and ignores both."""
    model = LightGlueForKeypointMatching.from_pretrained(folder)
    assert KeypointMatchingPipeline(model, dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="tokenizer must be empty"):
        KeypointMatchingPipeline(model, tokenizer=object())
