"""The header of JPEG 2000 files, as far as Pillow does not tell it.

Source: ISO/IEC 15444-1, A.5.1 (marker SIZ) and A.6.1 (marker COD).
"""

from __future__ import annotations

from dataclasses import dataclass

_START_AND_SIZ, _COD = b"\xff\x4f\xff\x51", b"\xff\x52"


@dataclass(frozen=True, slots=True)
class Jpeg2000Header:
    """Part of the main header of a codestream.

    Args:
        bits: of the first channel.
        num_reductions: how many times the decoder can halve the size.
        starts_at_origin: the image begins at (0, 0) of its reference grid.
    """

    bits: int = 8
    num_reductions: int = 0
    starts_at_origin: bool = False

    @classmethod
    def find(cls, data: bytes) -> Jpeg2000Header:
        """The header in the bytes of a file; an incomplete one has the defaults."""
        start = data.find(_START_AND_SIZ)
        if start < 0 or start + 43 > len(data):
            return cls()
        end_of_siz = start + 4 + int.from_bytes(data[start + 4 : start + 6], "big")
        cod = data.find(_COD, end_of_siz, end_of_siz + 4096)
        return cls(
            bits=(data[start + 42] & 0x7F) + 1,
            num_reductions=data[cod + 9] if 0 <= cod < len(data) - 9 else 0,
            starts_at_origin=data[start + 16 : start + 24] == bytes(8),
        )
