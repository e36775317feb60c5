"""Train the vocabulary for SIFT that comes with the package, from a folder of images.

Example: python scripts/train_vocabulary.py photos/ sfm_lightglue/weights/retrieval_sift.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.extractors.sift import SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.retrieval.learning import LEARNING_VERSION, learn_vocabulary
from sfm_lightglue.retrieval.scene_vocabulary import spread
from sfm_lightglue.weights.state_dict import save_tensors


def train(folder: Path, output: Path, num_images: int, num_descriptors: int, seed: int) -> None:
    """Learn a vocabulary from images spread evenly over the sorted names of a folder, and write it."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    extractor = SiftExtractor()
    samples: list[Float32Array] = []
    for i in spread(len(paths), num_images):
        descriptors = extractor.extract(Image.read(paths[i])).descriptors
        samples.append(descriptors[spread(len(descriptors), num_descriptors)])
    with one_blas_thread():
        vocabulary = learn_vocabulary(np.concatenate(samples), seed)
    tensors = {name: torch.from_numpy(array.astype(np.float16)) for name, array in vocabulary.arrays().items()}
    facts = {"features": "RootSIFT", "images": str(len(samples)), "descriptors": str(sum(map(len, samples)))}
    save_tensors(tensors, output, facts | {"seed": str(seed), "learning": str(LEARNING_VERSION)})


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of training images")
    parser.add_argument("output", type=Path, help="the vocabulary, a safetensors file")
    parser.add_argument("--images", type=int, default=500, help="images to use (default: 500)")
    parser.add_argument("--descriptors", type=int, default=120, help="descriptors of each image (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of the first words (default: 0)")
    options = parser.parse_args()
    train(options.folder, options.output, options.images, options.descriptors, options.seed)


if __name__ == "__main__":
    main()
