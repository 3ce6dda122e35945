"""The first competitor of `agents_scaling.py`: a Python loop over agents, one `nn.Module` each, no antiphon.

As one writes it in plain PyTorch: every agent and every synthetic gradient is a module with a `torch.optim.Adam` of its
own. An agent reads what the agent before it sent last (one step on the way), follows its own loss and the synthetic
gradient of its message, and returns to its predecessor the gradient of the message it read, per sample (Jaderberg et al.
2017). The predecessor's predictor has it one step later. Messages that no tick will read before the next one comes are
neither injected nor learned from; who is not drawn only sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

__all__ = ["RingLoop"]


class Agent(nn.Module):
    """An MLP whose outputs are a message and an answer."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * size, hidden)
        self.out = nn.Linear(hidden, 2 * size)

    def forward(self, x: Tensor) -> Tensor:
        """Return message and answer side by side, [B, 2 size]."""
        answer: Tensor = self.out(torch.relu(self.hidden(x)))
        return answer


@dataclass(eq=False)
class Message:
    """A message on its way, and what has come back for it."""

    value: Tensor
    first: int
    """The first tick that reads it; after `last`: none does."""
    last: int
    delta: Tensor | None = None


class RingLoop:
    """Owns agents, predictors and optimisers; `step` is one step of all.

    Args:
        weights: Stacked by agent: `w1` [N, H, 2 size], `b1`, `w2` [N, 2 size, H], `b2`, `g` [N, size, size], `c`.
        periods: Clock period of each agent; it ticks where the step is a multiple.
        fused: Whether the optimisers are torch's fused ones.
        lr: Of all of them.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        periods: Sequence[int],
        *,
        fused: bool,
        lr: float = 1e-3,
    ) -> None:
        count, hidden, inputs = weights["w1"].shape
        self.size = inputs // 2
        self.periods = list(periods)
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
        self.newest: list[Message | None] = [None] * count
        self.predictor_updates: dict[int, list[tuple[int, Message]]] = {}
        self.now = 0

    def step(self, observed: Tensor, wanted: Tensor, drawn: Sequence[bool] | None = None) -> None:
        """Take a step: observed [B, size], wanted [B, size], and who learns (None: all)."""
        sent: list[tuple[int, Message]] = []
        for index, agent in enumerate(self.agents):
            if self.now % self.periods[index]:
                continue
            read = self.newest[index - 1]
            if drawn is None or drawn[index]:
                message = self._learn(index, agent, read, observed, wanted)
            else:
                with torch.no_grad():
                    value = torch.zeros_like(observed) if read is None else read.value
                    message = agent(torch.cat([observed, value], 1))[:, : self.size]
            sent.append((index, self._entered(index, message.detach())))
        for index, past in self.predictor_updates.pop(self.now, []):
            if past.delta is not None:
                self._teach(index, past.value, past.delta)
        for index, made in sent:  # only now: who ticks at this step does not read them
            self.newest[index] = made
        self.now += 1

    def _entered(self, index: int, value: Tensor) -> Message:
        """Return a message with the ticks that read it, and put its lesson where its gradient is back."""
        own, other = self.periods[index], self.periods[(index + 1) % len(self.agents)]
        first = -(-(self.now + 1) // other) * other
        last = (self.now + own) // other * other
        message = Message(value, first, last)
        if first <= last:
            self.predictor_updates.setdefault(last + 1, []).append((index, message))
        return message

    def _learn(
        self, index: int, agent: Agent, read: Message | None, observed: Tensor, wanted: Tensor
    ) -> Tensor:
        """Let an agent tick and learn; return its message."""
        batch = len(observed)
        leaf = torch.zeros_like(observed) if read is None else read.value.detach().requires_grad_()
        message, answer = torch.split(agent(torch.cat([observed, leaf], 1)), self.size, 1)
        loss = nn.functional.mse_loss(answer, wanted)
        self.optimisers[index].zero_grad()
        if self._is_read(index):
            with torch.no_grad():
                injected = self.predictors[index](message.detach()) / batch
            torch.autograd.backward([loss, message], [None, injected])
        else:
            torch.autograd.backward(loss)
        self.optimisers[index].step()
        if read is not None:
            assert leaf.grad is not None
            delta = leaf.grad * batch
            read.delta = delta if read.delta is None else read.delta + delta
        return message

    def _is_read(self, index: int) -> bool:
        """Whether a tick reads the message that is sent now."""
        other = self.periods[(index + 1) % len(self.agents)]
        return -(-(self.now + 1) // other) * other <= self.now + self.periods[index]

    def _teach(self, index: int, message: Tensor, delta: Tensor) -> None:
        predicted = self.predictors[index](message)
        loss = (predicted - delta).square().sum() / len(message)
        self.teachers[index].zero_grad()
        torch.autograd.backward(loss)
        self.teachers[index].step()

    def parameters(self) -> dict[str, Tensor]:
        """Return all parameters, stacked as they were given."""
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
