"""The image processor: values of `transformers` for stretched images, exact positions of points for all options."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from sfm_lightglue import LightGlueImageProcessor, LightGlueImageProcessorFast
from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.huggingface.letterbox import fit_within
from tests.helpers.photos import textured

TheirProcessor = pytest.importorskip("transformers").LightGlueImageProcessorPil

KINDS = [LightGlueImageProcessor, LightGlueImageProcessorFast]


def colours(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    return np.stack([textured(width, height, seed) for seed in range(3)], axis=-1)


PAIR = [colours(90, 130), colours(140, 70, 1)]


@pytest.mark.parametrize("resample", [0, 1, 2, 3])
@pytest.mark.parametrize("do_grayscale", [True, False])
def test_stretched_images_equal_those_of_transformers(resample, do_grayscale):
    options = {"resample": resample, "do_grayscale": do_grayscale, "size": {"height": 96, "width": 128}}
    theirs = TheirProcessor(**options)([PAIR, PAIR[::-1]], return_tensors="pt")
    ours = LightGlueImageProcessor(keep_aspect_ratio=False, **options)([PAIR, PAIR[::-1]], return_tensors="pt")
    assert ours.keys() - theirs.keys() == {"image_sizes"}
    assert ours.image_sizes.tolist() == [[[96, 128]] * 2] * 2
    assert ours.pixel_values.shape == (2, 2, 3, 96, 128)
    torch.testing.assert_close(ours.pixel_values, theirs["pixel_values"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("resample", [2, 3])
def test_torch_and_pillow_give_equal_images(resample):
    pairs = [smooth(200, 300), smooth(60, 40)]
    options = {"resample": resample, "return_tensors": "pt"}
    pillow, fast = (kind(size=(96, 128))(pairs, **options) for kind in KINDS)
    assert torch.equal(pillow.image_sizes, fast.image_sizes)
    torch.testing.assert_close(fast.pixel_values, pillow.pixel_values, atol=1.5 / 255, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_images_keep_their_aspect_ratio_and_are_padded(kind):
    batch = kind(size={"height": 96, "width": 128})(PAIR, return_tensors="pt")
    assert batch.image_sizes.tolist() == [[[89, 128], [96, 48]]]
    pixels = batch.pixel_values
    assert float(pixels[0, 0, :, 89:].abs().max()) == 0 and float(pixels[0, 1, :, :, 48:].abs().max()) == 0
    assert float(pixels[0, 0, :, :89].amin()) >= 0 and float(pixels[0, 0, :, 88].amax()) > 0
    stretched = kind(size=(96, 48), keep_aspect_ratio=False)(PAIR, return_tensors="pt").pixel_values
    assert torch.equal(pixels[0, 1, :, :, :48], stretched[0, 1])  # 140 x 70 and 96 x 48 have the same aspect ratio


@pytest.mark.parametrize(
    ("size", "frame", "expected"),
    [
        ((480, 640), (480, 640), (480, 640)),
        ((1000, 1000), (480, 640), (480, 480)),
        ((10, 10), (480, 640), (480, 480)),
        ((1, 9000), (480, 640), (1, 640)),
        ((9000, 2), (480, 640), (480, 1)),
        ((333, 777), (333, 776), (333, 776)),
    ],
)
def test_a_fitted_image_fills_one_side_of_the_frame(size, frame, expected):
    assert fit_within(size, frame) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_all_forms_of_an_image_give_the_same_result(kind):
    """PIL images, arrays and tensors, channels first and last, by `__call__` and `preprocess`."""
    height, width = 40, 60
    array = colours(height, width)
    first = np.ascontiguousarray(array.transpose(2, 0, 1))
    forms = [PilImage.fromarray(array), array, first, torch.from_numpy(array), torch.from_numpy(first)]
    processor = kind(size=(32, 32))
    expected = processor([array, array], return_tensors="pt").pixel_values
    for form in forms:
        assert torch.equal(processor.preprocess([form, array], return_tensors="pt").pixel_values, expected)
        assert torch.equal(processor([(form, form)], return_tensors="pt").pixel_values, expected)
    for stacked in (np.stack([array, array]), torch.stack([torch.from_numpy(first)] * 2)[None]):
        assert torch.equal(processor(stacked, return_tensors="pt").pixel_values, expected)
    floats = processor([array / 255.0, array / 255.0], do_rescale=False, return_tensors="pt").pixel_values
    torch.testing.assert_close(floats, expected, atol=1.1 / 255, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_grey_and_transparent_images(kind):
    grey = textured(60, 40)
    processor = kind(size=(40, 60))
    expected = torch.from_numpy(grey / np.float32(255)).expand(1, 2, 3, -1, -1)
    deep = PilImage.fromarray(grey.astype(np.uint16) * 257)
    rgba = PilImage.fromarray(grey).convert("RGBA")
    for form in (grey, grey[None], grey[..., None], PilImage.fromarray(grey), deep, rgba):
        pixels = processor([form, form], return_tensors="pt").pixel_values
        torch.testing.assert_close(pixels, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_can_be_switched_off(kind):
    raw = kind(do_resize=False, do_rescale=False, do_grayscale=False)(PAIR, return_tensors="pt")
    assert raw.pixel_values.shape == (1, 2, 3, 140, 130) and raw.image_sizes.tolist() == [[[90, 130], [140, 70]]]
    assert torch.equal(raw.pixel_values[0, 1, :, :, :70], torch.from_numpy(PAIR[1]).permute(2, 0, 1).float())
    scaled = kind(rescale_factor=0.5)(PAIR, do_resize=False, do_grayscale=False, return_tensors="pt")
    assert torch.equal(scaled.pixel_values, raw.pixel_values * 0.5)
    grey = kind(do_resize=False)(PAIR, do_rescale=False, return_tensors="pt").pixel_values[0, 0, :, :90]
    expected = torch.from_numpy(PAIR[0] @ np.array([0.2989, 0.587, 0.114])).float().expand(3, -1, -1)
    torch.testing.assert_close(grey, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_results_have_the_requested_type(kind):
    processor = kind(size=(32, 48))
    tensors, arrays, lists = (processor(PAIR, return_tensors=each) for each in ("pt", "np", None))
    assert isinstance(arrays.pixel_values, np.ndarray) and isinstance(arrays["image_sizes"], np.ndarray)
    assert np.array_equal(arrays.pixel_values, tensors.pixel_values.numpy())
    assert isinstance(lists.pixel_values, list) and np.array_equal(lists.pixel_values[0], arrays.pixel_values[0])
    last = processor(PAIR, return_tensors="pt", data_format="channels_last").pixel_values
    assert torch.equal(last.permute(0, 1, 4, 2, 3), tensors.pixel_values)
    moved = tensors.to(torch.float16)
    assert moved.pixel_values.dtype == torch.float16 and moved.image_sizes.dtype == torch.int64
    with pytest.raises(AttributeError):
        tensors.nothing  # noqa: B018


def test_the_fast_processor_uses_the_given_device():
    processor = LightGlueImageProcessorFast(device="meta", size=(32, 48), do_grayscale=False, do_rescale=False)
    assert processor(PAIR, return_tensors="pt", device="cpu").pixel_values.device.type == "cpu"
    assert processor.device == "meta"
    with pytest.raises(ValueError, match="use LightGlueImageProcessor"):
        LightGlueImageProcessorFast(resample=1)


@pytest.mark.parametrize("kind", KINDS)
def test_ambiguous_channels_are_refused(kind):
    odd = colours(3, 3)
    with pytest.raises(ValueError, match="both axes"):
        kind()([odd, odd])
    pixels = kind(do_resize=False)([odd, odd], input_data_format="channels_last", return_tensors="pt").pixel_values
    assert pixels.shape == (1, 2, 3, 3, 3)
    with pytest.raises(ValueError, match="neither axis"):
        kind()([np.zeros((9, 9, 9), np.uint8)] * 2)
    with pytest.raises(ValueError, match="input_data_format"):
        kind()([odd, odd], input_data_format="sideways")


@pytest.mark.parametrize("images", [PAIR[0], [PAIR[0]], [PAIR[0]] * 3, [PAIR, PAIR[:1]], [], "ab", [None, None]])
def test_other_values_than_pairs_are_refused(images):
    with pytest.raises(ValueError, match="expected a pair of images"):
        LightGlueImageProcessor()(images)


@pytest.mark.parametrize(
    "options", [{"size": {"height": 0, "width": 5}}, {"size": 6.4}, {"resample": 9}, {"rescale_factor": 0}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LightGlueImageProcessor(**options)
    with pytest.raises(ValueError, match=next(iter(options))):
        LightGlueImageProcessor()(PAIR, **options)


def test_options_are_read_and_set_as_attributes():
    processor = LightGlueImageProcessor()
    assert processor.size == {"height": 480, "width": 640} and processor.do_resize and processor.resample == 2
    processor.size = (32, 32)
    assert processor(PAIR, return_tensors="pt").pixel_values.shape[-2:] == (32, 32)
    with pytest.raises(AttributeError):
        processor.nothing  # noqa: B018


def test_files_can_be_exchanged_with_transformers(tmp_path):
    ours = LightGlueImageProcessor(size=(96, 128), resample=3, do_grayscale=False)
    ours.save_pretrained(tmp_path / "ours")
    theirs = TheirProcessor.from_pretrained(tmp_path / "ours")
    assert (theirs.size["height"], theirs.size["width"], theirs.resample, theirs.do_grayscale) == (96, 128, 3, False)
    theirs.save_pretrained(tmp_path / "theirs")
    for kind in KINDS:
        assert kind.from_pretrained(tmp_path / "theirs").options == ours.options
        assert not kind.from_pretrained(tmp_path / "ours", keep_aspect_ratio=False).keep_aspect_ratio
    with pytest.raises(WeightsError, match=r"no preprocessor_config\.json"):
        LightGlueImageProcessor.from_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"resample": 99}')
    with pytest.raises(ConfigError, match="resample"):
        LightGlueImageProcessor.from_pretrained(tmp_path)


def fake_outputs(points: torch.Tensor, **more: object) -> SimpleNamespace:
    """Points [N, 2] in both images of a pair, each matched with itself, with scores from 0.1 to 1."""
    n = len(points)
    return SimpleNamespace(
        keypoints=points.expand(1, 2, -1, -1),
        mask=torch.ones(1, 2, n, dtype=torch.int32),
        matches=torch.arange(n).expand(1, 2, -1),
        matching_scores=torch.linspace(0.1, 1, n).expand(1, 2, -1),
        **more,
    )


def test_points_are_scaled_by_the_original_sizes_and_not_rounded():
    """For an image that is not square; `transformers` rounds the points to integers, and leaves out the half pixel."""
    outputs = fake_outputs(torch.tensor([[0.1, 0.2], [0.501, 0.4], [1.0, 1.0]]))
    processor = LightGlueImageProcessor(keep_aspect_ratio=False)
    (result,) = processor.post_process_keypoint_matching(outputs, [[(100, 333), (480, 640)]])
    scaled = torch.tensor([[33.3, 20.0], [166.833, 40.0], [333.0, 100.0]])
    shift = 0.5 * (torch.tensor([333 / 640, 100 / 480]) - 1)
    torch.testing.assert_close(result["keypoints0"], scaled + shift)
    torch.testing.assert_close(result["keypoints1"], scaled * torch.tensor([640 / 333, 4.8]))
    assert result["matching_indices"].tolist() == [[0, 0], [1, 1], [2, 2]]
    theirs = TheirProcessor().post_process_keypoint_matching(outputs, [[(100, 333), (480, 640)]])[0]
    assert result.keys() - theirs.keys() == {"matching_indices"}
    assert torch.equal(theirs["keypoints0"], scaled.int())


def test_points_without_match_or_with_low_score_are_not_returned():
    outputs = fake_outputs(torch.rand(4, 2))
    outputs.mask = torch.tensor([[[1, 1, 0, 1], [1, 1, 1, 1]]])
    outputs.matches = torch.tensor([[[3, -1, 0, 1], [-1, 3, -1, 0]]])
    process = LightGlueImageProcessor(keep_aspect_ratio=False).post_process_keypoint_matching
    (result,) = process(outputs, torch.tensor([[[10, 20], [30, 40]]]))
    assert result["matching_indices"].tolist() == [[0, 3], [3, 1]]
    (result,) = process(outputs, np.array([[[10, 20], [30, 40]]]), threshold=0.5)
    assert result["matching_indices"].tolist() == [[3, 1]] and float(result["matching_scores"]) == 1.0
    for sizes in ([[(10, 20)]], [(10, 20), (30, 40)], [[(1, 2), (3, 4)]] * 2):
        with pytest.raises(ValueError, match="target_sizes"):
            process(outputs, sizes)


@pytest.mark.parametrize("has_sizes", [True, False])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("size", [(90, 130), (1300, 520), (33, 200)])
def test_a_point_returns_to_its_position(has_sizes, keep, size):
    """The centre of mass of a blob, through the processor and back; also without `image_sizes`."""
    height, width = size
    x0, y0, radius = 0.3 * width, 0.6 * height, 0.12 * min(size)
    y, x = np.mgrid[:height, :width]
    image = (255 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * radius**2))).round().clip(1, 255).astype(np.uint8)
    processor = LightGlueImageProcessor(size=(120, 160), keep_aspect_ratio=keep)
    batch = processor([image, image], return_tensors="pt")
    pixels = batch.pixel_values[0, 0, 0]
    seen = batch.image_sizes[0, 0].tolist() if keep else [120, 160]
    mass = (pixels[: seen[0], : seen[1]] - 1 / 255).clamp(min=0)
    centre = torch.tensor(
        [float((mass.sum(axis) * torch.arange(n)).sum() / mass.sum()) for axis, n in ((0, seen[1]), (1, seen[0]))]
    )
    frame = torch.tensor([seen[1], seen[0]] if has_sizes or not keep else [160, 120])
    outputs = fake_outputs((centre / frame)[None], input_size=(120, 160))
    if has_sizes and keep:
        outputs.image_sizes = batch.image_sizes
    else:
        outputs.image_sizes, outputs.filled_sizes = None, torch.tensor([[seen, seen]])
    (result,) = processor.post_process_keypoint_matching(outputs, [[size, size]])
    assert result["keypoints0"][0].tolist() == pytest.approx([x0, y0], abs=0.02 * radius + 0.02)


@pytest.mark.parametrize("form", [lambda p: p, PilImage.fromarray, lambda p: torch.from_numpy(p).permute(2, 0, 1)])
def test_pairs_are_drawn_side_by_side(form):
    pair = [np.full((40, 60, 3), 200, np.uint8), np.full((50, 30, 3), 100, np.uint8)]
    matches = {
        "keypoints0": torch.tensor([[10.0, 20.0], [30.0, 5.0]]),
        "keypoints1": torch.tensor([[25.0, 45.0], [5.0, 5.0]]),
        "matching_scores": torch.tensor([1.0, 0.0]),
    }
    processor = LightGlueImageProcessor()
    (drawn,) = processor.visualize_keypoint_matching([form(image) for image in pair], [matches])
    assert drawn.size == (90, 50) and drawn.mode == "RGB"
    assert drawn.getpixel((0, 0)) == (200, 200, 200) and drawn.getpixel((89, 0)) == (100, 100, 100)
    assert drawn.getpixel((10, 20)) == drawn.getpixel((85, 45)) == (0, 0, 0)
    assert drawn.getpixel((48, 32)) == (0, 255, 0) and drawn.getpixel((48, 5)) == (255, 0, 0)
    assert drawn.getpixel((0, 45)) == (0, 0, 0)
    with pytest.raises(ValueError, match="got 1 pairs of images, but matches of 2 pairs"):
        processor.visualize_keypoint_matching(pair, [matches, matches])
