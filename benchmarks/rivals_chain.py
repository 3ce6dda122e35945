"""A chain of layers in plain torch, one layer a stage, whose parameters are replaced and never overwritten.

A graph that was made before an update therefore stays valid, with the parameters of then: that is a pipeline's stash of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BATCH", "CLASSES", "WIDTH", "Chain", "Digits", "Learner", "Stage", "digits"]

WIDTH, BATCH, CLASSES = 128, 64, 10


@dataclass(frozen=True)
class Digits:
    """Handwritten digits of 8 x 8 pixels.

    Attributes:
        images: [rows, 64], to learn from.
        labels: [rows].
        test_images: [rows, 64], others.
        test_labels: [rows].
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def batch(self, generator: torch.Generator, rows: int = BATCH) -> tuple[Tensor, Tensor]:
        """Return sampled images [rows, 64] and their labels [rows], with replacement."""
        chosen = torch.randint(len(self.images), (rows,), generator=generator)
        return self.images[chosen], self.labels[chosen]


def digits() -> Digits:
    """Return the digits that antiphon brings along."""
    from antiphon import envs

    env = envs.make({"id": "antiphon/Digits-v0"}, batch=1)
    found: list[Tensor] = []
    for split in ("train", "test"):
        batches = list(env.batches(split, 2_000))
        found += [torch.cat([batch["image"] for batch in batches]).flatten(1)]
        found += [torch.cat([batch["label"] for batch in batches])]
    return Digits(*found)


class Learner:
    """Tensors that Adam replaces at each step (Kingma and Ba 2015, algorithm 1, with torch's defaults).

    Args:
        tensors: Initial values.
        rate: The learning rate.

    Attributes:
        tensors: Present values, leaves of autograd.
        updates: Steps taken.
    """

    def __init__(self, tensors: Sequence[Tensor], rate: float) -> None:
        self.rate = rate
        self.updates = 0
        self._shapes = [tensor.shape for tensor in tensors]
        self._sizes = [tensor.numel() for tensor in tensors]
        self._flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        self._mean = torch.zeros_like(self._flat)
        self._square = torch.zeros_like(self._flat)
        self.tensors = self._views()

    def update(self, gradients: Sequence[Tensor]) -> None:
        """Take a step along gradients, one for each tensor."""
        gradient = torch.cat([one.flatten() for one in gradients])
        self.updates += 1
        self._mean.lerp_(gradient, 0.1)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        root = (self._square / (1 - 0.999**self.updates)).sqrt_().add_(1e-8)
        self._flat = self._flat.addcdiv(self._mean, root, value=-self.rate / (1 - 0.9**self.updates))
        self.tensors = self._views()

    def _views(self) -> list[Tensor]:
        parts = self._flat.split(self._sizes)
        return [part.view(shape).requires_grad_() for part, shape in zip(parts, self._shapes, strict=True)]


def _linear(inputs: int, outputs: int) -> list[Tensor]:
    """Weight [outputs, inputs] and bias [outputs] as torch initialises them."""
    layer = nn.Linear(inputs, outputs)
    return [layer.weight, layer.bias]


class Stage:
    """A layer with batch norm; the last one with a classifier on top.

    Args:
        index: From 0.
        stages: Of the chain.
        rate: Adam's.

    Attributes:
        own: Its parameters.
        last: Whether the loss is here.
        predictor: A linear synthetic gradient of its messages given the label, zero at first; None at the last stage.
        classifier: A local classifier of its messages; None at the last stage.
    """

    def __init__(self, index: int, stages: int, rate: float, inputs: int) -> None:
        self.last = index == stages - 1
        tensors = [*_linear(WIDTH if index else inputs, WIDTH), torch.ones(WIDTH), torch.zeros(WIDTH)]
        self.own = Learner([*tensors, *(_linear(WIDTH, CLASSES) if self.last else [])], rate)
        zeros = [torch.zeros(WIDTH, WIDTH + CLASSES), torch.zeros(WIDTH)]
        self.predictor = None if self.last else Learner(zeros, rate)
        self.classifier = None if self.last else Learner(_linear(WIDTH, CLASSES), rate)
        self._mean, self._variance = torch.zeros(WIDTH), torch.ones(WIDTH)

    def forward(self, x: Tensor, *, statistics: bool = True) -> Tensor:
        """Return messages [batch, width] of inputs [batch, inputs].

        Args:
            x: The inputs.
            statistics: Whether the running statistics for evaluation follow.
        """
        weight, bias, scale, shift = self.own.tensors[:4]
        running = (self._mean, self._variance) if statistics else (None, None)
        return F.batch_norm(F.linear(x, weight, bias), *running, scale, shift, training=True).relu()

    def loss(self, message: Tensor, labels: Tensor) -> Tensor:
        """Return the last stage's mean cross-entropy."""
        return F.cross_entropy(F.linear(message, *self.own.tensors[4:]), labels)

    def evaluate(self, x: Tensor) -> Tensor:
        """Return messages, or the last stage's scores [batch, classes], with running statistics."""
        weight, bias, scale, shift = self.own.tensors[:4]
        x = F.batch_norm(F.linear(x, weight, bias), self._mean, self._variance, scale, shift).relu()
        return F.linear(x, *self.own.tensors[4:]) if self.last else x


class Chain:
    """Stages in a row, with what they learn from.

    Args:
        stages: How many.
        data: The digits.
        rate: Adam's, of all.
        seed: Of initial parameters and minibatches: the same for every way of training.
        rows: Of a minibatch.
    """

    def __init__(self, stages: int, data: Digits, *, rate: float, seed: int, rows: int = BATCH) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.stages = [Stage(index, stages, rate, data.images.shape[1]) for index in range(stages)]
        self.data, self.rows = data, rows
        self._generator = torch.Generator().manual_seed(seed)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return the next minibatch."""
        return self.data.batch(self._generator, self.rows)

    def step(self) -> None:
        """Take a step of backpropagation through all stages."""
        message, labels = self.batch()
        for stage in self.stages:
            message = stage.forward(message)
        tensors = [tensor for stage in self.stages for tensor in stage.own.tensors]
        gradients = list(torch.autograd.grad(self.stages[-1].loss(message, labels), tensors))
        for stage in self.stages:
            count = len(stage.own.tensors)
            stage.own.update(gradients[:count])
            del gradients[:count]

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the accuracy on the test images."""
        x = self.data.test_images
        for stage in self.stages:
            x = stage.evaluate(x)
        return float((x.argmax(1) == self.data.test_labels).float().mean())
