"""The assignment of LightGlue: similarities, matchabilities and the filter of matches.

Source: Lindenberger, Sarlin and Pollefeys, LightGlue, ICCV 2023, section 3.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm_lightglue.models.lightglue_attention import Context


class Assignment(nn.Module):
    """Predicts which points match, and which points are matchable (section 3.2).

    Args:
        dim: width D of the states.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, dim)
        self.matchability = nn.Linear(dim, 1)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Scores every pair of points by a double softmax and both matchabilities (equations 6 to 8).

        Args:
            x: states [B, N, D].
            context: masks of padding.

        Returns:
            Log assignment [B, N0, N1] and logits of matchability [B, N], both at least float32. The log assignment
            is undefined on padding.
        """
        n0, dtype = context.num_points0, torch.promote_types(x.dtype, torch.float32)
        logits = self.matchability(x).squeeze(-1).to(dtype)  # [B, N, 1] -> [B, N]
        projected = self.projection(x).to(dtype) * x.shape[-1] ** -0.25
        with torch.autocast(x.device.type, enabled=False):
            similarity = projected[:, :n0] @ projected[:, n0:].transpose(1, 2)  # [B, N0, N1]
        over1, over0 = similarity, similarity
        if context.mask1 is not None:
            over1 = similarity.masked_fill(~context.mask1[:, None, :], torch.finfo(dtype).min)
        if context.mask0 is not None:
            over0 = similarity.masked_fill(~context.mask0[:, :, None], torch.finfo(dtype).min)
        certainty = F.logsigmoid(logits)
        scores = F.log_softmax(over1, dim=2) + F.log_softmax(over0, dim=1)
        scores += certainty[:, :n0, None]
        scores += certainty[:, None, n0:]
        return scores, logits

    def matchable(self, x: Tensor) -> Tensor:
        """States [B, N, D] -> probability [B, N] that a point has a match (equation 7)."""
        return torch.sigmoid(self.matchability(x).squeeze(-1).float())


def filter_matches(scores: Tensor, context: Context, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mutual nearest neighbours with a score above the threshold.

    Args:
        scores: log assignment [B, N0, N1], N0 and N1 positive.
        context: masks of padding.
        threshold: in [0, 1].

    Returns:
        matches0 [B, N0] and matches1 [B, N1] (index or -1), scores0 [B, N0] and scores1 [B, N1] of mutual
        neighbours.

    Source: section 3.2, last paragraph; scores below the threshold are kept, as in the code of the authors.
    """
    if context.mask0 is not None:
        scores = scores.masked_fill(~context.mask0[:, :, None], -torch.inf)
    if context.mask1 is not None:
        scores = scores.masked_fill(~context.mask1[:, None, :], -torch.inf)
    n0, n1 = scores.shape[1:]
    best0, nearest0 = scores.max(2)
    # On CPUs, `scores.max(1)` with indices takes five times as long as the values alone. So the nearest neighbours of
    # image 1 are found only for mutual pairs; of several equal scores, the first counts.
    is_best1 = best0 == scores.amax(1).gather(1, nearest0)
    rows = torch.arange(n0, device=scores.device).expand_as(nearest0)
    first = nearest0.new_full((len(scores), n1), n0).scatter_reduce(1, nearest0, rows.where(is_best1, n0), "amin")
    mutual0, mutual1 = rows == first.gather(1, nearest0), first < n0
    nearest1 = first.clamp(max=n0 - 1)
    scores0 = best0.exp() * mutual0
    scores1 = scores0.gather(1, nearest1).masked_fill(~mutual1, 0.0)
    matches0 = nearest0.masked_fill(~(mutual0 & (scores0 > threshold)), -1)
    matches1 = nearest1.masked_fill(~(mutual1 & (scores1 > threshold)), -1)
    return matches0, matches1, scores0, scores1
