"""Keypoints of SuperPoint in pixels of the original images, with the models of both libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from sfm_lightglue import SuperPointForKeypointDetection, SuperPointImageProcessor, SuperPointImageProcessorFast
from tests.helpers.matching_references import make_inputs, make_reference
from tests.helpers.two_libraries import THEIRS

FRAME = {"height": 64, "width": 88}
SIZES = [(64, 88), (120, 60), (50, 200)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("superpoint")
    theirs = make_reference().keypoint_detector
    theirs.save_pretrained(folder)
    return SuperPointForKeypointDetection.from_pretrained(folder), theirs


@pytest.fixture(scope="module")
def images():
    noise = (make_inputs(1)[0, 0, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return [PilImage.fromarray(noise).resize((w, h), PilImage.Resampling.BICUBIC).convert("RGB") for h, w in SIZES]


def detected(processor, model, images, **inputs_for_post_processing):
    batch = processor(images, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**batch) if isinstance(model, SuperPointForKeypointDetection) else model(batch["pixel_values"])
    return processor.post_process_keypoint_detection(
        outputs, [(each.height, each.width) for each in images], **inputs_for_post_processing
    )


@pytest.mark.parametrize("kind", [SuperPointImageProcessor, SuperPointImageProcessorFast])
def test_positions_are_those_of_transformers_without_its_rounding(models, images, kind):
    """Theirs cuts fractions, and leaves out the half pixel by which a resize moves the centres of pixels."""
    if kind is SuperPointImageProcessorFast:
        images = images[:1]  # not resized, so that the pixels are equal
    ours, theirs = models
    expected = detected(THEIRS.detection_processor(size=FRAME), theirs, images)
    for model in (ours, theirs):
        for image, mine, their in zip(images, detected(kind(size=FRAME), model, images), expected, strict=True):
            assert len(mine["keypoints"]) == len(their["keypoints"]) > 20
            shift = 0.5 * (np.array(image.size) / (88, 64) - 1)
            raw = mine["keypoints"].numpy() - shift
            assert (np.abs(raw - 0.499 - their["keypoints"].numpy()) <= 0.502).all()
            torch.testing.assert_close(mine["scores"], their["scores"], atol=1e-4, rtol=0)
            torch.testing.assert_close(mine["descriptors"], their["descriptors"], atol=1e-3, rtol=0)


def test_padding_moves_no_point(models, images):
    """Images that keep their aspect ratio: the same points as without padding."""
    ours, _ = models
    padded = SuperPointImageProcessor(size=(64, 200), keep_aspect_ratio=True)
    together = detected(padded, ours, images)
    for image, found in zip(images, together, strict=True):
        batch = padded([image], return_tensors="pt")
        height, width = batch.image_sizes[0].tolist()
        (alone,) = detected(SuperPointImageProcessor(size=(height, width)), ours, [image])
        torch.testing.assert_close(found["keypoints"], alone["keypoints"], atol=1e-3, rtol=0)
        assert len(alone["keypoints"]) > 5


def test_padded_inputs_of_their_model_need_the_batch(models, images):
    _, theirs = models
    padded = SuperPointImageProcessor(size=(64, 200), keep_aspect_ratio=True)
    with pytest.raises(ValueError, match="inputs="):
        detected(padded, theirs, images)
    batch = padded(images, return_tensors="pt")
    with torch.inference_mode():
        outputs = theirs(batch["pixel_values"])
    found = padded.post_process_keypoint_detection(outputs, SIZES, inputs=batch)
    for row, ((height, width), (seen_height, seen_width)) in enumerate(
        zip(SIZES, batch.image_sizes.tolist(), strict=True)
    ):
        scale = torch.tensor([width / seen_width, height / seen_height])
        inside = outputs.keypoints[row][outputs.mask[row] > 0] * torch.tensor([200.0, 64.0])
        torch.testing.assert_close(found[row]["keypoints"], (inside + 0.5) * scale - 0.5, atol=1e-3, rtol=0)
