"""This library and `transformers` under the same names, and a folder that both read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PilImage

import sfm_lightglue
from tests.helpers.matching_references import make_inputs, make_reference

transformers = pytest.importorskip("transformers")

LIBRARIES: dict[str, Any] = {"ours": sfm_lightglue, "theirs": transformers}

SMALL_DETECTOR = {
    "model_type": "superpoint",
    "encoder_hidden_sizes": [8, 8, 16, 16],
    "decoder_hidden_size": 32,
    "descriptor_decoder_dim": 64,
    "keypoint_threshold": 0.01,
    "max_keypoints": 40,
}
SMALL = {"descriptor_dim": 32, "num_hidden_layers": 3, "num_attention_heads": 2}


def small_config(library: Any, **options: Any) -> Any:
    """A configuration of a library for a small model."""
    return library.LightGlueConfig(**{"keypoint_detector_config": dict(SMALL_DETECTOR), **SMALL, **options})


def small_model(library: Any, **options: Any) -> Any:
    """A small model with random weights in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return library.LightGlueForKeypointMatching(small_config(library, **options)).eval()


def write_model(folder: Path, **options: Any) -> Path:
    """A folder of `transformers` with a model that finds matches, and a processor of 64 x 88 pixels."""
    make_reference(**options).save_pretrained(folder)
    sizes = {"size": {"height": 64, "width": 88}}
    transformers.LightGlueImageProcessorPil(**sizes).save_pretrained(folder)
    return folder


def write_pair(folder: Path) -> tuple[Path, Path]:
    """Two images in which the model of `write_model` finds matches."""
    paths = (folder / "first.png", folder / "second.png")
    for path, image in zip(paths, make_inputs(1)[0], strict=True):
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
        PilImage.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return paths


@contextlib.contextmanager
def served(folder: Path, requests: list[tuple[str, str]] | None = None) -> Iterator[str]:
    """Address of a server of a folder; paths and authorizations of the requests are added to a list."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if requests is not None:
                requests.append((self.path, self.headers.get("Authorization", "")))
            super().do_GET()

        def log_message(self, *_: object) -> None:
            """No log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
