"""What makes a sequence hard to track: functions that change a sequence, and keep its true poses true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.synthetic.image_sequence import ImageSequence

Change = Callable[[UInt8Array, int], UInt8Array]
"""Changes an image [H, W, 3]; the number is its place in the changed part, from 0."""


def changed(sequence: ImageSequence, first: int, count: int, change: Change) -> ImageSequence:
    """A sequence with `count` changed images from index `first` on."""

    def image(idx: int) -> UInt8Array:
        original = sequence.image(idx)
        return change(original, idx - first) if first <= idx < first + count else original

    return replace(sequence, image=image, folder=None)


def standing(sequence: ImageSequence, at: int, count: int, seed: int = 0) -> ImageSequence:
    """The camera stands for `count` further frames at the image `at`; only the noise changes."""
    stand = sequence.take([*range(at + 1), *[at] * count, *range(at + 1, len(sequence))])
    return changed(stand, at + 1, count, lambda image, number: _noisy(image, np.random.default_rng([seed, number])))


def turning_poses(pose: Rigid3, num_frames: int, deg_per_frame: float) -> list[Rigid3]:
    """Poses of a camera that turns to the right around its own centre, without any translation."""
    down = pose.R @ np.array([0.0, 0.0, -1.0])
    angles = np.radians(deg_per_frame) * np.arange(num_frames)
    return [Rigid3(rotation_from_rotvec(-angle * down), np.zeros(3)) @ pose for angle in angles.tolist()]


def with_blur(sequence: ImageSequence, first: int, count: int, length_px: int = 25) -> ImageSequence:
    """A quick movement blurs some images along a line; the blur grows and shrinks, and its direction changes."""

    def blur(image: UInt8Array, number: int) -> UInt8Array:
        length = max(3.0, length_px * np.sin(np.pi * (number + 1) / (count + 1)))
        half = int(np.ceil(length / 2))
        kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
        angle = 0.4 * number
        end = 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
        tips = [tuple(int(value) for value in np.rint(16 * (half + sign * end))) for sign in (-1, 1)]
        cv2.line(kernel, tips[0], tips[1], 1.0, 1, cv2.LINE_AA, 4)
        return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)

    return changed(sequence, first, count, blur)


def with_hand(sequence: ImageSequence, first: int, count: int = 28, seed: int = 0) -> ImageSequence:
    """A hand moves before the lens from the right, covers the whole image in the middle, and moves away again.

    The hand has weak creases, which move with it: they are no part of the scene.
    """
    width, height = sequence.camera.size
    hand = _hand_texture((3 * width // 2 + 1, height), np.random.default_rng([seed, 1 << 27]))

    def cover(image: UInt8Array, number: int) -> UInt8Array:
        covered = min(1.0, 4.0 * min(number + 1, count - number) / (count + 1))
        columns = np.arange(width, dtype=np.float32)[None, :]
        edge = width * (1 - 1.25 * covered) + 0.12 * width * np.sin(np.arange(height) / height * 9.0 + 0.2 * number)
        weight = np.clip((columns - edge[:, None].astype(np.float32)) / np.float32(0.03 * width), 0, 1)[..., None]
        shift = round(0.5 * width * number / count)
        mixed = (1 - weight) * image + weight * hand[:, shift : shift + width]
        return np.asarray(np.clip(np.round(mixed), 0, 255), np.uint8)

    return changed(sequence, first, count, cover)


def with_exposure_jumps(
    sequence: ImageSequence, first: int = 0, every: int = 15, gains: Sequence[float] = (1.7, 1.0, 0.5)
) -> ImageSequence:
    """From an image on, the exposure jumps to the next gain after each `every` images; bright parts become white."""

    def expose(image: UInt8Array, number: int) -> UInt8Array:
        gain = gains[number // every % len(gains)]
        return np.asarray(cv2.convertScaleAbs(image, alpha=gain), np.uint8)

    return changed(sequence, first, len(sequence) - first, expose)


def with_blackout(sequence: ImageSequence, first: int, count: int = 20, seed: int = 0) -> ImageSequence:
    """Some images show nothing but the noise of the sensor."""

    def black(image: UInt8Array, number: int) -> UInt8Array:
        return _noisy(np.full_like(image, 4), np.random.default_rng([seed, 1 << 28, number]))

    return changed(sequence, first, count, black)


def with_cut(sequence: ImageSequence, last: int, then: int) -> ImageSequence:
    """After the image `last` the image `then` follows at once: the camera is elsewhere from one frame to the next."""
    return sequence.take([*range(last + 1), *range(then, len(sequence))])


def _noisy(image: UInt8Array, rng: np.random.Generator, sigma: float = 2.0) -> UInt8Array:
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def _hand_texture(size: tuple[int, int], rng: np.random.Generator) -> Float32Array:
    """Skin [H, W, 3], out of focus, with dark creases between the fingers."""
    width, height = size
    coarse = rng.normal(0, 1, (9, 12)).astype(np.float32)
    shade = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    creases = np.zeros((height, width), np.float32)
    for y in (0.28, 0.52, 0.76):
        ends = (0, round(y * height)), (width, round((y + rng.uniform(-0.05, 0.05)) * height))
        cv2.line(creases, *ends, 1.0, max(1, height // 60), cv2.LINE_AA)
    soft = cv2.GaussianBlur(creases, (0, 0), height / 60)
    skin = np.array([176, 128, 104], np.float32)
    return np.asarray(skin * (1 + 0.06 * shade - 0.5 * soft)[..., None], np.float32)
