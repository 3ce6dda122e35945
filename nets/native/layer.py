"""Layers of stacked MLPs, and their input, as the operators take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ACTIVATIONS", "NORMS", "Input", "Layer", "gradient_like"]

NORMS = ("none", "layer", "batch")
ACTIVATIONS = ("identity", "relu", "tanh")

Input = tuple[Sequence[Tensor], Sequence[Tensor | None], Sequence[int], int]
"""The input of the operators: blocks [P * B, columns], their indices and slots, and B."""


@dataclass(frozen=True)
class Layer:
    """A layer: linear map, normalisation, activation.

    Attributes:
        source: The layer whose output it reads, by place; -1: the input.
        inputs: I.
        outputs: O.
        norm: One of `NORMS`.
        activation: One of `ACTIVATIONS`.
    """

    source: int
    inputs: int
    outputs: int
    norm: str = "none"
    activation: str = "identity"


def gradient_like(block: Tensor, index: Tensor | None, rows: int) -> Tensor:
    """Return memory for the gradient of a block: zeros where some of it is not read."""
    read = index is None or len(index) * rows == len(block)
    return torch.empty_like(block) if read else torch.zeros_like(block)
