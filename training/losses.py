"""Losses that more than one recipe uses."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["lovasz_softmax"]


def lovasz_softmax(
    probabilities: Float[Tensor, "N C"], labels: Int[Tensor, " N"], ignore_index: int
) -> Float[Tensor, ""]:
    """The Lovász extension of one minus IoU, averaged over the classes that occur in the labels.

    Source: Berman et al., "The Lovász-Softmax loss" (2018), equations 8 and 9, algorithm 1.

    Args:
        probabilities: Softmax of the logits.
        labels: int64.
        ignore_index: Label of the points to ignore.

    Returns:
        A scalar in [0, 1]; 0 without a labelled point.
    """
    counts = labels != ignore_index
    probabilities, labels = probabilities[counts], labels[counts]
    if not len(labels):
        return probabilities.sum()  # 0, with gradients of 0
    present = labels.unique()
    truth = (labels == present[:, None]).to(probabilities.dtype)  # (K, N)
    errors = (truth - probabilities[:, present].T).abs()
    errors, order = errors.sort(dim=1, descending=True)
    truth = truth.gather(1, order)
    # One minus IoU if the points up to each one, in order of their errors, are the mispredicted ones.
    total = truth.sum(1, keepdim=True)
    loss = 1 - (total - truth.cumsum(1)) / (total + (1 - truth).cumsum(1))
    steps = torch.cat([loss[:, :1], loss[:, 1:] - loss[:, :-1]], 1)
    return (errors * steps).sum(1).mean()
