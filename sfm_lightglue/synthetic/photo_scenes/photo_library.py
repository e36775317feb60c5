"""Photographs for textures, from a folder or from one archive file; and the writer of such archives."""

from __future__ import annotations

import io
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.images.formats import PHOTO_SUFFIXES
from sfm_lightglue.images.image import Image
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.store.atomic_file import atomic_write

MIN_QUALITY = 20
MAX_QUALITY = 95
"""Range of the WebP quality of an archive. Below it, most fine structure of the photographs is lost."""

_SUFFIX = ".webp"  # for the same error, its files have 0.6 times the size of JPEG files

_MAX_ARCHIVE_BYTES = 4 * 10**9
_MIN_PHOTO_PX = 64
_NUM_SAMPLES = 64
_MEMBER_BYTES = 76  # two headers of each member of a zip file, without its name, which both contain
_END_BYTES = 22
_DATE = (1980, 1, 1, 0, 0, 0)


class PhotoLibrary:
    """Photographs on a device, decoded at first use.

    `open` makes one.

    Args:
        path: folder of photographs, or archive of `write_photo_archive`; named in errors.
        contents: (name, size in bytes) of each photograph, sorted by name.
        archive: the opened archive; None reads files of the folder.
        device: of the decoded photographs.
        max_decoded: this many decoded photographs are kept, those that were used last; None keeps all.
    """

    def __init__(
        self,
        path: Path,
        contents: Sequence[tuple[str, int]],
        archive: zipfile.ZipFile | None,
        device: torch.device | str = "cpu",
        max_decoded: int | None = None,
    ) -> None:
        self.path = path
        self.contents = tuple(contents)
        self.names = tuple(name for name, _ in self.contents)
        self.device = torch.device(device)
        self._archive = archive
        self._max_decoded = max_decoded
        self._decoded: OrderedDict[str, Tensor] = OrderedDict()

    @classmethod
    def open(cls, path: Path | str, device: torch.device | str = "cpu", max_decoded: int | None = None) -> PhotoLibrary:
        """Find the photographs of a folder or an archive. None is decoded yet; an archive is read into memory.

        Args:
            path: folder of photographs, or archive of `write_photo_archive`.
            device: of the decoded photographs.
            max_decoded: this many decoded photographs are kept, those that were used last; None keeps all.

        Raises:
            DataError: if the path is missing or unreadable, or has no photographs.
        """
        path = Path(path)
        if path.is_dir():
            contents = [(file.name, file.stat().st_size) for file in _photo_files(path)]
            return cls(path, contents, None, device, max_decoded)
        archive = _opened_archive(path)
        members = {member.filename: member.file_size for member in archive.infolist() if _is_photo(member.filename)}
        if len(members) == 0:
            raise DataError(f"{path}: no photographs for training scenes in this archive")
        return cls(path, sorted(members.items()), archive, device, max_decoded)

    def __len__(self) -> int:
        return len(self.names)

    def photo(self, name: str) -> Tensor:
        """One photograph.

        Args:
            name: one of `names`.

        Returns:
            uint8 [H, W, 3] RGB on the device; it must not be changed.

        Raises:
            DataError: if the photograph is missing or damaged.
        """
        if name in self._decoded:
            self._decoded.move_to_end(name)
            return self._decoded[name]
        pixels = np.require(self._image(name).rgb(), np.uint8, ["C", "W"])
        decoded = torch.from_numpy(pixels).to(self.device)
        self._decoded[name] = decoded
        if self._max_decoded is not None and len(self._decoded) > self._max_decoded:
            self._decoded.popitem(last=False)
        return decoded

    def _image(self, name: str) -> Image:
        if self._archive is None:
            return Image.read(self.path / name)
        try:
            return Image(f"{self.path}: {name}", self._archive.read(name))
        except Exception as error:  # damaged bytes of an archive raise anything
            raise DataError(f"{self.path}: {name}: damaged in the archive ({error}); copy the file again") from error


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What `write_photo_archive` wrote.

    Args:
        num_photos: number of photographs.
        quality: of their WebP compression.
        num_bytes: size of the file.
    """

    num_photos: int
    quality: int
    num_bytes: int


def write_photo_archive(folder: Path, file: Path, max_mb: float, max_size_px: int = 512) -> ArchiveReport:
    """Write the photographs of a folder into one file that `PhotoLibrary` reads, in the highest quality that fits.

    The file is a zip file of WebP files that keep the names of the photographs before the suffix.

    Args:
        folder: photographs; they are not changed.
        file: the archive, which appears when it is complete.
        max_mb: maximum size of the file in 10^6 bytes.
        max_size_px: photographs are shrunk until their longer side has at most this many pixels.

    Raises:
        ConfigError: if the size is too small for the photographs, or two of them differ only in their suffix.
        DataError: if the folder has no photographs, or one cannot be read.
        StoreError: if the file cannot be written.
    """
    if not 0 < max_mb < _MAX_ARCHIVE_BYTES / 1e6:
        raise ConfigError(f"pack-size: {max_mb} MB; it must be above 0 and below {_MAX_ARCHIVE_BYTES / 1e6:.0f}")
    if max_size_px < _MIN_PHOTO_PX:
        raise ConfigError(f"pack-photos: {max_size_px} pixels; photographs must have at least {_MIN_PHOTO_PX}")
    paths = _photo_files(folder)
    _require_different_stems(paths)
    for_headers = sum(_MEMBER_BYTES + 2 * len(f"{path.stem}{_SUFFIX}".encode()) for path in paths) + _END_BYTES
    fitting = _fitting(paths, int(max_mb * 1e6) - for_headers, max_size_px)
    if fitting is None:
        raise ConfigError(
            f"pack-size: {len(paths)} photographs of {max_size_px} pixels do not fit into {max_mb:g} MB, even in the "
            f"lowest quality ({MIN_QUALITY}); allow more, or pack fewer photographs"
        )
    quality, members = fitting
    with atomic_write(file) as output, zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for path, data in zip(paths, members, strict=True):
            archive.writestr(zipfile.ZipInfo(f"{path.stem}{_SUFFIX}", _DATE), data)
    return ArchiveReport(len(paths), quality, file.stat().st_size)


def _fitting(paths: Sequence[Path], max_bytes: int, max_size_px: int) -> tuple[int, list[bytes]] | None:
    """The highest quality at which all photographs have at most `max_bytes`, and their bytes; None if there is none.

    The size is estimated from a sample, and the estimate is corrected by the size of all photographs.
    """
    sample = paths[:: -(-len(paths) // _NUM_SAMPLES)]
    shrunk = [_shrunk(path, max_size_px) for path in sample]

    @cache
    def sample_bytes(quality: int) -> int:
        return sum(len(_encoded(pixels, quality)) for pixels in shrunk)

    fitting: tuple[int, list[bytes]] | None = None
    factor, lowest, highest = len(paths) / len(sample), MIN_QUALITY, MAX_QUALITY
    while lowest <= highest:
        low, high = (
            lowest,
            highest + 1,
        )  # by bisection, the highest quality that fits by the estimate, but not below low
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if sample_bytes(middle) * factor <= max_bytes else (low, middle)
        if fitting is not None and sample_bytes(low) * factor > max_bytes:
            break
        members = _all_encoded(paths, low, max_size_px)
        num_bytes = sum(map(len, members))
        factor = num_bytes / sample_bytes(low)
        if num_bytes <= max_bytes:
            fitting, lowest = (low, members), low + 1
        else:
            highest = low - 1
    return fitting


def _all_encoded(paths: Sequence[Path], quality: int, max_size_px: int) -> list[bytes]:
    with ThreadPoolExecutor() as pool:  # the codecs release the lock of the interpreter
        return list(pool.map(lambda path: _encoded(_shrunk(path, max_size_px), quality), paths))


def _shrunk(path: Path, max_size_px: int) -> UInt8Array:
    return Image.read(path).to_fit(max_size_px, colour=True)[0]


def _encoded(pixels: UInt8Array, quality: int) -> bytes:
    return cv2.imencode(_SUFFIX, pixels[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def _photo_files(folder: Path) -> list[Path]:
    """The photographs of a folder, sorted.

    Raises:
        DataError: if there is none.
    """
    paths = sorted(path for path in folder.glob("*") if _is_photo(path.name) and path.is_file())
    if len(paths) == 0:
        raise DataError(f"{folder}: no photographs for training scenes")
    return paths


def _is_photo(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PHOTO_SUFFIXES and "/" not in name


def _require_different_stems(paths: Sequence[Path]) -> None:
    stem, number = Counter(path.stem for path in paths).most_common(1)[0]
    if number > 1:
        names = ", ".join(path.name for path in paths if path.stem == stem)
        raise ConfigError(f"pack-photos: {names} would have the same name in the archive; rename all but one")


def _opened_archive(path: Path) -> zipfile.ZipFile:
    data = read_input_file(path, _MAX_ARCHIVE_BYTES)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        are_stored = all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
    except Exception as error:  # damaged bytes raise anything
        raise DataError(f"{path}: neither a folder of photographs nor a readable archive of them ({error})") from error
    if not are_stored:
        raise DataError(f"{path}: the archive is compressed, so `train` did not write it; unpack it into a folder")
    return archive
