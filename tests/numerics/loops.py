"""Recurrent agents in plain torch: torch's own cells on the engine's numbers, and the loops that train them.

Nothing here calls the engine's arithmetic; only the names of its numbers are known.  B batch, S state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from antiphon import Simulation
from tests.numerics.whole import predictor_of

Signals = dict[str, Tensor]
_CELLS = {"rnn": nn.RNNCell, "leaky": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def _hidden_layers(numbers: dict[str, Tensor], x: Tensor) -> Tensor:
    """Linear maps, layer norms where there are any, and ReLUs."""
    layer = 0
    while f"{layer}.weight" in numbers:
        x = F.linear(x, numbers[f"{layer}.weight"], numbers[f"{layer}.bias"])
        gain = numbers.get(f"{layer}.norm.gain")
        if gain is not None:
            x = F.layer_norm(x, x.shape[1:], gain, numbers[f"{layer}.norm.bias"])
        x = torch.relu(x)
        layer += 1
    return x


class Hand:
    """An agent: encoder, cell, heads.

    Args:
        simulation: Where its first numbers are copied from.
        name: The agent's.
        kind: Of its cell.
    """

    def __init__(self, simulation: Simulation, name: str, kind: str) -> None:
        self.numbers = {
            key: p.detach().clone().requires_grad_() for key, p in simulation.agents[name].parameters.items()
        }
        self.kind = kind
        self.size = self.numbers["cell.recurrent.weight"].shape[1]
        self.state_size = 2 * self.size if kind == "lstm" else self.size
        self.cell = _CELLS[kind](self.numbers["cell.input.weight"].shape[1], self.size, dtype=torch.float64)

    def tick(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden activation and the next state."""
        x = _hidden_layers(self.numbers, x)
        if self.kind == "lstm":
            h, c = self._torch_cell(x, state.chunk(2, 1))
            return h, torch.cat([h, c], 1)
        h = self._torch_cell(x, state)
        if self.kind == "leaky":
            h = 0.5 * state + 0.5 * h
        return h, h

    def _torch_cell(self, *inputs: object) -> Any:
        weights = {
            "weight_ih": self.numbers["cell.input.weight"],
            "weight_hh": self.numbers["cell.recurrent.weight"],
            "bias_ih": self.numbers["cell.input.bias"],
            "bias_hh": self.numbers["cell.recurrent.bias"],
        }
        return functional_call(self.cell, weights, inputs)

    def head(self, name: str, hidden: Tensor) -> Tensor:
        """Return what a head says."""
        return F.linear(hidden, self.numbers[f"{name}.weight"], self.numbers[f"{name}.bias"])


class HandGradient(nn.Module):
    """A synthetic gradient: layers with ReLU between them.

    Args:
        simulation: Where its first numbers are copied from.
        channel: The channel's name.
        lr: Of its Adam.
    """

    def __init__(self, simulation: Simulation, channel: str, lr: float) -> None:
        super().__init__()
        first = predictor_of(simulation, channel).parameters
        self.numbers = {k: p.detach().clone().requires_grad_() for k, p in first.items()}
        self.optimiser = torch.optim.Adam(self.numbers.values(), lr=lr, fused=True)

    def forward(self, message: Tensor, context: Tensor | None) -> Tensor:
        """Return the synthetic gradient, [B, S] per sample."""
        x = message if context is None else torch.cat([message, context], 1)
        x = _hidden_layers(self.numbers, x)
        return F.linear(x, self.numbers["last.weight"], self.numbers["last.bias"])

    def learn(self, message: Tensor, context: Tensor | None, gradient: Tensor, valid: Tensor) -> None:
        """One step of Adam on the mean over the batch of |SG - gradient|^2."""
        error = (self(message, context) - gradient)[valid]
        self.optimiser.zero_grad()
        (error.square().sum() / len(message)).backward()
        self.optimiser.step()


@dataclass
class _Handed:
    """The state at a window's end, as the next window takes it over."""

    state: Tensor
    context: Tensor | None
    ended: Tensor
    valid: Tensor


@dataclass
class _Window:
    """What it takes to go through a window again."""

    start: Tensor
    before: _Handed | None
    steps: list[tuple[Signals, Tensor]] = field(default_factory=list)
    after: _Handed | None = None


@dataclass
class Loop:
    """Truncated backpropagation by hand, with a synthetic gradient at the end of each window where there is one.

    Attributes:
        hand: The agent.
        loss: Of an output and what is shown, [B].
        unroll: Steps in a window.
        lr: Of the agent's Adam; 0: it stays as it is.
        gradient: The synthetic gradient; None: nothing is put on the last state.
        context: What conditions it.
        scale: What it counts in the parameters' gradient.
        discount: What it counts in targets.
        auxiliary: The weight of the task to say it beforehand.
    """

    hand: Hand
    loss: Callable[[Tensor, Signals], Tensor]
    unroll: int
    lr: float
    gradient: HandGradient | None = None
    context: Callable[[Signals], Tensor | None] = lambda seen: None
    scale: float = 1.0
    discount: float = 1.0
    auxiliary: float = 0.0

    def __post_init__(self) -> None:
        self.optimiser = torch.optim.Adam(self.hand.numbers.values(), lr=self.lr, fused=True)
        self.newest: _Window | None = None
        self.window: _Window | None = None
        self.state: Tensor | None = None

    def step(self, seen: Signals, terminated: Tensor, truncated: Tensor) -> None:
        """See, and learn at the end of a window."""
        if self.state is None:
            self.state = seen["x"].new_zeros(len(seen["x"]), self.hand.state_size)
        if self.window is None:
            self.window = _Window(self.state, None if self.newest is None else self.newest.after)
        ended = terminated | truncated
        self.window.steps.append((seen, ended))
        with torch.no_grad():
            _, last = self.hand.tick(seen["x"].flatten(1), self.state)
        self.state = torch.where(ended.unsqueeze(1), 0.0, last)
        if len(self.window.steps) == self.unroll:
            self.window.after = _Handed(last, self.context(seen), ended, ~truncated)
            window, self.window = self.window, None
            self.newest = window
            self._close(window)
        elif self.gradient is not None and terminated.any():
            self._teach(last, self.context(seen), torch.zeros_like(last), terminated)

    def run(self, window: _Window) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a window's first state, its loss, its last state and what its first tick made of the first."""
        start = state = window.start.clone().requires_grad_()
        total, first = start.new_zeros(()), start
        for i, (seen, ended) in enumerate(window.steps):
            hidden, last = self.hand.tick(seen["x"].flatten(1), state)
            first = hidden if i == 0 else first
            total = total + self.loss(self.hand.head("objective", hidden), seen).sum() / len(start)
            state = torch.where(ended.unsqueeze(1), 0.0, last)
        return start, total, last, first

    def said(self, window: _Window) -> Tensor:
        """What the synthetic gradient says of a window's last state, [B, S]."""
        assert window.after is not None
        if self.gradient is None:
            return torch.zeros_like(window.after.state)
        with torch.no_grad():
            said = self.gradient(window.after.state, window.after.context)
        return torch.where(window.after.ended.unsqueeze(1), 0.0, said)

    def _close(self, window: _Window) -> None:
        _, following, last, first = self.run(window)
        said = self.said(window)
        following = following + self.scale * (last * said).sum() / len(last)
        if self.auxiliary:
            expected = self.hand.head("future", first)
            following = following + self.auxiliary * (expected - said).square().sum() / len(last)
        found = torch.autograd.grad(following, list(self.hand.numbers.values()), allow_unused=True)
        before = window.before
        learned = None if before is None else self.returned(window)
        for p, g in zip(self.hand.numbers.values(), found, strict=True):
            p.grad = torch.zeros_like(p) if g is None else g
        self.optimiser.step()
        if self.gradient is not None and before is not None and learned is not None:
            gradient = torch.where(before.ended.unsqueeze(1), 0.0, learned)
            self._teach(before.state, before.context, gradient, before.valid)

    def returned(self, window: _Window) -> Tensor:
        """g_j + discount J_j^T SG_j+1 of the state that a window starts from."""
        start, total, last, _ = self.run(window)
        put = self.said(window)
        (slope,) = torch.autograd.grad(total + self.discount * (last * put).sum() / len(last), start)
        return slope * len(last)

    def _teach(self, state: Tensor, context: Tensor | None, gradient: Tensor, valid: Tensor) -> None:
        assert self.gradient is not None
        self.gradient.learn(state, context, gradient, valid)


def squared(output: Tensor, seen: Signals) -> Tensor:
    """The squared error of each environment, zero where `_y` says that there is no target."""
    loss = (output - seen["y"]).square().mean(1)
    return torch.where(seen["_y"], loss, 0.0) if "_y" in seen else loss


def distance(simulation: Simulation, agent: str, hand: Hand) -> float:
    """Return how far the numbers of an agent are from those by hand."""
    own = simulation.agents[agent].parameters
    assert list(own) == list(hand.numbers)
    return max(float((own[key].data - p.data).abs().max()) for key, p in hand.numbers.items())
