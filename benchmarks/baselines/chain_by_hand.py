"""The competitor of `step_overhead.py`: a conditioned-DNI chain in plain PyTorch, one file, no antiphon.

Four layers of 256 on MNIST-sized images, batch 256; a linear synthetic gradient conditioned on the label after
every hidden layer; fused Adam per layer and per predictor; bootstrapped targets per sample (Jaderberg et al. 2017).
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChainByHand:
    """Owns layers, predictors and optimisers; `step` is one minibatch."""

    def __init__(self, width: int = 256, depth: int = 4, inputs: int = 784, classes: int = 10) -> None:
        sizes = [inputs, *[width] * (depth - 1)]
        self.layers = [
            nn.Sequential(nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU()) for i, o in itertools.pairwise(sizes)
        ]
        self.layers.append(nn.Sequential(nn.Linear(width, classes)))
        self.predictors = [nn.Linear(width + classes, width) for _ in range(depth - 1)]
        for predictor in self.predictors:
            nn.init.zeros_(predictor.weight)
            nn.init.zeros_(predictor.bias)
        self.optimisers = [torch.optim.Adam(m.parameters(), lr=1e-3, fused=True) for m in self.layers]
        self.teachers = [torch.optim.Adam(m.parameters(), lr=1e-3, fused=True) for m in self.predictors]
        self.classes = classes

    def step(self, x: Tensor, y: Tensor) -> None:
        """Learn from one minibatch: x [B, inputs], y [B]."""
        batch = len(x)
        label = F.one_hot(y, self.classes).to(x.dtype)
        predictions: list[Tensor] = []
        leaves: list[Tensor] = []
        h = x
        for i, layer in enumerate(self.layers):
            if i:
                h = h.detach().requires_grad_()
                leaves.append(h)
            h = layer(h)
            self.optimisers[i].zero_grad()
            if i < len(self.predictors):
                prediction = self.predictors[i](torch.cat([h.detach(), label], 1))
                predictions.append(prediction)
                h.backward(prediction.detach() / batch)
            else:
                F.cross_entropy(h, y).backward()
        for optimiser in self.optimisers:
            optimiser.step()
        for prediction, leaf, teacher in zip(predictions, leaves, self.teachers, strict=False):
            assert leaf.grad is not None
            loss = (prediction - leaf.grad * batch).square().sum() / batch
            teacher.zero_grad()
            loss.backward()
            teacher.step()
