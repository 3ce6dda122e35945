"""Layers of stacked MLPs, and their input, in the operators' format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

NORMS = ("none", "layer", "batch")
PARAMETERS = {"none": (0, 1), "layer": (0, 1, 2, 3), "batch": (0, 2, 3)}
"""By normalisation, which of weight, bias, gain and shift a layer has."""
ACTIVATIONS = ("identity", "relu", "tanh")

Input = tuple[Sequence[Tensor], Sequence[Tensor | None], Sequence[int], int]
"""The input of the operators: blocks [P * B, columns], their indices and slots, and B."""


@dataclass(frozen=True)
class Layer:
    """A layer: linear map, normalisation, activation.

    Attributes:
        source: Index of the layer whose output it reads; -1: the input.
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
