"""The catalogue of weights: address, size, digest and licence of each published file.

A digest is given if it was computed from the file itself, or if unrelated public projects give the same one.
Otherwise it is None, and a download is only as trustworthy as its address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One published file of weights."""

    name: str
    """Name in options and commands."""

    file: str
    """Name of the file in weight folders: the published name, unless several files share it."""

    url: str | None
    """Official address; None if the file comes only with the package."""

    licence: str
    """SPDX identifier, or a sentence if there is none."""

    purpose: str
    """The network and its use."""

    commercial: bool = True
    """Whether the licence allows commercial use."""

    size: int | None = None
    """Number of bytes; None if unknown."""

    sha256: str | None = None
    """Hexadecimal digest; None if unknown."""


_LIGHTGLUE = "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/{}"
_HUGGING_FACE = "https://huggingface.co/{}/resolve/main/model.safetensors"
_ALIKED = "https://github.com/Shiaoming/ALIKED/raw/main/models/{}"
_XFEAT = "https://github.com/verlab/accelerated_features/raw/main/weights/{}"
_HARDNET = "https://github.com/DagnyT/hardnet/raw/master/pretrained/train_liberty_with_aug/{}"
_MAGIC_LEAP = "Magic Leap, for non-commercial research only"

_ENTRIES = (
    WeightsEntry(
        name="lightglue_sift",
        file="lightglue_sift.safetensors",
        url=None,
        licence="Apache-2.0",
        purpose="LightGlue for SIFT, trained by this project; comes with the package",
    ),
    WeightsEntry(
        name="lightglue_sift_v2",
        file="lightglue_sift_v2.safetensors",
        url=None,
        licence="Apache-2.0",
        purpose="lightglue_sift, trained further on a GPU; comes with the package",
    ),
    WeightsEntry(
        name="retrieval_sift",
        file="retrieval_sift.safetensors",
        url=None,
        licence="Apache-2.0",
        purpose="vocabulary of SIFT for similar images, trained by this project; comes with the package",
    ),
    WeightsEntry(
        name="superpoint_v1",
        file="superpoint_v1.pth",
        url=_LIGHTGLUE.format("superpoint_v1.pth"),
        licence=_MAGIC_LEAP,
        purpose="SuperPoint",
        commercial=False,
        size=5_206_086,
        sha256="52b6708629640ca883673b5d5c097c4ddad37d8048b33f09c8ca0d69db12c40e",
    ),
    WeightsEntry(
        name="superpoint_lightglue",
        file="superpoint_lightglue.pth",
        url=_LIGHTGLUE.format("superpoint_lightglue.pth"),
        licence="Apache-2.0",
        purpose="LightGlue for SuperPoint; SuperPoint itself is for non-commercial use",
        sha256="6ff7040d0a497fc6639337946d7538dae07428c18f77a067a0b5a960e7cc551a",
    ),
    WeightsEntry(
        name="disk_lightglue",
        file="disk_lightglue.pth",
        url=_LIGHTGLUE.format("disk_lightglue.pth"),
        licence="Apache-2.0",
        purpose="LightGlue for DISK",
        size=47_631_405,
        sha256="b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335",
    ),
    WeightsEntry(
        name="aliked_lightglue",
        file="aliked_lightglue.pth",
        url=_LIGHTGLUE.format("aliked_lightglue.pth"),
        licence="Apache-2.0",
        purpose="LightGlue for ALIKED with 128 dimensions: n16, n16rot, n32",
        size=47_632_827,
        sha256="d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
    ),
    WeightsEntry(
        name="sift_lightglue",
        file="sift_lightglue.pth",
        url=_LIGHTGLUE.format("sift_lightglue.pth"),
        licence="Apache-2.0",
        purpose="LightGlue for SIFT, by the authors of LightGlue",
        size=47_632_573,
        sha256="5b52b8d9982d43532dc042606b346bb9594c9f5a4bd6f64362c63866287b4ac0",
    ),
    WeightsEntry(
        name="doghardnet_lightglue",
        file="doghardnet_lightglue.pth",
        url=_LIGHTGLUE.format("doghardnet_lightglue.pth"),
        licence="Apache-2.0",
        purpose="LightGlue for DoGHardNet",
    ),
    WeightsEntry(
        name="ETH-CVG/lightglue_superpoint",
        file="lightglue_superpoint.safetensors",
        url=_HUGGING_FACE.format("ETH-CVG/lightglue_superpoint"),
        licence=f"Apache-2.0 and {_MAGIC_LEAP}",
        purpose="SuperPoint and its LightGlue, in the layout of Hugging Face",
        commercial=False,
    ),
    WeightsEntry(
        name="ETH-CVG/lightglue_disk",
        file="lightglue_disk.safetensors",
        url=_HUGGING_FACE.format("ETH-CVG/lightglue_disk"),
        licence="Apache-2.0",
        purpose="DISK and its LightGlue, in the layout of Hugging Face",
    ),
    WeightsEntry(
        name="aliked-t16",
        file="aliked-t16.pth",
        url=_ALIKED.format("aliked-t16.pth"),
        licence="BSD-3-Clause",
        purpose="ALIKED, smallest model, 64 dimensions",
        size=794_859,
    ),
    WeightsEntry(
        name="aliked-n16",
        file="aliked-n16.pth",
        url=_ALIKED.format("aliked-n16.pth"),
        licence="BSD-3-Clause",
        purpose="ALIKED, standard model",
        size=2_738_091,
        sha256="5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2",
    ),
    WeightsEntry(
        name="aliked-n16rot",
        file="aliked-n16rot.pth",
        url=_ALIKED.format("aliked-n16rot.pth"),
        licence="BSD-3-Clause",
        purpose="ALIKED, trained on rotated images too",
        size=2_738_325,
        sha256="ddf3abbf38e86f6a74540d214e1a9712c54b2d8551abc864542199f2347d7332",
    ),
    WeightsEntry(
        name="aliked-n32",
        file="aliked-n32.pth",
        url=_ALIKED.format("aliked-n32.pth"),
        licence="BSD-3-Clause",
        purpose="ALIKED, largest model",
        size=3_946_667,
        sha256="055283fd1624d3ab46a05c3b617b1a79a3f28d1f551737eef2d653e8c8232890",
    ),
    WeightsEntry(
        name="xfeat",
        file="xfeat.pt",
        url=_XFEAT.format("xfeat.pt"),
        licence="Apache-2.0",
        purpose="XFeat",
        size=6_247_949,
        sha256="0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
    ),
    WeightsEntry(
        name="xfeat-lighterglue",
        file="xfeat-lighterglue.pt",
        url=_XFEAT.format("xfeat-lighterglue.pt"),
        licence="Apache-2.0",
        purpose="LighterGlue for XFeat; the file also contains XFeat",
        sha256="766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8",
    ),
    WeightsEntry(
        name="disk",
        file="depth-save.pth",
        url="https://raw.githubusercontent.com/cvlab-epfl/disk/master/depth-save.pth",
        licence="Apache-2.0",
        purpose="DISK, trained with depth",
        size=4_375_832,
        sha256="9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
    ),
    WeightsEntry(
        name="hardnet",
        file="checkpoint_liberty_with_aug.pth",
        url=_HARDNET.format("checkpoint_liberty_with_aug.pth"),
        licence="MIT",
        purpose="HardNet, trained on Liberty; the descriptor of DoGHardNet",
        sha256="1e9a41b19f1dc93c986e91df9aaf5696d1a777ac1d67498492856a65d6f49c16",
    ),
)

CATALOG: Mapping[str, WeightsEntry] = {entry.name: entry for entry in _ENTRIES}
"""Entries by name."""

SHIPPED_SHA256: Mapping[str, str] = {
    "lightglue_sift": "6426d1c218da8ffe9492cdb55c9c43b81c681fa27f0ea2c5deb8956792547825",
    "lightglue_sift_v2": "247c6dc66781910764b54b72d0422a509913305fac890592224e17d1a8fcf790",
    "retrieval_sift": "b0d517cbd25687783160c2a0eb325aef2ce913ea488d1352271642a285682365",
}
"""Digests of the files that come with the package, by name. Files of the user with the same names may differ, so they
are no part of the entries."""
