"""Blobs of an image: extrema of differences of Gaussians in scale space.

Source: Lowe, Distinctive image features from scale-invariant keypoints, 2004 (sections 3 and 4), with the constants of
OpenCV's implementation. Only the layers that contain blobs are kept in memory, faint pixels are not refined, and
orientations are left to the caller: he needs them for the blobs that he keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import count, pairwise

import cv2
import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array, IndexArray, UInt8Array
from sfm_lightglue.kernels import scale_space as kernels
from sfm_lightglue.kernels.library import compiled

LAYERS = 3
"""Layers of an octave that can contain blobs; the scale doubles over so many layers."""

_SIGMA = 1.6
_SIGMA_OF_IMAGE = 0.5
"""Blur that images are assumed to have, in pixels."""
_BORDER_PX = 5
_MAX_STEPS = 5
_FAINTEST = 0.7
"""Factor of the threshold on contrast for a pixel: its refined blob has at least its contrast, mostly more."""
_EXTREMA_PER_BLOB = 4
"""Extrema that are refined for each wanted blob; about half of them are edges."""
_GREY_LEVELS = 255
_STRIP_PIXELS = 1 << 17
"""Pixels of the strips in which extrema are looked for, so that they stay in the cache of the processor."""
_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Blobs:
    """Blobs of an image.

    Args:
        keypoints: [N, 2] float32 (x, y) in pixels of the image, COLMAP convention.
        contrasts: [N] float32.
        scales: [N] float32 diameters in pixels of the image.
        octave_idxs: [N] int64.
        layer_idxs: [N] int64 in 1..LAYERS.
        is_faint: [N] bool, see `find_blobs`.
    """

    keypoints: Float32Array
    contrasts: Float32Array
    scales: Float32Array
    octave_idxs: IndexArray
    layer_idxs: IndexArray
    is_faint: BoolArray

    def __len__(self) -> int:
        return len(self.keypoints)

    def rows(self, index: AnyArray) -> Blobs:
        """The blobs selected by indices or a boolean mask [N]."""
        return replace(self, **{one.name: getattr(self, one.name)[index] for one in fields(self)})


@dataclass(frozen=True, eq=False)
class ScaleSpace:
    """The blurred images in which blobs were found.

    Args:
        layers: for each octave the layers 1..LAYERS, [H, W] float32; the first octave has twice the size of the image.
    """

    layers: tuple[tuple[Float32Array, ...], ...]

    def blurred(self, octave_idx: int, layer_idx: int) -> Float32Array:
        """The image [H, W] of a layer."""
        return self.layers[octave_idx][layer_idx - 1]


def pixels_per_image_pixel(octave_idx: int) -> float:
    """Pixels of an octave per pixel of the image."""
    return float(2.0 ** (1 - octave_idx))


@dataclass(frozen=True, slots=True)
class BlobLimits:
    """Which blobs are found.

    Args:
        contrast_threshold: a blob has at least this contrast times LAYERS, for grey values from 0 to 1.
        num_wanted: with many more extrema than this in the first octave, which has most, the faintest extrema of all
            octaves are left out.
    """

    contrast_threshold: float
    num_wanted: int


def find_blobs(
    pixels: UInt8Array,
    edge_threshold: float,
    limits: BlobLimits,
    limits_of_faint: BlobLimits | None = None,
    memory: Float32Array | None = None,
) -> tuple[Blobs, ScaleSpace]:
    """Find the blobs of a grey image [H, W].

    Args:
        pixels: of the image.
        edge_threshold: largest ratio of curvatures.
        limits: of all blobs that are not marked as faint; these do not depend on `limits_of_faint`.
        limits_of_faint: of further blobs, with a lower threshold and a higher number; None for none.
        memory: [scale_space_size] float32 for the blurred images, which the scale space uses; None for new memory.
    """
    if pixels.size == 0:
        raise ValueError("an image without pixels has no scale space")
    if memory is None:
        memory = np.empty(scale_space_size(*pixels.shape), np.float32)
    found, layers = [_no_blobs()], []
    all_limits = (limits,) if limits_of_faint is None else (limits, limits_of_faint)
    faintest = [_FAINTEST * each.contrast_threshold / LAYERS * _GREY_LEVELS for each in all_limits]
    for octave_idx, octave in enumerate(_octaves(pixels, memory)):
        places, values = _filled(octave, faintest[-1])
        blurred = octave.blurred
        layers.append(tuple(blurred[1 : LAYERS + 1]))
        if octave_idx == 0:
            highest = [_nth_highest(values, _EXTREMA_PER_BLOB * each.num_wanted) for each in all_limits]
            faintest = [max(pair) for pair in zip(faintest, highest, strict=True)]
        is_kept = values > faintest[-1]
        extrema = _refined(blurred, (places[is_kept], values[is_kept]), edge_threshold)
        blobs = _blobs(extrema, octave_idx)
        contrasts = blobs.contrasts * np.float32(LAYERS)
        is_clear = (extrema.first_values > faintest[0]) & (contrasts >= np.float32(limits.contrast_threshold))
        is_kept = is_clear if limits_of_faint is None else contrasts >= np.float32(limits_of_faint.contrast_threshold)
        found.append(replace(blobs, is_faint=~is_clear).rows(is_kept))
    joined = {one.name: np.concatenate([getattr(each, one.name) for each in found]) for one in fields(Blobs)}
    return Blobs(**joined), ScaleSpace(tuple(layers))


def _nth_highest(values: Float32Array, n: int) -> float:
    return float(np.partition(values, -n)[-n]) if len(values) > n else 0.0


def scale_space_size(height: int, width: int) -> int:
    """Numbers of float32 that the scale space of an image takes, see `find_blobs`."""
    return sum((_NUM_BLURRED if octave_idx == 0 else LAYERS) * h * w for octave_idx, (h, w) in _sizes(height, width))


def _sizes(height: int, width: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Index and (height, width) of each octave."""
    size = 2 * height, 2 * width
    for octave_idx in count():
        if octave_idx > 0 and min(size) <= 2 * _BORDER_PX:
            return
        yield octave_idx, size
        size = -(-size[0] // 2), -(-size[1] // 2)


@dataclass(frozen=True, eq=False, slots=True)
class _Octave:
    """The images of an octave, of which the first one is known.

    Args:
        images: [H, W] each, the last LAYERS + 3 of which belong to the scale space.
        sigmas: for each image but the first one, the blur of the one before, in pixels.
    """

    images: list[Float32Array]
    sigmas: list[float]

    @property
    def blurred(self) -> list[Float32Array]:
        """The images of the scale space."""
        return self.images[-_NUM_BLURRED:]


def _octaves(pixels: UInt8Array, memory: Float32Array) -> Iterator[_Octave]:
    """The octaves of an image; each is to be filled before the next one is asked for.

    Args:
        pixels: of the image.
        memory: [scale_space_size] for the images; those before and after the layers 1..LAYERS are overwritten by the
            next octave.
    """
    sigmas = _SIGMA * 2.0 ** (np.arange(_NUM_BLURRED) / LAYERS)
    steps = [float(np.sqrt(after**2 - before**2)) for before, after in pairwise(sigmas)]
    blurred: list[Float32Array] = []
    for octave_idx, size in _sizes(*pixels.shape):
        num, num_pixels = (_NUM_BLURRED if octave_idx == 0 else LAYERS), size[0] * size[1]
        kept, memory = memory[: num * num_pixels].reshape(num, *size), memory[num * num_pixels :]
        if octave_idx == 0:
            outer = kept[LAYERS:]
            spare = outer[1:].reshape(-1)
        else:
            outer = spare[: 3 * num_pixels].reshape(3, *size)
            outer[0][:] = blurred[LAYERS][::2, ::2]
        if min(size) <= 2 * _BORDER_PX:
            return
        blurred = [outer[0], *kept[:LAYERS], *outer[1:]]
        if octave_idx == 0:  # the doubled image lies in the memory of the last one
            first = float(np.sqrt(_SIGMA**2 - (2 * _SIGMA_OF_IMAGE) ** 2))
            yield _Octave([_doubled(pixels, outer[2]), *blurred], [first, *steps])
        else:
            yield _Octave(blurred, steps)


def _filled(octave: _Octave, faintest: float) -> tuple[IndexArray, Float32Array]:
    """Blur the images of an octave, and return its extrema, see `_extrema`."""
    radii = [int(np.ceil(_KERNEL_RADIUS_IN_SIGMAS * sigma)) for sigma in octave.sigmas]
    library = compiled()
    if library is not None:
        weights = [
            cv2.getGaussianKernel(2 * radius + 1, sigma, cv2.CV_32F)[radius:, 0].astype(np.float32, copy=False)
            for radius, sigma in zip(radii, octave.sigmas, strict=True)
        ]
        return kernels.blur_and_find(library, octave.images, weights, faintest)
    for (image, out), radius, sigma in zip(pairwise(octave.images), radii, octave.sigmas, strict=True):
        cv2.GaussianBlur(image, (2 * radius + 1, 2 * radius + 1), sigma, dst=out)
    return _extrema(octave.blurred, faintest)


def _doubled(pixels: UInt8Array, out: Float32Array) -> Float32Array:
    library = compiled()
    if library is not None:
        return kernels.double_size(library, pixels, out)
    # Pixel i of the image becomes pixel 2 i of the doubled one; other scalings shift all keypoints by quarter pixels.
    doubled = cv2.warpAffine(
        pixels.astype(np.float32),
        np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32),
        out.shape[::-1],
        dst=out,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    return _float32(doubled)


def _float32(image: AnyArray) -> Float32Array:
    return image.astype(np.float32, copy=False)


_NUM_BLURRED = LAYERS + 3
_KERNEL_RADIUS_IN_SIGMAS = 3.0


@dataclass(frozen=True, eq=False)
class _Extrema:
    """Extrema of the differences of Gaussians of an octave.

    Args:
        places: [N, 3] int64 (layer, y, x).
        first_values: [N] absolute values where the search began, in grey levels.
        offsets: [N, 3] from the places to the extrema.
        values: [N] of the extrema, in grey levels.
    """

    places: IndexArray
    first_values: Float32Array
    offsets: Float64Array
    values: Float64Array


def _extrema(blurred: list[Float32Array], faintest: float) -> tuple[IndexArray, Float32Array]:
    """Places [N, 3] (layer, y, x) whose difference of Gaussians is the largest of 3 x 3 x 3, apart from its sign.

    Returns:
        The places, and the absolute differences [N] there.
    """
    height, width = blurred[0].shape
    num_rows = max(8, _STRIP_PIXELS // width)
    places, values = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.float32)]
    for top in range(_BORDER_PX, height - _BORDER_PX, num_rows):
        bottom = min(top + num_rows, height - _BORDER_PX)
        of_strip = _extrema_of_strip([layer[top - 1 : bottom + 1] for layer in blurred], faintest)
        places.append(of_strip[0] + (0, top - 1, 0))
        values.append(of_strip[1])
    return np.concatenate(places), np.concatenate(values)


def _extrema_of_strip(blurred: list[Float32Array], faintest: float) -> tuple[IndexArray, Float32Array]:
    differences = [cv2.absdiff(after, before) for before, after in pairwise(blurred)]
    width = blurred[0].shape[1]
    inner = range(1, LAYERS + 1)
    largest = {layer: cv2.dilate(differences[layer], _NEIGHBOURHOOD) for layer in inner}  # of 3 x 3 pixels
    around = [y * width + x for y in (0, 1, -1) for x in (0, 1, -1)]
    places, values = [], []
    for layer in inner:
        is_peak = differences[layer] == largest[layer]
        is_peak[0] = is_peak[-1] = False
        is_peak[:, :_BORDER_PX] = is_peak[:, -_BORDER_PX:] = False
        index = np.flatnonzero(is_peak)
        peaks = differences[layer].reshape(-1).take(index)
        is_left = np.flatnonzero(peaks > faintest)
        index, peaks = index.take(is_left), peaks.take(is_left)
        for other in (layer - 1, layer + 1):
            compared = largest[other] if other in inner else differences[other]
            for step in (0,) if other in inner else around:
                is_left = np.flatnonzero(peaks >= compared.reshape(-1).take(index + step))
                index, peaks = index.take(is_left), peaks.take(is_left)
        places.append(np.stack([np.full(len(index), layer), *np.divmod(index, width)], axis=1))
        values.append(peaks)
    return np.concatenate(places), np.concatenate(values)


def _refined(blurred: list[Float32Array], found: tuple[IndexArray, Float32Array], edge_threshold: float) -> _Extrema:
    """Fit a quadratic function around each place, and move to where its extremum is.

    Those without an extremum within half a pixel and layer, and edges, are left out.
    """
    library = compiled()
    if library is not None:
        rows, moved, shifts, extrema = kernels.refine_extrema(library, blurred, found[0], edge_threshold)
        return _Extrema(moved, found[1][rows], shifts, extrema)
    height, width = blurred[0].shape
    upper = (LAYERS + 1, height - _BORDER_PX, width - _BORDER_PX)
    (places, first_values), kept = found, []
    for _ in range(_MAX_STEPS):
        value, gradient, hessian = _derivatives(blurred, places)
        offsets, is_regular = _solved(hessian, -gradient)
        is_near = is_regular & (np.abs(offsets) < 0.5).all(axis=1)
        final = is_near & _is_blob(hessian, edge_threshold)
        extremum = value[final] + 0.5 * np.einsum("ni,ni->n", gradient[final], offsets[final])
        kept.append((places[final], first_values[final], offsets[final], extremum))
        moving = is_regular & ~is_near & (np.abs(offsets) < max(height, width)).all(axis=1)
        places, first_values = places[moving] + np.rint(offsets[moving]).astype(np.int64), first_values[moving]
        is_inside = ((places >= (1, _BORDER_PX, _BORDER_PX)) & (places < upper)).all(axis=1)
        places, first_values = places[is_inside], first_values[is_inside]
    return _Extrema(*(np.concatenate(column) for column in zip(*kept, strict=True)))


def _is_blob(hessian: Float64Array, edge_threshold: float) -> BoolArray:
    """Whether the curvatures in the image, of Hessians [N, 3, 3], have one sign and a ratio below the threshold."""
    trace = hessian[:, 1, 1] + hessian[:, 2, 2]
    determinant = hessian[:, 1, 1] * hessian[:, 2, 2] - hessian[:, 1, 2] ** 2
    return np.asarray((determinant > 0) & (trace**2 * edge_threshold < (edge_threshold + 1) ** 2 * determinant))


def _derivatives(blurred: list[Float32Array], places: IndexArray) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Value [N], gradient [N, 3] and Hessian [N, 3, 3] of the difference of Gaussians at (layer, y, x)."""
    width = blurred[0].shape[1]
    around = (np.arange(-1, 2)[:, None] * width + np.arange(-1, 2)).reshape(-1)
    cubes = np.zeros((len(places), 3, 9))
    for layer in range(1, LAYERS + 1):
        rows = np.flatnonzero(places[:, 0] == layer)
        index = (places[rows, 1] * width + places[rows, 2])[:, None] + around
        squares = [blurred[layer + step].reshape(-1).take(index) for step in (-1, 0, 1, 2)]
        cubes[rows] = np.stack([after - before for before, after in pairwise(squares)], axis=1)
    found = cubes.reshape(-1, 27) @ _STENCILS
    return found[:, 0], found[:, 1:4], found[:, _HESSIAN_COLUMNS]


def _stencils() -> Float64Array:
    """Weights [27, 10] of a cube (layer, y, x) in its value, gradient, and six second derivatives."""
    orders = ([0.0, 1.0, 0.0], [-0.5, 0.0, 0.5], [1.0, -2.0, 1.0])
    derivatives = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    seconds = ((2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 2, 0), (0, 1, 1), (0, 0, 2))
    columns = [np.einsum("l,y,x->lyx", *(orders[order] for order in each)) for each in (*derivatives, *seconds)]
    return np.stack(columns, axis=-1).reshape(27, 10)


_STENCILS = _stencils()
_HESSIAN_COLUMNS = np.array([[4, 5, 6], [5, 7, 8], [6, 8, 9]])


def _solved(matrices: Float64Array, sides: Float64Array) -> tuple[Float64Array, BoolArray]:
    """Solutions [N, 3] of symmetric equations [N, 3, 3], and where there is one."""
    rows = matrices.transpose(1, 2, 0)  # [3, 3, N]
    a, b, c = rows
    adjoint = np.stack([_cross(b, c), _cross(c, a), _cross(a, b)])
    determinants = (a * adjoint[0]).sum(axis=0)
    is_regular = np.abs(determinants) > np.finfo(np.float64).tiny
    solved = (adjoint * sides.T[:, None]).sum(axis=0) / np.where(is_regular, determinants, 1)
    return np.ascontiguousarray(solved.T), is_regular


def _cross(a: Float64Array, b: Float64Array) -> Float64Array:
    """Cross product of vectors [3, N]."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _blobs(extrema: _Extrema, octave_idx: int) -> Blobs:
    factor = pixels_per_image_pixel(octave_idx)
    layers, y, x = (extrema.places + extrema.offsets).T
    n = len(layers)
    return Blobs(
        (np.stack([x, y], axis=1) / factor + 0.5).astype(np.float32),  # the centre of the first pixel is at 0.5
        (np.abs(extrema.values) / _GREY_LEVELS).astype(np.float32),
        (2 * _SIGMA * 2.0 ** (layers / LAYERS) / factor).astype(np.float32),
        np.full(n, octave_idx),
        extrema.places[:, 0],
        np.zeros(n, np.bool_),
    )


def _no_blobs() -> Blobs:
    nothing = np.zeros(0)
    return _blobs(_Extrema(np.zeros((0, 3), np.int64), nothing.astype(np.float32), np.zeros((0, 3)), nothing), 0)
