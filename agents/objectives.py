"""Objectives: losses per sample of an agent's output and a target."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from antiphon.nets.losses import binary_cross_entropy, cross_entropy, squared_error

__all__ = ["OBJECTIVES", "Classification", "Coding", "Objective", "Regression"]


class Objective(ABC):
    """Loss per sample, and its metric for reports."""

    metric: str
    """Name of what `score` returns: higher is better for `accuracy`, lower for `error` and `bits`."""
    scores_loss: bool = False
    """Whether the metric is the loss itself."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss per sample, [B], of output [B, size]."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the metric per sample, [B]."""

    @staticmethod
    @abstractmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        """Return the output size that a target of this shape needs, or None where the target does not fit."""


@final
class Classification(Objective):
    """Cross-entropy against an integer target."""

    metric = "accuracy"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(1) == target).to(output.dtype)

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        return classes if shape == () else None


@final
class Regression(Objective):
    """Squared error against a float target, averaged over its components."""

    metric = "error"
    scores_loss = True

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return squared_error(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return squared_error(output, target)

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        return None if classes is not None else int(torch.Size(shape).numel())


@final
class Coding(Objective):
    """Code length of a target under the output as its model; the metric is in bits.

    An integer target is one symbol: softmax cross-entropy over the classes. A float target of zeros and ones is
    a vector of independent bits: sigmoid cross-entropies, whose sum is the loss (in nats) and whose mean per
    component is the metric (the form of the copy tasks, Graves et al. 2014, "Neural Turing Machines").
    """

    metric = "bits"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            return binary_cross_entropy(output, target)
        return cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        components = output.shape[1] if target.is_floating_point() else 1
        return self.loss(output, target) / (components * math.log(2))

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        if classes is not None:
            return classes if shape == () else None
        return int(torch.Size(shape).numel()) if len(shape) < 2 else None


OBJECTIVES: dict[str, type[Objective]] = {
    "classification": Classification,
    "regression": Regression,
    "coding": Coding,
}
