"""What the documentation of transformers says about image processors, as cases for both libraries.

The resized pixels are compared in test_image_processor.py and test_processor_differences.py.
"""

from __future__ import annotations

import base64
import copy
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from tests.helpers.file_server import file_server
from tests.helpers.photos import textured, write_photo
from tests.helpers.two_libraries import LIBRARIES, in_both, needs_transformers

SMALL = {"height": 24, "width": 32}


def image(height: int = 30, width: int = 50, seed: int = 0) -> np.ndarray:
    return np.stack([textured(width, height, seed + channel) for channel in range(3)], axis=-1)


PAIR = [image(), image(seed=5)]


@in_both
def test_defaults_are_those_of_the_documentation(library):
    for kind, is_grey in ((library.matching_processor, True), (library.detection_processor, False)):
        processor = kind()
        assert processor.do_resize is True and dict(processor.size) == {"height": 480, "width": 640}
        assert int(processor.resample) == PilImage.Resampling.BILINEAR and processor.do_rescale is True
        assert processor.rescale_factor == 1 / 255 and processor.do_grayscale is is_grey
        assert processor.do_normalize is None and processor.default_to_square is False
        assert processor.model_input_names[0] == "pixel_values"


@in_both
@pytest.mark.parametrize(("tensors", "kind"), [("pt", torch.Tensor), ("np", np.ndarray)])
def test_pairs_have_the_documented_shape(library, tensors, kind):
    processor = library.matching_processor(size=SMALL)
    for images, number in ((PAIR, 1), ([PAIR, PAIR[::-1], PAIR], 3)):
        for batch in (processor(images, return_tensors=tensors), processor.preprocess(images, return_tensors=tensors)):
            assert isinstance(batch["pixel_values"], kind)
            assert tuple(batch.pixel_values.shape) == (number, 2, 3, 24, 32)
    assert isinstance(processor(PAIR)["pixel_values"], list)


@in_both
def test_single_images_have_the_documented_shape(library):
    processor = library.detection_processor(size=SMALL)
    for images, number in ((PAIR[0], 1), (PAIR, 2), ([PAIR, PAIR], 4)):
        assert tuple(processor(images, return_tensors="pt").pixel_values.shape) == (number, 3, 24, 32)


@in_both
@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ({"height": 24, "width": 32}, (24, 32)),
        ([24, 32], (24, 32)),
        (24, (24, 40)),
        ({"shortest_edge": 24}, (24, 40)),
        ({"shortest_edge": 24, "longest_edge": 34}, (20, 33)),
        ({"shortest_edge": 24, "longest_edge": 99}, (24, 40)),
        ({"max_height": 18, "max_width": 90}, (18, 30)),
        ({"max_height": 90, "max_width": 70}, (42, 70)),
    ],
)
def test_all_notations_of_a_size_have_their_documented_meaning(library, size, shape):
    pair = [image(30, 50), image(30, 50, 4)]
    processor = library.matching_processor(size=size)
    assert processor(pair, return_tensors="pt").pixel_values.shape[-2:] == shape
    assert library.matching_processor()(pair, size=size, return_tensors="pt").pixel_values.shape[-2:] == shape


@needs_transformers
@pytest.mark.parametrize("size", [24, {"shortest_edge": 24, "longest_edge": 34}, {"max_height": 18, "max_width": 90}])
@pytest.mark.parametrize("shape", [(31, 50), (50, 31), (77, 20)])
def test_images_resized_with_their_aspect_ratio_have_equal_pixels(size, shape):
    pair = [image(*shape), image(*shape, 4)]
    ours, theirs = (each.matching_processor(size=size)(pair, return_tensors="pt") for each in LIBRARIES)
    torch.testing.assert_close(ours.pixel_values, theirs["pixel_values"], atol=1e-6, rtol=0)


@in_both
def test_a_number_is_a_square_on_request(library):
    processor = library.matching_processor(size=24, default_to_square=True)
    assert processor(PAIR, return_tensors="pt").pixel_values.shape[-2:] == (24, 24)


@in_both
@pytest.mark.parametrize("size", [{"height": 3}, {"width": 3, "longest": 4}, {}, "large"])
def test_other_sizes_are_refused(library, size):
    with pytest.raises((ValueError, TypeError)):
        library.matching_processor(size=size)(PAIR)


@in_both
def test_documented_keywords_are_taken(library):
    keywords = {
        "do_convert_rgb": True, "do_resize": True, "size": SMALL, "default_to_square": False, "crop_size": SMALL,
        "resample": PilImage.Resampling.BICUBIC, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_pad": False, "pad_size": SMALL,
        "do_center_crop": False, "data_format": "channels_first", "input_data_format": "channels_last",
        "device": "cpu", "disable_grouping": True, "image_seq_length": 7, "do_grayscale": False,
    }  # fmt: skip
    once = library.matching_processor()(PAIR, return_tensors="pt", **keywords).pixel_values
    always = library.matching_processor(**keywords)(PAIR, return_tensors="pt").pixel_values
    assert torch.equal(once, always) and once.shape == (1, 2, 3, 24, 32)
    assert library.matching_processor()(PAIR, data_format=None, return_tensors="pt").pixel_values.shape[2] == 3


@in_both
def test_transparency_is_blended_onto_white_on_request(library):
    clear = PilImage.fromarray(np.dstack([PAIR[0], np.zeros((30, 50), np.uint8)]), "RGBA")
    processor = library.matching_processor(size=[30, 50], do_convert_rgb=True)
    assert float(processor([clear, clear], return_tensors="pt").pixel_values.min()) == 1.0


@in_both
def test_processors_are_written_and_read(library, tmp_path):
    kind = library.matching_processor
    processor = kind(size=SMALL, resample=3, do_grayscale=False)
    assert processor.save_pretrained(tmp_path / "a") == [str(tmp_path / "a" / "preprocessor_config.json")]
    values = json.loads(processor.to_json_string())
    assert values["size"] == SMALL and values["image_processor_type"] == "LightGlueImageProcessor"
    assert values == json.loads((tmp_path / "a" / "preprocessor_config.json").read_text())
    processor.to_json_file(tmp_path / "b.json")
    read = [kind.from_pretrained(tmp_path / "a"), kind.from_pretrained(tmp_path / "b.json"), kind.from_dict(values)]
    read += [kind.from_json_file(tmp_path / "b.json"), copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))]
    for other in read:
        assert other.to_dict() == processor.to_dict()
    assert kind.from_pretrained(tmp_path / "a", do_resize=False).do_resize is False
    found, unused = kind.from_pretrained(tmp_path / "a", resample=0, foo=False, return_unused_kwargs=True)
    assert found.resample == 0 and unused["foo"] is False
    again, left = kind.get_image_processor_dict(tmp_path / "a", foo=1)
    assert again == values and left["foo"] == 1
    assert "LightGlueImageProcessor" in repr(processor) and '"resample": 3' in repr(processor)


@in_both
def test_values_within_processor_config_come_first(library, tmp_path):
    library.matching_processor(size=SMALL).save_pretrained(tmp_path)
    nested = {"image_processor": {"size": {"height": 16, "width": 16}}, "processor_class": "LightGlueProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert dict(library.matching_processor.from_pretrained(tmp_path).size) == {"height": 16, "width": 16}
    (tmp_path / "preprocessor_config.json").unlink()
    assert dict(library.matching_processor.from_pretrained(tmp_path).size) == {"height": 16, "width": 16}


@in_both
def test_files_lie_in_a_subfolder_on_request(library, tmp_path):
    library.matching_processor(size=SMALL).save_pretrained(tmp_path / "inner")
    keywords = {"subfolder": "inner", "local_files_only": True, "revision": "main", "token": False}
    assert dict(library.matching_processor.from_pretrained(tmp_path, **keywords).size) == SMALL


@in_both
def test_images_are_paths_and_addresses(library, tmp_path):
    paths = [write_photo(tmp_path / f"{i}.png", pixels) for i, pixels in enumerate(PAIR)]
    processor = library.matching_processor(size=SMALL)
    expected = processor(PAIR, return_tensors="pt").pixel_values
    assert torch.equal(processor([str(path) for path in paths], return_tensors="pt").pixel_values, expected)
    with file_server() as server:
        server.content = paths[0].read_bytes()
        mixed = [[server.url, str(paths[1])]]
        assert torch.equal(processor(mixed, return_tensors="pt").pixel_values, expected)
    text = base64.b64encode(paths[0].read_bytes()).decode()
    for encoded in (text, f"data:image/png;base64,{text}"):
        assert torch.equal(processor([encoded, str(paths[1])], return_tensors="pt").pixel_values, expected)
    single = library.detection_processor(size=SMALL)
    assert torch.equal(
        single(str(paths[0]), return_tensors="pt").pixel_values, single(PAIR[0], return_tensors="pt").pixel_values
    )


@in_both
def test_a_batch_is_moved_and_cast_in_place(library):
    batch = library.matching_processor(size=SMALL)(PAIR, return_tensors="pt")
    batch["labels"] = torch.arange(3)
    assert batch.data["pixel_values"] is batch["pixel_values"] is batch.pixel_values
    assert batch.to("cpu", torch.float16) is batch
    assert batch.pixel_values.dtype == torch.float16 and batch["labels"].dtype == torch.int64
    assert batch.to(torch.float64).pixel_values.dtype == torch.float64
    assert batch.to(dtype=torch.float32).pixel_values.dtype == torch.float32
    assert batch.to("meta").pixel_values.device.type == batch["labels"].device.type == "meta"
    assert {"pixel_values", "labels"} <= set(batch.keys()) and not isinstance(batch, dict)
    assert pickle.loads(pickle.dumps(batch)).keys() == batch.keys()
    with pytest.raises(AttributeError):
        batch.nothing  # noqa: B018


@in_both
def test_lists_become_tensors(library):
    batch = type(library.matching_processor(size=SMALL)(PAIR))({"a": [[1, 2], [3, 4]], "b": "text"}, tensor_type="pt")
    assert torch.equal(batch["a"], torch.tensor([[1, 2], [3, 4]])) and batch["b"] == "text"
    assert isinstance(type(batch)({"a": [1.0, 2.0]}).convert_to_tensors("np")["a"], np.ndarray)
    with pytest.raises(ValueError):
        type(batch)({"a": [[1, 2], [3]]}, tensor_type="pt")


def outputs(num_pairs: int = 1) -> SimpleNamespace:
    """Two points in each image; the first ones match."""
    return SimpleNamespace(
        keypoints=torch.tensor([[0.25, 0.5], [0.5, 0.75]]).expand(num_pairs, 2, 2, 2),
        mask=torch.ones(num_pairs, 2, 2, dtype=torch.int32),
        matches=torch.tensor([0, -1]).expand(num_pairs, 2, 2),
        matching_scores=torch.tensor([0.7, 0.0]).expand(num_pairs, 2, 2),
    )


@in_both
def test_matches_are_in_pixels_of_the_original_images(library):
    processor = library.matching_processor.from_dict({"size": {"height": 40, "width": 80}})
    sizes = [[(40, 80), (40, 80)], [(40, 80), (40, 80)]]
    for target_sizes in (sizes, torch.tensor(sizes)):
        found = processor.post_process_keypoint_matching(outputs(2), target_sizes, threshold=0.5)
        assert len(found) == 2
        assert found[0]["keypoints0"].tolist() == found[1]["keypoints1"].tolist() == [[20, 20]]
        assert found[0]["matching_scores"].tolist() == pytest.approx([0.7])
    (none,) = processor.post_process_keypoint_matching(outputs(), sizes[:1], threshold=0.7)
    assert none["keypoints0"].shape == (0, 2) and none["matching_scores"].shape == (0,)
    for wrong in (sizes[:1], [[(40, 80)], [(40, 80)]], torch.ones(2, 2)):
        with pytest.raises((ValueError, IndexError)):
            processor.post_process_keypoint_matching(outputs(2), wrong)


@in_both
def test_detections_are_in_pixels_of_the_original_images(library):
    processor = library.detection_processor(size={"height": 40, "width": 80})
    found = SimpleNamespace(
        keypoints=torch.tensor([[[0.25, 0.5], [0.5, 0.75]]]),
        scores=torch.tensor([[0.9, 0.1]]),
        descriptors=torch.ones(1, 2, 4),
        mask=torch.tensor([[1, 0]]),
    )
    for target_sizes in ([(40, 80)], torch.tensor([[40, 80]])):
        (one,) = processor.post_process_keypoint_detection(found, target_sizes)
        assert one["keypoints"].tolist() == [[20, 20]] and one["scores"].tolist() == pytest.approx([0.9])
        assert one["descriptors"].shape == (1, 4)
    with pytest.raises(ValueError):
        processor.post_process_keypoint_detection(found, [(40, 80)] * 2)


@in_both
@pytest.mark.parametrize(
    "make", [lambda: np.random.default_rng(0).integers(255, size=(3, 20, 40)), lambda: torch.rand(3, 20, 40)]
)
def test_arrays_of_integers_and_tensors_of_floats_are_images(library, make):
    processor = library.matching_processor(size=SMALL)
    for images in ([make(), make()], [[make(), make()]]):
        assert processor(images=images, return_tensors="pt").pixel_values.shape == (1, 2, 3, 24, 32)
    for wrong in (
        make(),
        [make()],
        [[make()]],
        [[make()], [make()]],
        [make()[None]] * 2,
        make()[None],
        make()[None, None],
    ):
        with pytest.raises(ValueError):
            processor.preprocess(wrong, return_tensors="pt")
    for grey in processor.preprocess([make(), make()])["pixel_values"][0]:
        assert np.all(grey[0] == grey[1]) and np.all(grey[1] == grey[2])


@in_both
def test_a_batch_has_its_device_first_and_takes_further_values(library):
    batch = library.matching_processor(size=SMALL)(PAIR, return_tensors="pt")
    with pytest.raises(TypeError):
        batch.to(torch.bfloat16, "cpu")
    batch.update({"input_ids": torch.tensor([[1, 2], [3, 4]])})
    assert batch.to(torch.float16).pixel_values.dtype == torch.float16 and batch.input_ids.dtype == torch.int64
    with pytest.raises(KeyError):
        batch[0]


@in_both
def test_the_type_of_the_result_can_be_an_option_of_the_processor(library):
    processor = library.matching_processor(size=SMALL, return_tensors="pt")
    assert isinstance(processor(PAIR).pixel_values, torch.Tensor)
    assert isinstance(processor(PAIR, return_tensors="np").pixel_values, np.ndarray)
    with pytest.raises(Exception, match=r"return_tensors|TensorType"):
        processor(PAIR, return_tensors="tf2")


@in_both
def test_processors_do_not_share_their_options(library):
    first, second = library.matching_processor(), library.matching_processor()
    first.do_resize, first.size = False, {"height": 9, "width": 9}
    assert second.do_resize is True and dict(second.size) == {"height": 480, "width": 640}
    assert library.matching_processor.from_dict({"size": SMALL}, size={"height": 42, "width": 42}).size["height"] == 42
