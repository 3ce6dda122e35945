"""The second competitor of `agents_scaling.py`: the same ring stacked by hand, for exactly this case; no antiphon.

Parameters [N, …] and batched matrix products, in chunks of agents that fit the caches, one call of torch's fused Adam per
chunk. It knows what no general program knows: that the graph is a ring (an agent's message lies in memory beside its
reader, so nothing is gathered), that all tick and learn at every step, and what the network is. Gradients are
written out, which saves the graph and the gradient of the observation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_NAMES = ("w1", "b1", "w2", "b2")
_TAUGHT = ("g", "c")


class RingStacked:
    """Owns stacked parameters and their Adam states; `step` is one step of all.

    Args:
        weights: As of `RingLoop`.
        chunk: Agents computed at a time.
    """

    def __init__(self, weights: Mapping[str, Tensor], batch: int, chunk: int, lr: float = 1e-3) -> None:
        self.count, _, inputs = weights["w1"].shape
        self.size = inputs // 2
        self.lr = lr
        self.p = {name: tensor.clone() for name, tensor in weights.items()}
        self.mean = {name: torch.zeros_like(tensor) for name, tensor in self.p.items()}
        self.square = {name: torch.zeros_like(tensor) for name, tensor in self.p.items()}
        like = self.p["w1"]
        self.steps, self.predictor_updates = (torch.zeros((), device=like.device) for _ in range(2))
        # Row n + 1 is the message of agent n, row 0 that of the last: agent n reads row n.
        shape = self.count + 1, batch, self.size
        self.older, self.old, self.new = (
            torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(3)
        )
        # Row n is what agent n returns, the last row that of the first: agent n hears row n + 1.
        self.back, self.returned = (torch.zeros_like(self.new) for _ in range(2))
        self.loss = torch.zeros(self.count, dtype=like.dtype, device=like.device)
        self.spans = [(a, min(a + chunk, self.count)) for a in range(0, self.count, chunk)]
        self.now = 0

    def step(self, observed: Tensor, wanted: Tensor) -> None:
        """Take a step: observed [B, size], wanted [B, size]."""
        self.steps += 1
        if self.now >= 2:
            self.predictor_updates += 1
        self.old[0] = self.old[self.count]
        self.back[self.count] = self.back[0]
        for a, b in self.spans:
            gradients, message = self._pulled(a, b, observed, wanted)
            self.new[a + 1 : b + 1] = message
            if self.now >= 2:
                self._adam(_TAUGHT, a, b, self._lesson(a, b), self.predictor_updates)
            self._adam(_NAMES, a, b, gradients, self.steps)
        self.older, self.old, self.new = self.old, self.new, self.older
        self.back, self.returned = self.returned, self.back
        self.now += 1

    def _injected(self, a: int, b: int, message: Tensor) -> Tensor:
        """The synthetic gradient of messages [n, B, size], over B."""
        g, c = self.p["g"][a:b], self.p["c"][a:b]
        share = 1 / message.shape[1]
        return torch.baddbmm(c.unsqueeze(1), message, g.transpose(1, 2), beta=share, alpha=share)

    def _pulled(self, a: int, b: int, observed: Tensor, wanted: Tensor) -> tuple[list[Tensor], Tensor]:
        batch = len(observed)
        w1, b1, w2, b2 = (self.p[name][a:b] for name in _NAMES)
        x = torch.cat([observed.expand(b - a, batch, self.size), self.old[a:b]], 2)
        h = torch.baddbmm(b1.unsqueeze(1), x, w1.transpose(1, 2)).relu_()
        y = torch.baddbmm(b2.unsqueeze(1), h, w2.transpose(1, 2))
        message, answer = torch.split(y, self.size, 2)
        error = answer - wanted
        torch.mean(error.square(), (1, 2), out=self.loss[a:b])
        dy = torch.cat([self._injected(a, b, message), error.mul_(2 / (batch * self.size))], 2)
        dh = torch.ops.aten.threshold_backward(torch.bmm(dy, w2), h, 0)
        gradients = [
            torch.bmm(dh.transpose(1, 2), x),
            dh.sum(1),
            torch.bmm(dy.transpose(1, 2), h),
            dy.sum(1),
        ]
        returned = self.returned[a:b]
        torch.baddbmm(returned, dh, w1[:, :, self.size :], beta=0, alpha=batch, out=returned)
        return gradients, message

    def _lesson(self, a: int, b: int) -> list[Tensor]:
        """The gradients of the predictors' squared error on messages of two steps ago."""
        message, delta = self.older[a + 1 : b + 1], self.back[a + 1 : b + 1]
        g, c = self.p["g"][a:b], self.p["c"][a:b]
        error = (
            torch.baddbmm(c.unsqueeze(1), message, g.transpose(1, 2)).sub_(delta).mul_(2 / message.shape[1])
        )
        return [torch.bmm(error.transpose(1, 2), message), error.sum(1)]

    def _adam(self, names: tuple[str, ...], a: int, b: int, gradients: list[Tensor], count: Tensor) -> None:
        with torch.no_grad():
            torch.ops.aten._fused_adam_(
                [self.p[name][a:b] for name in names],
                gradients,
                [self.mean[name][a:b] for name in names],
                [self.square[name][a:b] for name in names],
                [],
                [count] * len(names),
                lr=self.lr,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )

    def parameters(self) -> dict[str, Tensor]:
        return {name: tensor.detach() for name, tensor in self.p.items()}
