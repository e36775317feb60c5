"""Exact search of similar images: laws of the neighbours, and the same ones by faiss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.retrieval import similar_images
from sfm_lightglue.retrieval.similar_images import SimilarImages


def random_images(num: int, dimension: int = 16, seed: int = 0) -> SimilarImages:
    vectors = np.random.default_rng(seed).normal(size=(num, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return SimilarImages(tuple(f"{i:06}" for i in range(num)), vectors)


def expected(similar: SimilarImages, k: int) -> np.ndarray:
    similarity = similar.vectors.astype(np.float64) @ similar.vectors.T.astype(np.float64)
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("num", [2, 7, 1300])
def test_the_nearest_are_those_of_all_products(num):
    similar = random_images(num)
    k = min(5, num - 1)
    found, similarity = similar.nearest(k)
    assert found.dtype == np.int32 and similarity.dtype == np.float32
    np.testing.assert_array_equal(found, expected(similar, k))
    products = np.einsum("nd,nkd->nk", similar.vectors, similar.vectors[found])
    np.testing.assert_allclose(similarity, products, atol=1e-5)


def test_more_neighbours_than_images_give_all_others():
    found, _ = random_images(4).nearest(10)
    assert found.shape == (4, 3)
    assert all(sorted([i, *row]) == [0, 1, 2, 3] for i, row in enumerate(found.tolist()))


@pytest.mark.parametrize("num", [0, 1])
def test_fewer_than_two_images_have_no_neighbours(num):
    found, similarity = random_images(num).nearest(3)
    assert found.shape == similarity.shape == (num, 0)


def test_equal_similarities_are_in_the_order_of_the_images():
    one = random_images(1, 128).vectors
    similar = SimilarImages(tuple("abcdefgh"), np.repeat(one, 8, axis=0))
    found, _ = similar.nearest(3)
    assert found.tolist()[:4] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert (found[4:] == [0, 1, 2]).all()


def test_the_number_of_threads_does_not_matter():
    similar = random_images(1500)
    threads = SimilarImages(similar.names, similar.vectors, ThreadExecutor(3))
    for one, other in zip(similar.nearest(7), threads.nearest(7), strict=True):
        np.testing.assert_array_equal(one, other)


def test_between_two_sets_only_images_of_the_second_are_found():
    similar = random_images(60)
    rows0, rows1 = np.arange(0, 20), np.arange(59, 9, -1)
    found, similarity = similar.between(rows0, rows1, 4)
    products = similar.vectors[rows0] @ similar.vectors[10:].T
    products[np.arange(10, 20), np.arange(10)] = -np.inf
    np.testing.assert_array_equal(found, 10 + np.argsort(-products, axis=1)[:, :4])
    assert (np.diff(similarity, axis=1) <= 0).all()


def test_an_image_is_not_similar_to_itself_even_if_no_other_is_left():
    found, similarity = random_images(5).between([3], [3, 4], 2)
    assert found.tolist() == [[4, -1]]
    assert np.isneginf(similarity[0, 1])


def test_faiss_finds_the_same_images(monkeypatch):
    pytest.importorskip("faiss", reason="needs the extra `retrieval`: pip install 'sfm-lightglue[retrieval]'")
    similar = random_images(900)
    exact = similar.nearest(6)
    monkeypatch.setattr(similar_images, "_FAISS_FROM", 2)
    found = similar.nearest(6)
    np.testing.assert_array_equal(found[0], exact[0])
    np.testing.assert_allclose(found[1], exact[1], atol=1e-5)


def test_a_large_scene_without_faiss_is_searched_too(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    monkeypatch.setattr(similar_images, "_FAISS_FROM", 2)
    similar = random_images(50)
    np.testing.assert_array_equal(similar.nearest(3)[0], expected(similar, 3))


def test_a_search_tells_how_far_it_is():
    calls = []
    similar = replace(random_images(1300), progress=lambda *call: calls.append(call))
    similar.nearest(3)
    assert calls == [("search", i, 3) for i in range(4)]
