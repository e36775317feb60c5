"""Where processors differ from those of transformers 5.23, with the case that shows it; else they are equal."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from sfm_lightglue import LightGlueImageProcessor, LightGlueImageProcessorFast, SuperPointImageProcessor
from sfm_lightglue.errors import ConfigError, DataError
from tests.helpers.photos import textured, write_photo
from tests.helpers.two_libraries import THEIRS, needs_transformers

KINDS = [LightGlueImageProcessor, LightGlueImageProcessorFast]
SMALL = {"height": 24, "width": 32}
GREY = textured(50, 30)
RGB = np.stack([textured(50, 30, seed) for seed in range(3)], axis=-1)


def pixels(processor, image, **options):
    return processor([image, image], return_tensors="pt", **options)["pixel_values"][0, 0]


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_types_of_more_and_of_less_than_8_bits_are_scaled(kind):
    """Theirs takes the values as they are: masks become black, and 16 bit up to 257."""
    ours, theirs = kind(size=[30, 50]), THEIRS.matching_processor(size=[30, 50], do_resize=False)
    mask, deep = RGB > 100, RGB.astype(np.uint16) * 257
    expected = pixels(ours, RGB)
    torch.testing.assert_close(pixels(ours, deep), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(pixels(ours, torch.from_numpy(deep)), expected, atol=1e-6, rtol=0)
    assert torch.equal(pixels(ours, mask), pixels(ours, mask.astype(np.uint8) * 255))
    assert torch.equal(pixels(ours, PilImage.fromarray(GREY > 100)), pixels(ours, (GREY > 100).astype(np.uint8) * 255))
    assert float(pixels(theirs, deep).max()) > 100 and float(pixels(theirs, mask).max()) < 0.01
    for wide in (RGB.astype(np.int64), RGB.astype(np.int16)):
        assert torch.equal(pixels(ours, wide), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "bad",
    [
        RGB.astype(np.uint16),  # 8 bit in 16, or a dark image?
        RGB.astype(np.int32) * 257,
        RGB.astype(np.int16) - 9,
        RGB * np.float32(257),
        np.full((30, 50, 3), np.nan, np.float32),
        RGB.astype(complex),
    ],
)
def test_values_of_unknown_range_are_refused(kind, bad):
    with pytest.raises(ValueError, match="images: "):
        pixels(kind(), bad)


@needs_transformers
def test_palettes_are_converted_to_colours():
    """Theirs takes the indices of the palette for grey."""
    palette = PilImage.fromarray(RGB).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    assert torch.equal(pixels(LightGlueImageProcessor(), palette), pixels(LightGlueImageProcessor(), expected))
    assert float(pixels(THEIRS.matching_processor(do_resize=False), palette).max()) < 17 / 255


@needs_transformers
def test_images_of_different_shapes_are_padded():
    """Theirs fails for sizes that keep the aspect ratio, unless all images have the same."""
    pair, size = [RGB, RGB.transpose(1, 0, 2)], {"shortest_edge": 24}
    batch = LightGlueImageProcessor(size=size)(pair, return_tensors="pt")
    assert batch.pixel_values.shape == (1, 2, 3, 40, 40) and batch.image_sizes.tolist() == [[[24, 40], [40, 24]]]
    with pytest.raises(ValueError):
        THEIRS.matching_processor(size=size)(pair, return_tensors="pt")


@needs_transformers
def test_the_longest_edge_alone_is_a_size():
    """Theirs takes the key, and fails when it resizes."""
    processor = LightGlueImageProcessor(size={"longest_edge": 40})
    assert processor([RGB, RGB], return_tensors="pt").pixel_values.shape[-2:] == (24, 40)
    with pytest.raises(ValueError):
        THEIRS.matching_processor(size={"longest_edge": 40})([RGB, RGB])


@needs_transformers
def test_more_forms_of_pairs_are_taken():
    """Theirs takes lists and tuples of three-dimensional images only."""
    ours, theirs = LightGlueImageProcessor(size=SMALL), THEIRS.matching_processor(size=SMALL)
    for images in (np.stack([RGB, RGB]), [GREY, GREY]):
        assert ours(images, return_tensors="pt").pixel_values.shape == (1, 2, 3, 24, 32)
        with pytest.raises((ValueError, TypeError)):
            theirs(images, return_tensors="pt")


@needs_transformers
def test_positional_options_are_those_of_earlier_versions():
    """Version 4 has them by position; version 5 does not."""
    ours = LightGlueImageProcessor().preprocess([RGB, RGB], True, SMALL, 3, True, 1 / 255, False, "pt", "channels_last")
    assert ours.pixel_values.shape == (1, 2, 24, 32, 3)
    with pytest.raises(TypeError):
        THEIRS.matching_processor().preprocess([RGB, RGB], True, SMALL)


@needs_transformers
def test_normalization_and_padding_act():
    """Theirs takes these options, and does nothing."""
    options = {"do_normalize": True, "image_mean": 0.5, "image_std": [0.25, 0.25, 0.25]}
    plain = LightGlueImageProcessor(size=SMALL, keep_aspect_ratio=False)
    assert torch.equal(pixels(plain, RGB, **options), (pixels(plain, RGB) - 0.5) / 0.25)
    padded = plain([RGB, RGB], do_pad=True, pad_size={"height": 30, "width": 40}, return_tensors="pt")
    assert torch.equal(padded.pixel_values[0, 0, :, :24, :32], pixels(plain, RGB))
    assert padded.pixel_values.shape[-2:] == (30, 40) and not padded.pixel_values[..., 24:, :].any()
    assert padded.image_sizes.tolist() == [[[24, 32]] * 2]
    theirs = THEIRS.matching_processor(size=SMALL)
    assert torch.equal(pixels(theirs, RGB, **options), pixels(theirs, RGB))
    assert pixels(theirs, RGB, do_pad=True, pad_size={"height": 30, "width": 40}).shape[-2:] == (24, 32)
    with pytest.raises(ValueError, match="pad_size"):
        plain([RGB, RGB], do_pad=True, pad_size=9)
    with pytest.raises(ValueError, match="image_mean"):
        LightGlueImageProcessor(do_normalize=True)


@needs_transformers
def test_a_crop_is_not_done_and_ours_tells_it(caplog):
    options = {"do_center_crop": True, "crop_size": {"height": 8, "width": 8}}
    assert pixels(THEIRS.matching_processor(size=SMALL), RGB, **options).shape[-2:] == (24, 32)
    with caplog.at_level(logging.WARNING):
        assert pixels(LightGlueImageProcessor(size=SMALL), RGB, **options).shape[-2:] == (24, 32)
    assert "do_center_crop: not done" in caplog.text


def test_values_that_are_not_from_0_to_1_are_told(caplog):
    """Theirs says nothing."""
    with caplog.at_level(logging.WARNING):
        pixels(LightGlueImageProcessor(), RGB, do_rescale=False)
        pixels(LightGlueImageProcessor(), RGB / 255)
    assert "do_rescale=False: values up to 255" in caplog.text and "makes them black" in caplog.text


def test_unknown_and_impossible_options_are_named(tmp_path, caplog):
    with pytest.raises(TypeError, match="did you mean 'do_resize'"):
        LightGlueImageProcessor(do_rezise=True)
    with pytest.raises(TypeError, match="unknown option 'sizes'"):
        LightGlueImageProcessor()([RGB, RGB], sizes=SMALL)
    for wrong in ({"do_resize": 1}, {"do_rescale": "no"}, {"size": True}, {"resample": "cubist"}, {"image_std": "x"}):
        with pytest.raises((ValueError, TypeError)):
            LightGlueImageProcessor(**wrong)
    folder = tmp_path / "model"
    LightGlueImageProcessor().save_pretrained(folder)
    with caplog.at_level(logging.WARNING):
        LightGlueImageProcessor.from_pretrained(folder, do_rezise=False)
    assert "do_rezise is no option (did you mean 'do_resize'?)" in caplog.text
    for refused in ({"trust_remote_code": True}, {"do_resize": 3}):
        with pytest.raises(ConfigError, match=next(iter(refused))):
            LightGlueImageProcessor.from_pretrained(folder, **refused)
    with pytest.raises(ConfigError, match="push_to_hub"):
        LightGlueImageProcessor().save_pretrained(folder, push_to_hub=True)


@needs_transformers
def test_only_keywords_that_were_not_used_are_returned(tmp_path):
    """As documented; theirs returns all."""
    LightGlueImageProcessor().save_pretrained(tmp_path)
    keywords = {"do_resize": False, "foo": 1, "return_unused_kwargs": True}
    assert LightGlueImageProcessor.from_pretrained(tmp_path, **keywords)[1] == {"foo": 1}
    assert THEIRS.matching_processor.from_pretrained(tmp_path, **keywords)[1] == {"do_resize": False, "foo": 1}


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_transformers_stretch_and_ours_say_that_they_do_not(kind, tmp_path):
    """The same file gives the same pixels in both libraries."""
    THEIRS.matching_processor(size=SMALL).save_pretrained(tmp_path / "theirs")
    read = kind.from_pretrained(tmp_path / "theirs")
    assert read.keep_aspect_ratio is False
    expected = pixels(THEIRS.matching_processor.from_pretrained(tmp_path / "theirs"), RGB)
    tolerance = 1e-6 if kind is LightGlueImageProcessor else 1.5 / 255  # torch rounds as torchvision
    torch.testing.assert_close(pixels(read, RGB), expected, atol=tolerance, rtol=0)
    kind(size=SMALL, keep_aspect_ratio=True).save_pretrained(tmp_path / "ours")
    written = json.loads((tmp_path / "ours" / "preprocessor_config.json").read_text())
    assert written["keep_aspect_ratio"] is True and kind.from_pretrained(tmp_path / "ours").keep_aspect_ratio
    values = json.loads((tmp_path / "theirs" / "preprocessor_config.json").read_text())
    assert kind(**values).keep_aspect_ratio is False and kind().keep_aspect_ratio is True


def test_values_of_later_versions_are_kept(tmp_path):
    values = {"size": SMALL, "a_new_option": [1, 2], "image_processor_type": "LightGlueImageProcessorFast"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    processor = LightGlueImageProcessor.from_pretrained(tmp_path)
    assert processor.a_new_option == [1, 2] and processor.to_dict()["a_new_option"] == [1, 2]


def outputs(**more: object) -> SimpleNamespace:
    """The centre of the input and a point at its right, in both images."""
    return SimpleNamespace(
        keypoints=torch.tensor([[0.5, 0.5], [0.75, 0.25]]).expand(1, 2, 2, 2),
        mask=torch.ones(1, 2, 2, dtype=torch.int32),
        matches=torch.tensor([0, 1]).expand(1, 2, 2),
        matching_scores=torch.ones(1, 2, 2),
        **more,
    )


def test_outputs_without_sizes_need_a_stretched_input_or_the_batch():
    """A point of an image that is padded would be up to 100 % off."""
    letterbox, stretch = LightGlueImageProcessor(size=(100, 200)), LightGlueImageProcessor(size=(100, 200))
    stretch.keep_aspect_ratio = False
    square = [[(400, 400), (400, 400)]]
    with pytest.raises(ValueError, match="inputs="):
        letterbox.post_process_keypoint_matching(outputs(), square)
    (found,) = stretch.post_process_keypoint_matching(outputs(), square)
    assert found["keypoints0"][0].tolist() == pytest.approx([(100 + 0.5) * 2 - 0.5, (50 + 0.5) * 4 - 0.5])
    images = [np.zeros((400, 400, 3), np.uint8)] * 2
    batch = letterbox(images, return_tensors="pt")
    (found,) = letterbox.post_process_keypoint_matching(outputs(), square, inputs=batch)
    assert found["keypoints0"][0].tolist() == pytest.approx([(100 + 0.5) * 4 - 0.5, (50 + 0.5) * 4 - 0.5])
    (found,) = letterbox.post_process_keypoint_matching(outputs(), [[(200, 400), (50, 100)]])  # these fill the input
    assert found["keypoints1"][0].tolist() == pytest.approx([(100 + 0.5) / 2 - 0.5, (50 + 0.5) / 2 - 0.5])
    stretch(images, keep_aspect_ratio=True)  # now it is not known which images were padded
    with pytest.raises(ValueError, match="inputs="):
        stretch.post_process_keypoint_matching(outputs(), square)
    with pytest.raises(ValueError, match="inputs="):
        detections = SimpleNamespace(keypoints=torch.ones(1, 1, 2), mask=torch.ones(1, 1), scores=0, descriptors=0)
        SuperPointImageProcessor(keep_aspect_ratio=True).post_process_keypoint_detection(detections, [(9, 9)])


def test_sizes_in_the_wrong_order_are_refused_where_the_outputs_show_it():
    processor = LightGlueImageProcessor(size=(100, 200))
    told = outputs(image_sizes=torch.tensor([[[50, 200], [100, 25]]]), input_size=(100, 200))
    processor.post_process_keypoint_matching(told, [[(100, 400), (400, 100)]])
    with pytest.raises(ValueError, match=r"as \(width, height\)"):
        processor.post_process_keypoint_matching(told, [[(400, 100), (100, 400)]])
    for wrong in ([[(0, 5), (5, 5)]], [["a", "b"]], None):
        with pytest.raises(ValueError, match="target_sizes"):
            processor.post_process_keypoint_matching(told, wrong)
    with pytest.raises(ValueError, match="outputs: expected those of a model with mask"):
        processor.post_process_keypoint_matching(object(), [[(5, 5), (5, 5)]])


def test_unreadable_paths_are_named(tmp_path):
    good = write_photo(tmp_path / "good.png", RGB)
    with pytest.raises(DataError, match=r"absent\.png: cannot be read"):
        LightGlueImageProcessor()([str(good), str(tmp_path / "absent.png")])
    with pytest.raises(DataError, match="cannot be decoded"):
        LightGlueImageProcessor()([str(good), "data:image/png;base64,AAAA"])


@pytest.mark.parametrize("tells_frame", [True, False])
def test_options_that_are_set_after_a_call_do_not_tell_where_its_images_lie(tells_frame):
    """Points would be scaled by the new options; the batch tells the right ones."""
    processor = LightGlueImageProcessor(size=SMALL, keep_aspect_ratio=False)
    processor.size = (48, 32)  # before a call: no doubt
    processor.size = SMALL
    batch = processor([RGB, RGB], return_tensors="pt")
    outputs = SimpleNamespace(
        keypoints=torch.full((1, 2, 1, 2), 0.5),
        mask=torch.ones(1, 2, 1),
        matches=torch.zeros(1, 2, 1, dtype=torch.long),
        matching_scores=torch.ones(1, 2, 1),
        **({"input_size": (24, 32)} if tells_frame else {}),
    )
    sizes = [[(30, 50), (30, 50)]]
    processor.do_grayscale = False
    expected = processor.post_process_keypoint_matching(outputs, sizes)[0]["keypoints0"]
    processor.keep_aspect_ratio = True
    with pytest.raises(ValueError, match=r"give the batch of the processor as inputs="):
        processor.post_process_keypoint_matching(outputs, sizes)
    found = processor.post_process_keypoint_matching(outputs, sizes, inputs=batch)[0]["keypoints0"]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_files_have_no_device(kind, tmp_path):
    """Another machine may lack it."""
    kind(device="cpu").save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    values = json.loads(path.read_text())
    assert "device" not in values
    path.write_text(json.dumps(values | {"device": "cuda:7"}))
    again = kind.from_pretrained(tmp_path)
    assert again.device is None and "device" not in again.to_dict()
    assert kind.from_pretrained(tmp_path, device="cpu").device == "cpu"


def test_the_device_of_the_result_is_chosen():
    """Theirs takes `device` in the torchvision class only."""
    batch = LightGlueImageProcessor(size=SMALL)([RGB, RGB], device="meta", return_tensors="pt")
    assert batch.pixel_values.device.type == batch.image_sizes.device.type == "meta"
    for kind in KINDS:
        always = kind(size=SMALL, device="cpu")
        assert always.device == "cpu" and always([RGB, RGB], return_tensors="pt").image_sizes.device.type == "cpu"
