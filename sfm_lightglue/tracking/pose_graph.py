"""A graph of similarities between keyframes, adjusted so that loops close and scale drift is distributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.sparse import bsr_matrix
from scipy.sparse.linalg import splu
from scipy.spatial.transform import Rotation

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import Sim3

_SIGMA_ROTATION = 0.01
"""Standard deviation of the rotation of an edge of weight 1, in radians."""

_SIGMA_TRANSLATION = 0.05
"""Standard deviation of its translation if none is given, as a fraction of the median length of the edges."""

_SIGMA_SCALE = 0.02
"""Standard deviation of the logarithm of its scale."""

_MAX_RESIDUAL = 6.0
"""Residual, in standard deviations, from which a doubtful edge counts as wrong."""

_GROWTH = 8.0
"""Factor by which the squared limit of doubtful edges shrinks from round to round."""

_MAX_ROUNDS = 20
_SMALL_STEP = 1e-5
"""Largest entry of a step, in radians and relative to the length of edges, at which the adjustment ends."""

_DAMPING = 1e-6
_NUM_UNKNOWNS = 7


@dataclass(frozen=True, slots=True, eq=False)
class PoseGraphEdge:
    """A measured similarity between two keyframes.

    Args:
        idx0: keyframe.
        idx1: another one.
        cam1_from_cam0: measured, each camera in its own unit of length.
        weight: how often it counts.
        is_doubtful: whether it can be wrong: it is left out where it contradicts the others.
    """

    idx0: int
    idx1: int
    cam1_from_cam0: Sim3
    weight: float = 1.0
    is_doubtful: bool = False


class _Similarities(NamedTuple):
    """Scales [N], rotations [N, 3, 3] and translations [N, 3]."""

    scale: Float64Array
    R: Float64Array
    t: Float64Array

    def rows(self, index: IndexArray) -> _Similarities:
        return _Similarities(self.scale[index], self.R[index], self.t[index])

    def inverse(self) -> _Similarities:
        R = self.R.transpose(0, 2, 1)
        return _Similarities(1 / self.scale, R, -_apply(R, self.t) / self.scale[:, None])

    def compose(self, other: _Similarities) -> _Similarities:
        t = self.scale[:, None] * _apply(self.R, other.t) + self.t
        return _Similarities(self.scale * other.scale, self.R @ other.R, t)


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """Edges as arrays: keyframes `first` and `second` [E], the measured `second_from_first`, and weights [E, 7]."""

    first: IndexArray
    second: IndexArray
    measured: _Similarities
    root_weights: Float64Array
    is_doubtful: BoolArray
    is_free: BoolArray


def optimize_pose_graph(
    cams_from_world: Mapping[int, Sim3],
    edges: Sequence[PoseGraphEdge],
    fixed_idx: int,
    sigma_translation: float | None = None,
) -> dict[int, Sim3]:
    """Poses of keyframes, with scale, that fit the edges best.

    The residual of an edge is its error in rotation, translation and logarithm of scale. Edges that are not doubtful
    have a squared loss. Doubtful ones have that of Geman and McClure, which is approached from a convex one: a correct
    loop counts fully at the end even if the drift before it was large, and a wrong one does not.

    Source: Strasdat et al., Scale drift-aware large scale monocular SLAM, 2010; Yang et al., Graduated non-convexity
    for robust spatial perception, 2020.

    Args:
        cams_from_world: start, by keyframe.
        edges: between them.
        fixed_idx: keyframe that stays. Keyframes without a path of edges to it stay as well.
        sigma_translation: standard deviation of the translation of an edge of weight 1.

    Returns:
        `cam_from_world` of each keyframe.
    """
    idxs = sorted(cams_from_world)
    order = {idx: row for row, idx in enumerate(idxs)}
    if not edges:
        return dict(cams_from_world)
    nodes = _stacked([cams_from_world[idx] for idx in idxs])
    graph = _graph(edges, order, fixed_idx, sigma_translation)
    if not graph.is_free.any():
        return dict(cams_from_world)
    nodes = _minimised(nodes, graph)
    R = np.asarray(Rotation.from_matrix(nodes.R).as_matrix())
    return {
        idx: Sim3(float(nodes.scale[row]), R[row], nodes.t[row]) if graph.is_free[row] else cams_from_world[idx]
        for idx, row in order.items()
    }


def edge_errors(
    cams_from_world: Mapping[int, Sim3], edges: Sequence[PoseGraphEdge], sigma_translation: float
) -> Float64Array:
    """Errors [E] of edges, one at least, in standard deviations of an edge of weight 1.

    Args:
        cams_from_world: by keyframe.
        edges: between them.
        sigma_translation: standard deviation of the translation.
    """
    order = {idx: row for row, idx in enumerate(cams_from_world)}
    alike = [replace(edge, weight=1.0) for edge in edges]
    graph = _graph(alike, order, edges[0].idx0, sigma_translation)
    errors: Float64Array = np.linalg.norm(_residuals(_stacked(list(cams_from_world.values())), graph)[0], axis=1)
    return errors


def _minimised(nodes: _Similarities, graph: _Graph) -> _Similarities:
    residuals = _residuals(nodes, graph)[0]
    control = _start_of_control(residuals, graph)
    normal = _Normal(graph)
    for _ in range(_MAX_ROUNDS):
        weights = _robust_weights(residuals, graph, control)
        step = _step(nodes, graph, normal, weights)
        moved = _moved(nodes, step)
        moved_residuals = _residuals(moved, graph)[0]
        if not np.isfinite(moved_residuals).all():
            break
        nodes, residuals = moved, moved_residuals
        is_last = control == 1.0
        control = max(1.0, control / _GROWTH)
        if is_last and np.abs(step).max() < _SMALL_STEP:
            break
    return nodes


def _graph(
    edges: Sequence[PoseGraphEdge], order: Mapping[int, int], fixed_idx: int, sigma_translation: float | None
) -> _Graph:
    first = np.array([order[edge.idx0] for edge in edges], np.int64)
    second = np.array([order[edge.idx1] for edge in edges], np.int64)
    measured = _stacked([edge.cam1_from_cam0 for edge in edges])
    if sigma_translation is None:
        lengths = np.linalg.norm(measured.t, axis=1)
        sigma_translation = _SIGMA_TRANSLATION * float(np.median(lengths[lengths > 0]) if (lengths > 0).any() else 1.0)
    inverse_sigmas = np.repeat([1 / _SIGMA_ROTATION, 1 / sigma_translation, 1 / _SIGMA_SCALE], [3, 3, 1])
    root_weights = np.sqrt([edge.weight for edge in edges])[:, None] * inverse_sigmas
    is_doubtful = np.array([edge.is_doubtful for edge in edges], np.bool_)
    graph = _Graph(first, second, measured, root_weights, is_doubtful, np.zeros(len(order), np.bool_))
    return replace(graph, is_free=_reached(graph, order[fixed_idx]))


def _reached(graph: _Graph, fixed: int) -> BoolArray:
    """Nodes with a path of edges to the fixed one, without itself."""
    reached = np.zeros(len(graph.is_free), np.bool_)
    reached[fixed] = True
    while True:
        ends = reached[graph.first] | reached[graph.second]
        before = int(reached.sum())
        reached[graph.first[ends]] = reached[graph.second[ends]] = True
        if int(reached.sum()) == before:
            break
    reached[fixed] = False
    return reached


def _start_of_control(residuals: Float64Array, graph: _Graph) -> float:
    """Factor of the squared limit with which the loss of doubtful edges is nearly convex, a power of the growth."""
    doubtful = residuals[graph.is_doubtful]
    largest = float((doubtful**2).sum(axis=1).max(initial=0)) / _MAX_RESIDUAL**2
    return float(_GROWTH ** np.ceil(np.log2(max(1.0, 2 * largest)) / np.log2(_GROWTH)))


def _robust_weights(residuals: Float64Array, graph: _Graph, control: float) -> Float64Array:
    limit = control * _MAX_RESIDUAL**2
    squared = (residuals**2).sum(axis=1)
    return np.where(graph.is_doubtful, (limit / (limit + squared)) ** 2, 1.0)


def _residuals(nodes: _Similarities, graph: _Graph) -> tuple[Float64Array, _Similarities, Float64Array]:
    """Weighted residuals [E, 7], the errors as similarities, and rotation vectors [E, 3] of these."""
    first, second = nodes.rows(graph.first), nodes.rows(graph.second)
    errors = graph.measured.compose(first).compose(second.inverse())
    rotvecs = np.asarray(Rotation.from_matrix(errors.R).as_rotvec())
    stacked = np.concatenate([rotvecs, errors.t, np.log(errors.scale)[:, None]], axis=1)
    return graph.root_weights * stacked, errors, rotvecs


def _step(nodes: _Similarities, graph: _Graph, normal: _Normal, robust: Float64Array) -> Float64Array:
    """The Gauss-Newton step [N, 7]: rotation, translation and logarithm of scale of each node, in its camera."""
    residuals, errors, rotvecs = _residuals(nodes, graph)
    roots = np.sqrt(robust)[:, None]
    J = [one * (roots * graph.root_weights)[:, :, None] for one in _jacobians(nodes, graph, errors, rotvecs)]
    step = np.zeros((len(graph.is_free), _NUM_UNKNOWNS))
    step[graph.is_free] = normal.step(J, roots * residuals)
    return step


class _Normal:
    """The pattern of the normal equations of a graph: where the blocks of each edge go.

    Args:
        graph: its free nodes are the unknowns.
    """

    def __init__(self, graph: _Graph) -> None:
        self._num = int(graph.is_free.sum())
        columns = np.cumsum(graph.is_free) - 1
        self._ends = [(columns[end], graph.is_free[end]) for end in (graph.first, graph.second)]
        places = []
        for (column0, is_free0), (column1, is_free1) in product(self._ends, self._ends):
            both = is_free0 & is_free1
            places.append(column0[both] * self._num + column1[both])
        self._order = np.argsort(np.concatenate(places), kind="stable")
        blocks, self._starts = np.unique(np.concatenate(places)[self._order], return_index=True)
        self._columns = blocks % self._num
        self._row_starts = np.searchsorted(blocks // self._num, np.arange(self._num + 1))
        self._diagonal = np.searchsorted(blocks, np.arange(self._num) * (self._num + 1))

    def step(self, J: Sequence[Float64Array], residuals: Float64Array) -> Float64Array:
        """The Gauss-Newton step [num_free, 7], from Jacobians [E, 7, 7] by both ends and residuals [E, 7]."""
        gradient = np.zeros((self._num, _NUM_UNKNOWNS))
        products = []
        for (column0, is_free0), J0 in zip(self._ends, J, strict=True):
            np.add.at(gradient, column0[is_free0], np.einsum("eij,ei->ej", J0, residuals)[is_free0])
            for (_, is_free1), J1 in zip(self._ends, J, strict=True):
                both = is_free0 & is_free1
                products.append(J0[both].transpose(0, 2, 1) @ J1[both])
        blocks = np.add.reduceat(np.concatenate(products)[self._order], self._starts)
        blocks[self._diagonal] += _DAMPING * np.eye(_NUM_UNKNOWNS)
        size = self._num * _NUM_UNKNOWNS
        normal = bsr_matrix((blocks, self._columns, self._row_starts), shape=(size, size)).tocsc()
        factors = splu(normal, permc_spec="COLAMD", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        return np.asarray(-factors.solve(gradient.ravel())).reshape(self._num, _NUM_UNKNOWNS)


def _jacobians(
    nodes: _Similarities, graph: _Graph, errors: _Similarities, rotvecs: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Derivatives [E, 7, 7] of the residuals of edges by steps of their first and of their second node."""
    relative = nodes.rows(graph.first).compose(nodes.rows(graph.second).inverse())
    measured = graph.measured
    scaled = measured.scale[:, None, None] * measured.R
    J_first = np.zeros((len(rotvecs), _NUM_UNKNOWNS, _NUM_UNKNOWNS))
    J_first[:, :3, :3] = _inverse_left_jacobian(rotvecs) @ measured.R
    J_first[:, 3:6, :3] = -scaled @ _cross_matrices(relative.t)
    J_first[:, 3:6, 3:6] = scaled
    J_first[:, 3:6, 6] = _apply(scaled, relative.t)
    J_first[:, 6, 6] = 1
    J_second = np.zeros_like(J_first)
    J_second[:, :3, :3] = -_inverse_left_jacobian(-rotvecs)
    J_second[:, 3:6, 3:6] = -errors.scale[:, None, None] * errors.R
    J_second[:, 6, 6] = -1
    return J_first, J_second


def _moved(nodes: _Similarities, step: Float64Array) -> _Similarities:
    """Nodes after a step [N, 7], which acts on the side of the camera."""
    turn, growth = np.asarray(Rotation.from_rotvec(step[:, :3]).as_matrix()), np.exp(step[:, 6])
    t = growth[:, None] * _apply(turn, nodes.t) + step[:, 3:6]
    return _Similarities(growth * nodes.scale, turn @ nodes.R, t)


def _inverse_left_jacobian(rotvecs: Float64Array) -> Float64Array:
    """Derivatives [N, 3, 3] of the logarithm of a rotation by a small rotation on its left."""
    angles = np.linalg.norm(rotvecs, axis=1)
    small = angles < 1e-4
    safe = np.where(small, 1.0, angles)
    factors = np.where(small, 1 / 12, 1 / safe**2 - (1 + np.cos(safe)) / (2 * safe * np.maximum(np.sin(safe), 1e-9)))
    K = _cross_matrices(rotvecs)
    inverse: Float64Array = np.eye(3) - K / 2 + factors[:, None, None] * (K @ K)
    return inverse


def _cross_matrices(vectors: Float64Array) -> Float64Array:
    """Skew-symmetric matrices [N, 3, 3] of vectors [N, 3]."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)


def _apply(matrices: Float64Array, vectors: Float64Array) -> Float64Array:
    """Products [N, 3] of matrices [N, 3, 3] and vectors [N, 3]."""
    return np.asarray(np.einsum("nij,nj->ni", matrices, vectors))


def _stacked(similarities: Sequence[Sim3]) -> _Similarities:
    return _Similarities(
        np.array([one.scale for one in similarities]),
        np.stack([one.R for one in similarities]),
        np.stack([one.t for one in similarities]),
    )
