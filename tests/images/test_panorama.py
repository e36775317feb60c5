"""Panoramas are told by their header: GPano XMP, a panorama camera with an aspect of 2:1, Apple's mark."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image as PilImage
from PIL import PngImagePlugin

from sfm_lightglue.images.image import Image
from tests.helpers.photos import make_exif, textured

FULL = {"FullPanoWidthPixels": "800", "FullPanoHeightPixels": "400"}
"""Properties of a whole panorama."""


def attributes(**values: str) -> bytes:
    """An XMP block of GPano properties, written as attributes."""
    texts = " ".join(f'GPano:{name}="{value}"' for name, value in values.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description'
        f' xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {texts}/></x:xmpmeta>'
    ).encode()


def elements(**values: str) -> bytes:
    """An XMP block of GPano properties, written as elements."""
    texts = "\n".join(f"<GPano:{name}>{value}</GPano:{name}>" for name, value in values.items())
    return f'<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/">{texts}</rdf>'.encode()


def jpeg(size: tuple[int, int] = (80, 60), xmp: bytes = b"", **details: Any) -> Image:
    buffer = io.BytesIO()
    PilImage.fromarray(textured(*size)).save(buffer, "jpeg", exif=make_exif(**details))
    data = buffer.getvalue()
    if xmp:
        segment = b"http://ns.adobe.com/xap/1.0/\0" + xmp
        data = data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]
    return Image("photo.jpg", data)


def in_format(suffix: str, xmp: bytes) -> Image:
    """A panorama in one of the other formats that hold XMP."""
    information = PngImagePlugin.PngInfo()
    information.add_itxt("XML:com.adobe.xmp", xmp.decode())
    options: dict[str, Any] = {"png": {"pnginfo": information}, "webp": {"xmp": xmp}, "tiff": {"tiffinfo": {700: xmp}}}
    buffer = io.BytesIO()
    PilImage.fromarray(textured(80, 40)).save(buffer, suffix, **options[suffix])
    return Image(f"photo.{suffix}", buffer.getvalue())


@pytest.mark.parametrize("write", [attributes, elements])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"ProjectionType": "equirectangular"}, "spherical"),
        ({"ProjectionType": "Equirectangular", "UsePanoramaViewer": "False"}, "spherical"),
        ({"UsePanoramaViewer": "True"}, "spherical"),
        (FULL, "spherical"),
        (FULL | {"CroppedAreaImageWidthPixels": "800", "CroppedAreaImageHeightPixels": "300"}, "spherical"),
        (FULL | {"CroppedAreaImageWidthPixels": "300", "CroppedAreaImageHeightPixels": "200"}, "partial"),
        (FULL | {"ProjectionType": "equirectangular", "CroppedAreaImageWidthPixels": "300"}, "partial"),
        (FULL | {"ProjectionType": "cylindrical", "CroppedAreaImageWidthPixels": "300"}, "sweep"),
        ({"ProjectionType": "rectilinear", "UsePanoramaViewer": "True"}, None),
        ({"UsePanoramaViewer": "False"}, None),
        ({"CaptureSoftware": "Photo Sphere"}, None),
        ({}, None),
    ],
)
def test_xmp_states_a_panorama(write, values, expected):
    """Of any aspect and any camera. The namespace alone states nothing."""
    assert jpeg(xmp=write(**values)).exif.panorama == expected


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_xmp_is_read_from_all_formats_that_hold_it(suffix):
    assert in_format(suffix, attributes(ProjectionType="equirectangular")).exif.panorama == "spherical"
    assert in_format(suffix, attributes(PoseHeadingDegrees="12")).exif.panorama is None


def test_xmp_is_read_beside_damaged_exif_data():
    buffer = io.BytesIO()
    xmp = attributes(ProjectionType="equirectangular")
    PilImage.fromarray(textured(80, 40)).save(buffer, "webp", exif=b"Exif\0\0garbage", xmp=xmp)
    assert Image("photo.webp", buffer.getvalue()).exif.panorama == "spherical"


PANORAMA_CAMERAS = [
    ("RICOH", "RICOH THETA Z1"),
    ("RICOH", "THETA S"),
    ("Insta360", "Insta360 X4"),
    ("Arashi Vision", "Insta360 ONE X2"),
    ("GoPro", "GoPro MAX"),
    ("GoPro", "GoPro Max2"),
    ("GoPro", "FUSION"),
    ("Samsung", "Gear 360"),
    ("Samsung", "SM-R210"),
    ("SAMSUNG", "SM-C200"),
    ("Kandao", "QooCam 8K"),
    ("NIKON CORPORATION", "KeyMission 360"),
    ("LG Electronics", "LG-R105"),
    ("LG Electronics", "LG 360 CAM"),
    ("Garmin", "VIRB 360"),
    ("Xiaomi", "Mi Sphere Camera"),
    ("YI TECHNOLOGY", "YI 360 VR"),
    ("HumanEyes", "Vuze XR"),
    ("Z CAM", "Z CAM S1"),
    ("Labpano", "Pilot Era"),
    ("DJI", "Osmo 360"),
]


@pytest.mark.parametrize(("make", "model"), PANORAMA_CAMERAS)
def test_an_aspect_of_two_to_one_from_a_panorama_camera_is_a_panorama(make, model):
    for size in ((80, 40), (81, 40), (79, 40)):
        assert jpeg(size, Make=make, Model=model).exif.panorama == "spherical", size
    for flat in ((80, 60), (80, 45), (80, 80), (40, 80), (96, 40)):
        assert jpeg(flat, Make=make, Model=model).exif.panorama is None, flat


@pytest.mark.parametrize(
    ("make", "model"),
    [
        ("Canon", "Canon PowerShot ELPH 360 HS"),
        ("SONY", "ILCE-7M3"),
        ("RICOH IMAGING COMPANY, LTD.", "RICOH GR III"),
        ("GoPro", "HERO11 Black"),
        ("Insta360", "Insta360 Ace Pro"),
        ("Insta360", "Insta360 GO 3"),
        ("Z CAM", "Z CAM E2"),
        ("Xiaomi", "Mi 10"),
        ("DJI", "Osmo Action 4"),
        ("DJI", "Osmo Pocket 3"),
        ("Samsung", "SM-G991B"),
        ("LG Electronics", "LG-H870"),
        ("NIKON CORPORATION", "NIKON D3X"),
        ("", ""),
    ],
)
def test_a_crop_of_two_to_one_from_another_camera_is_no_panorama(make, model):
    assert jpeg((80, 40), Make=make, Model=model).exif.panorama is None


@pytest.mark.parametrize(
    ("make", "custom_rendered", "size", "expected"),
    [
        ("Apple", 6, (240, 60), "sweep"),
        ("Apple", 6, (60, 240), "sweep"),
        ("Apple", 6, (80, 60), "sweep"),
        ("Apple", 3, (240, 60), None),
        ("Apple", 8, (80, 60), None),
        ("samsung", 6, (240, 60), "sweep"),
        ("samsung", 6, (80, 60), None),
        ("samsung", 1, (240, 60), None),
        ("Canon", None, (240, 60), None),
    ],
)
def test_only_the_mark_of_a_sweep_panorama_makes_one(make, custom_rendered, size, expected):
    """A long crop is none, and Apple's other values of the tag are portraits and bracketed exposures."""
    details = {} if custom_rendered is None else {"CustomRendered": custom_rendered}
    assert jpeg(size, Make=make, **details).exif.panorama == expected
