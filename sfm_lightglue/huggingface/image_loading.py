"""Images from paths, addresses and encoded text, for the processors and the pipeline."""

from __future__ import annotations

import base64
import binascii
import io
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PilImage
from PIL import ImageOps

from sfm_lightglue.errors import DataError
from sfm_lightglue.messages import shown_path

TIMEOUT_S = 60.0
"""Default timeout for images from a URL."""
MAX_DOWNLOAD_BYTES = 256 * 1024 * 1024
"""Largest size of an image from a URL."""

_DATA_PREFIX = "data:image/"
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{100,}={0,2}\s*")
"""Text of at least 100 letters is an image in base64 if there is no such file, as in `transformers`."""


def load_image(image: Any, timeout: float | None = None) -> Any:
    """Load an image; paths, URLs and PIL images become PIL images rotated by their EXIF orientation.

    Args:
        image: a path, a URL (http or https), an image in base64 with or without "data:image/...;base64,", a PIL image,
            an array or a tensor. Arrays and tensors are returned as they are.
        timeout: of a download in seconds; None is `TIMEOUT_S`.

    Raises:
        DataError: if the image cannot be read or downloaded.
    """
    if isinstance(image, (np.ndarray, torch.Tensor)):
        return image
    if isinstance(image, PilImage.Image):
        return ImageOps.exif_transpose(image)
    name = shown_path(str(image))
    try:
        with PilImage.open(io.BytesIO(_encoded(image, name, timeout))) as opened:
            opened.load()
            return ImageOps.exif_transpose(opened)
    except (OSError, ValueError, SyntaxError, PilImage.DecompressionBombError) as error:
        raise DataError(f"{name}: cannot be decoded as an image ({error})") from error


def _encoded(image: str | Path, name: str, timeout: float | None) -> bytes:
    text = str(image)
    if text.lower().startswith(("http://", "https://")) and isinstance(image, str):
        return _download(text, timeout)
    is_data = text.startswith(_DATA_PREFIX)
    if is_data or (isinstance(image, str) and _BASE64.fullmatch(text) and not _is_file(text)):
        try:
            return base64.b64decode(text.split(",", 1)[-1])
        except (binascii.Error, ValueError) as error:
            raise DataError(f"{name}: is no image in base64 ({error})") from error
    try:
        return Path(image).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # longer than a name of a file may be
        return False


def _download(url: str, timeout: float | None) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "sfm-lightglue"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S if timeout is None else timeout) as response:
            data: bytes = response.read(MAX_DOWNLOAD_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{url}: cannot be downloaded ({reason}); download it in another way and give its path"
        ) from error
    if len(data) > MAX_DOWNLOAD_BYTES:
        raise DataError(
            f"{url}: larger than {MAX_DOWNLOAD_BYTES // 2**20} MiB; download it in another way and give its path"
        )
    return data
