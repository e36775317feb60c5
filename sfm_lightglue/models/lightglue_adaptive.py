"""The pairs that are still processed by LightGlue, and their remaining points.

Pairs stop one by one, and each loses its own points. The remaining points are kept compact, with as little padding
as possible. Results do not depend on the order in which pairs stop: they are written to the rows and columns of
the input batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfm_lightglue.models.lightglue_attention import Context
from sfm_lightglue.models.lightglue_types import LightGlueOutput


@dataclass(frozen=True, slots=True)
class RemainingPoints:
    """The remaining points of one image in each of A pairs.

    Args:
        points: [A, N] index of each point among the input points; on padding, of a removed point.
        mask: [A, N] bool, True on points; None if there is no padding.
    """

    points: Tensor
    mask: Tensor | None

    @property
    def num_points(self) -> int:
        """N, including padding."""
        return self.points.shape[1]

    def valid(self) -> Tensor:
        """[A, N] bool, True on points."""
        return torch.ones_like(self.points, dtype=torch.bool) if self.mask is None else self.mask

    def select(self, rows: Tensor, keep: Tensor) -> tuple[RemainingPoints, Tensor]:
        """The points to keep of some pairs, in their order.

        Args:
            rows: [A'] rows of the pairs to keep.
            keep: [A, N] bool, False on padding.

        Returns:
            The points [A', N'], and the former column of each [A', N'].
        """
        keep = keep[rows]
        counts = keep.sum(1)
        width = int(counts.max()) if len(rows) > 0 else 0
        if width == self.num_points and bool((counts == width).all()):
            columns = torch.arange(width, device=keep.device).expand(len(rows), -1)
        else:
            columns = torch.argsort((~keep).to(torch.uint8), dim=1, stable=True)[:, :width]
        padded = bool((counts != width).any())
        mask = torch.arange(width, device=keep.device) < counts[:, None] if padded else None
        return RemainingPoints(self.points[rows[:, None], columns], mask), columns

    def scatter(self, target: Tensor, pairs: Tensor, values: Tensor) -> None:
        """Writes values [A, N, ...] of the points to the rows `pairs` [A] of `target` [B, N_in, ...]."""
        where = (pairs[:, None], self.points)
        if self.mask is not None:
            mask = self.mask.view(*self.mask.shape, *[1] * (values.ndim - 2))
            values = torch.where(mask, values, target[where])
        target[where] = values


@dataclass(frozen=True, slots=True)
class ActivePairs:
    """A pairs that are still processed.

    Args:
        pairs: [A] their rows in the input batch.
        x: [A, N0 + N1, D] states.
        rotations: [A, N0 + N1, 2, d] cosines and sines.
        side0: points of image 0.
        side1: points of image 1.
    """

    pairs: Tensor
    x: Tensor
    rotations: Tensor
    side0: RemainingPoints
    side1: RemainingPoints

    @classmethod
    def from_batch(cls, x: Tensor, context: Context) -> ActivePairs:
        """All pairs [B] of a batch, with all points."""
        n0, (batch, n, _) = context.num_points0, x.shape
        columns = torch.arange(n, device=x.device).expand(batch, -1)  # [B, N0 + N1]
        side0 = RemainingPoints(columns[:, :n0], context.mask0)
        side1 = RemainingPoints(columns[:, : n - n0], context.mask1)
        return cls(torch.arange(batch, device=x.device), x, context.rotations, side0, side1)

    @property
    def context(self) -> Context:
        """Rotations and masks for the layers."""
        return Context(self.rotations, self.side0.num_points, self.side0.mask, self.side1.mask)

    def valid(self) -> Tensor:
        """[A, N0 + N1] bool, True on points."""
        return torch.cat([self.side0.valid(), self.side1.valid()], dim=1)

    def has_points(self, keep: Tensor) -> Tensor:
        """[A] bool: whether `keep` [A, N0 + N1] has points of both images."""
        n0 = self.side0.num_points
        return keep[:, :n0].any(1) & keep[:, n0:].any(1)

    def rounded_up(self, keep: Tensor, priority: Tensor, multiple: int) -> Tensor:
        """Adds points to keep, until each image of each pair keeps a multiple, or all of its points.

        Args:
            keep: [A, N0 + N1] bool, False on padding.
            priority: [A, N0 + N1] in [0, 1]; of the other points, those with the highest priority are added.
            multiple: 1 adds no points.
        """
        if multiple == 1:
            return keep
        n0, valid = self.side0.num_points, self.valid()
        priority = (priority + keep).masked_fill(~valid, -1.0)  # points to keep come first, padding last
        sides = []
        for kept, values in ((keep[:, :n0], priority[:, :n0]), (keep[:, n0:], priority[:, n0:])):
            count = -(-kept.sum(1, keepdim=True) // multiple) * multiple
            ranks = values.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            sides.append(ranks < count)
        return torch.cat(sides, dim=1) & valid

    def select(self, stays: Tensor, keep: Tensor) -> ActivePairs:
        """The pairs and points to keep.

        Args:
            stays: [A] bool, True on pairs to keep.
            keep: [A, N0 + N1] bool, False on padding.

        Returns:
            The pairs in their order, with as little padding as possible.
        """
        n0 = self.side0.num_points
        if len(self.pairs) > 0 and bool(stays.all()) and torch.equal(keep, self.valid()):
            is_tight = bool(keep[:, n0 - 1].any()) and bool(keep[:, -1].any())
            if is_tight:
                return self
        rows = stays.nonzero()[:, 0]
        side0, columns0 = self.side0.select(rows, keep[:, :n0])
        side1, columns1 = self.side1.select(rows, keep[:, n0:])
        columns = torch.cat([columns0, columns1 + n0], dim=1)
        where = rows[:, None] * self.x.shape[1] + columns  # rows of the flattened states, much faster to select
        x, rotations = (
            torch.unflatten(full.flatten(0, 1).index_select(0, where.flatten()), 0, columns.shape)
            for full in (self.x, self.rotations)
        )
        return ActivePairs(self.pairs[rows], x, rotations, side0, side1)


class Results:
    """Collects results in the rows and columns of the input batch.

    Args:
        start: all pairs [B] with all points.
        wants_hidden_states: whether to collect the states after each layer.
        wants_attentions: whether to collect the attention weights of each layer.
        wants_messages: whether to collect messages and updates of each layer.
    """

    def __init__(
        self,
        start: ActivePairs,
        wants_hidden_states: bool = False,
        wants_attentions: bool = False,
        wants_messages: bool = False,
    ) -> None:
        batch, n, _ = start.x.shape
        self.shape, self.num_points0 = start.x.shape, start.side0.num_points
        self.wants_hidden_states, self.wants_attentions = wants_hidden_states, wants_attentions
        self.wants_messages = wants_messages
        scores_dtype = torch.promote_types(start.x.dtype, torch.float32)
        self.matches = start.pairs.new_full((batch, n), -1)
        self.scores = start.x.new_zeros((batch, n), dtype=scores_dtype)
        self.num_layers = start.pairs.new_zeros((batch, n))
        self.stop_layer = start.pairs.new_zeros(batch)
        self.is_wanted = start.valid().clone()
        self.hidden_states: list[Tensor] = []
        self.attentions: list[Tensor] = []
        self.messages: list[Tensor] = []
        if wants_hidden_states:
            self.hidden_states.append(self._in_place(start, start.x, torch.zeros_like(start.x)))

    def add_layer(
        self, active: ActivePairs, num_layers: int, weights: list[Tensor] | None, messages: list[Tensor] | None = None
    ) -> None:
        """Records the run of a layer: its pairs and points, the weights of its four attentions, its messages."""
        self.stop_layer[active.pairs] = num_layers
        self._in_place(active, self.num_layers.new_full(active.x.shape[:2], num_layers), self.num_layers)
        if self.wants_hidden_states:
            self.hidden_states.append(self._in_place(active, active.x, active.x.new_zeros(self.shape)))
        self.messages += [self._in_place(active, each, each.new_zeros(self.shape)) for each in messages or ()]
        if weights is None:
            return
        n0, n1 = self.num_points0, self.shape[1] - self.num_points0
        side0, side1 = active.side0, active.side1
        for weight, query, key, size in zip(
            weights,
            (side0, side1, side0, side1),
            (side0, side1, side1, side0),
            ((n0, n0), (n1, n1), (n0, n1), (n1, n0)),
            strict=True,
        ):
            # [A, H, N, M] -> entries of [B, H, N_in, M_in], written through a view with the heads last.
            full = weight.new_zeros(self.shape[0], weight.shape[1], *size)
            rows, columns = query.points[:, :, None], key.points[:, None, :]
            valid = (query.valid()[:, :, None] & key.valid()[:, None, :])[..., None]
            full.permute(0, 2, 3, 1)[active.pairs[:, None, None], rows, columns] = weight.permute(0, 2, 3, 1) * valid
            self.attentions.append(full)

    def add_wanted(self, active: ActivePairs, wanted: Tensor) -> None:
        """Records the points [A, N0 + N1] that a layer wants to keep; what one layer does not want stays unwanted."""
        n0, split = self.num_points0, active.side0.num_points
        for side, full, part in (
            (active.side0, self.is_wanted[:, :n0], wanted[:, :split]),
            (active.side1, self.is_wanted[:, n0:], wanted[:, split:]),
        ):
            side.scatter(full, active.pairs, part & full[active.pairs].gather(1, side.points))

    def add_matches(
        self, done: ActivePairs, matches0: Tensor, matches1: Tensor, scores0: Tensor, scores1: Tensor
    ) -> None:
        """Records the matches of pairs that stop: indices [A, N0] and [A, N1] into their remaining points."""
        found0 = done.side1.points.gather(1, matches0.clamp(min=0)).masked_fill(matches0 < 0, -1)
        found1 = done.side0.points.gather(1, matches1.clamp(min=0)).masked_fill(matches1 < 0, -1)
        self._in_place(done, torch.cat([found0, found1], dim=1), self.matches)
        self._in_place(done, torch.cat([scores0, scores1], dim=1).to(self.scores.dtype), self.scores)

    def as_output(self) -> LightGlueOutput:
        """All recorded results."""
        n0 = self.num_points0
        return LightGlueOutput(
            matches0=self.matches[:, :n0],
            matches1=self.matches[:, n0:],
            matching_scores0=self.scores[:, :n0],
            matching_scores1=self.scores[:, n0:],
            stop_layer=self.stop_layer,
            num_layers0=self.num_layers[:, :n0],
            num_layers1=self.num_layers[:, n0:],
            is_wanted0=self.is_wanted[:, :n0],
            is_wanted1=self.is_wanted[:, n0:],
            hidden_states=tuple(self.hidden_states) if self.wants_hidden_states else None,
            attentions=tuple(self.attentions) if self.wants_attentions else None,
            messages=tuple(self.messages) if self.wants_messages else None,
        )

    def _in_place(self, active: ActivePairs, values: Tensor, full: Tensor) -> Tensor:
        """Writes values [A, N0 + N1, ...] of the points to `full` [B, N_in, ...], and returns it."""
        n0 = active.side0.num_points
        active.side0.scatter(full[:, : self.num_points0], active.pairs, values[:, :n0])
        active.side1.scatter(full[:, self.num_points0 :], active.pairs, values[:, n0:])
        return full
