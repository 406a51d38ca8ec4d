"""Shared by the schemes that run torch modules: the device, and labels from logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from zoo.engines.checks import check_threads
from zoo.errors import InputError
from zoo.foreign import SchemeOptions

__all__ = ["first_line", "labels_and_scores", "on_device"]


def on_device(module: Any, options: SchemeOptions) -> Any:
    """The module in float32 and evaluation mode on the chosen device.

    Raises:
        InputError: If the device cannot be used or the number of threads is below 1.
    """
    check_threads(options.threads)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        return module.float().to(torch.device(options.device)).eval()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {options.device!r} cannot be used: {first_line(error)}") from error


def labels_and_scores(logits: torch.Tensor, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and softmax scores at the size of the image: bilinear (half-pixel centres), then the argmax.

    Unlike `zoo.tasks.segmentation2d.labels_and_scores`, logits that are larger than the image are sampled without
    averaging, as `torch.nn.functional.interpolate` does and the publishers of such models measured them.

    Args:
        logits: `(C, h, w)`, C at most 255.
        size: (height, width).

    Returns:
        `(H, W)` uint8 labels and `(H, W)` float32 scores in [0, 1].

    Raises:
        InputError: If a logit is not a number.
    """
    best = torch.full(size, -torch.inf, device=logits.device)
    total = torch.zeros(size, device=logits.device)  # of exp(logit - best)
    labels = torch.zeros(size, dtype=torch.uint8, device=logits.device)
    # One class at a time: 150 classes of a 2-megapixel image would take 1.2 GB at once.
    for label, plane in enumerate(logits.float()):
        resized = F.interpolate(plane[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        if resized.isnan().any():
            raise InputError("the model returns logits that are not numbers (NaN)")
        better = resized > best
        total = torch.where(better, total * torch.exp(best - resized) + 1, total + torch.exp(resized - best))
        best = torch.where(better, resized, best)
        labels[better] = label
    return labels.cpu().numpy(), (1 / total).cpu().numpy()


def first_line(error: BaseException) -> str:
    """Type and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
