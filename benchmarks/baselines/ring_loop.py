"""The first competitor of `agents_scaling.py`: a Python loop over agents, one `nn.Module` each, no antiphon.

As one writes it in plain PyTorch: every agent and every synthetic gradient is a module with a `torch.optim.Adam` of its
own. An agent reads what the agent before it sent last (one step on the way), follows its own loss and the synthetic
gradient of its message, and returns to its predecessor the gradient of the message it read, per sample (Jaderberg et al.
2017). The predecessor's predictor has it one step later.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn


class Agent(nn.Module):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * size, hidden)
        self.out = nn.Linear(hidden, 2 * size)

    def forward(self, x: Tensor) -> Tensor:
        """Return message and answer side by side, [B, 2 size]."""
        answer: Tensor = self.out(torch.relu(self.hidden(x)))
        return answer


class RingLoop:
    """Owns agents, predictors and optimisers; `step` is one step of all.

    Args:
        weights: Stacked by agent: `w1` [N, H, 2 size], `b1`, `w2` [N, 2 size, H], `b2`, `g` [N, size, size], `c`.
    """

    def __init__(self, weights: Mapping[str, Tensor], *, fused: bool, lr: float = 1e-3) -> None:
        count, hidden, inputs = weights["w1"].shape
        self.size = inputs // 2
        self.agents = [Agent(self.size, hidden) for _ in range(count)]
        self.predictors = [nn.Linear(self.size, self.size) for _ in range(count)]
        for index, (agent, predictor) in enumerate(zip(self.agents, self.predictors, strict=True)):
            own = [agent.hidden.weight, agent.hidden.bias, agent.out.weight, agent.out.bias]
            for p, name in zip([*own, predictor.weight, predictor.bias], weights, strict=True):
                p.data = weights[name][index].clone()
        # None is torch's default: it loops over the tensors on the CPU.
        adam = partial(torch.optim.Adam, lr=lr, fused=fused or None)
        self.optimisers = [adam(agent.parameters()) for agent in self.agents]
        self.teachers = [adam(predictor.parameters()) for predictor in self.predictors]
        self.sent: list[Tensor | None] = [None] * count
        """The message of each agent at the step before."""
        self.complete: list[tuple[Tensor, Tensor] | None] = [None] * count
        """The message of each agent two steps before, with the gradient that came back for it."""

    def step(self, observed: Tensor, wanted: Tensor) -> None:
        """Take a step: observed [B, size], wanted [B, size]."""
        messages, returned = [], []
        for index in range(len(self.agents)):
            message, gradient = self._learn(index, self.sent[index - 1], observed, wanted)
            messages.append(message)
            returned.append(gradient)
        for index, lesson in enumerate(self.complete):
            if lesson is not None:
                self._teach(index, *lesson)
        for index, message in enumerate(self.sent):
            gradient = returned[(index + 1) % len(returned)]
            self.complete[index] = None if message is None or gradient is None else (message, gradient)
        self.sent = list(messages)

    def _learn(
        self, index: int, read: Tensor | None, observed: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Let an agent learn; return its message, and the gradient of the message it read."""
        batch = len(observed)
        leaf = torch.zeros_like(observed) if read is None else read.detach().requires_grad_()
        message, answer = torch.split(self.agents[index](torch.cat([observed, leaf], 1)), self.size, 1)
        loss = nn.functional.mse_loss(answer, wanted)
        with torch.no_grad():
            injected = self.predictors[index](message.detach()) / batch
        self.optimisers[index].zero_grad()
        torch.autograd.backward([loss, message], [None, injected])
        self.optimisers[index].step()
        return message.detach(), None if leaf.grad is None else leaf.grad * batch

    def _teach(self, index: int, message: Tensor, gradient: Tensor) -> None:
        predicted = self.predictors[index](message)
        loss = (predicted - gradient).square().sum() / len(message)
        self.teachers[index].zero_grad()
        torch.autograd.backward(loss)
        self.teachers[index].step()

    def parameters(self) -> dict[str, Tensor]:
        agents, predictors = self.agents, self.predictors
        found: dict[str, list[Tensor]] = {
            "w1": [agent.hidden.weight for agent in agents],
            "b1": [agent.hidden.bias for agent in agents],
            "w2": [agent.out.weight for agent in agents],
            "b2": [agent.out.bias for agent in agents],
            "g": [predictor.weight for predictor in predictors],
            "c": [predictor.bias for predictor in predictors],
        }
        return {name: torch.stack(tensors).detach() for name, tensors in found.items()}
