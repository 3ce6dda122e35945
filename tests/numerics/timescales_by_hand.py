"""The two-timescales system with DNI in plain PyTorch: no antiphon.

A ticks every step, B every T steps on A's message; each learns after T of its own ticks. The gradient of A's message
is predicted from the message, B's state, B's place in its window and the count so far; that of either's state, across
the end of its window, from the state (Jaderberg et al. 2017, section 3.2). Targets are bootstrapped, per sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def predictor(inputs: int, outputs: int, *hidden: int) -> nn.Sequential:
    """Layers of linear map, batch norm and ReLU, then a linear layer that starts at zero."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width, track_running_stats=False), nn.ReLU()]
        inputs = width
    last = nn.Linear(inputs, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class Memory:
    """One network's state between its windows, and what predicts its gradient."""

    def __init__(self, hidden: int, units: int, batch: int, scale: float, dtype: torch.dtype) -> None:
        self.model = predictor(2 * hidden, 2 * hidden, units).to(dtype)
        self.predictor_trainer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.scale = scale
        self.start = self.now = (
            torch.zeros(batch, hidden, dtype=dtype),
            torch.zeros(batch, hidden, dtype=dtype),
        )
        self.handed: Tensor | None = None

    def open(self) -> None:
        """Begin a window."""
        h, c = self.now
        self.start = self.now = (h.detach().requires_grad_(), c.detach().requires_grad_())

    def end(self) -> tuple[Tensor, Tensor]:
        """Return the state at a window's end, and what is predicted of its gradient, [B, 2 hidden] each."""
        state = torch.cat(self.now, 1)
        with torch.no_grad():
            return state, self.model(state)

    def learn(self, state: Tensor, slopes: tuple[Tensor, ...]) -> None:
        """Let the predictor learn what has come back for the state that the window started from."""
        before, self.handed = self.handed, state.detach()
        if before is None:
            return
        gradient = torch.cat(slopes, 1) * len(state)
        self.predictor_trainer.zero_grad()
        ((self.model(before) - gradient).square().sum() / len(state)).backward()
        self.predictor_trainer.step()


class TimescalesByHand:
    """Owns both networks, predictors and optimisers; `step` is one step of the environment.

    Args:
        inputs: Pixels of a picture.
        kind: What predicts the gradient of A's message: `linear`, `mlp` or `sobolev_label`.
        hidden: Units of the cells and of A's encoder.
        size: Components of a message.
        units: Of each predictor's hidden layer.
        T: Steps from one tick of B to the next, and ticks in either's window.
        batch: Environments.
        dtype: Of all floats.
    """

    def __init__(
        self,
        inputs: int,
        *,
        kind: str = "sobolev_label",
        hidden: int = 128,
        size: int = 64,
        units: int = 256,
        T: int = 4,
        batch: int = 64,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.T, self.kind, self.counts = T, kind, T * T + 1
        self.encoder = nn.Sequential(
            *(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
        )
        self.cell_a, self.cell_b = nn.LSTMCell(hidden, hidden), nn.LSTMCell(size, hidden)
        self.odd, self.threes = nn.Linear(hidden, T + 1), nn.Linear(hidden, self.counts)
        self.speak = nn.Sequential(nn.Linear(hidden, size), nn.BatchNorm1d(size))
        beside = 2 * hidden + T
        if kind == "sobolev_label":
            self.credit = predictor(size + beside, self.counts, units)
        else:
            self.credit = predictor(size + self.counts + beside, size, *([units] if kind == "mlp" else []))
        a = [self.encoder, self.cell_a, self.odd, self.speak]
        b = [self.cell_b, self.threes]
        for module in (*a, *b, self.credit):
            module.to(dtype)
        self.a, self.b = ([p for module in own for p in module.parameters()] for own in (a, b))
        self.optimiser_a, self.optimiser_b = (torch.optim.Adam(own, lr=1e-3) for own in (self.a, self.b))
        self.predictor_trainer = torch.optim.Adam(self.credit.parameters(), lr=1e-3)
        self.memory_a, self.memory_b = (Memory(hidden, units, batch, 0.1, dtype) for _ in "ab")
        self.places = torch.eye(T, dtype=dtype).unsqueeze(1).expand(T, batch, T)
        self.heard: list[Tensor] = []
        self.said: list[tuple[Tensor, Tensor | None]] = []
        self.now = 0

    def step(self, image: Tensor, count: Tensor, odd: Tensor, threes: Tensor) -> None:
        """See one picture; learn where a window ends.

        Args:
            image: [B, inputs].
            count: [B], threes in B's window so far.
            odd: [B], odd digits in A's window; read at its last step.
            threes: [B], threes in B's window; read at its last step.
        """
        if self.now % self.T == 0:
            self.memory_a.open()
        self.memory_a.now = self.cell_a(self.encoder(image), self.memory_a.now)
        self.now += 1
        if self.now % self.T == 0:
            self._meet(count, odd, threes)

    def _meet(self, count: Tensor, odd: Tensor, threes: Tensor) -> None:
        """A speaks, B ticks, and whose window ends learns."""
        place = self.now // self.T - 1
        first, last = place % self.T == 0, place % self.T == self.T - 1
        hidden = self.memory_a.now[0]
        message = self.speak(hidden)
        context = torch.cat([*self.memory_b.now, self.places[place % self.T]], 1).detach()
        credit, state_b = self._predict(message.detach(), context, count), None
        if first:
            self.memory_b.open()
        heard = message.detach().requires_grad_()
        self.heard.append(heard)
        self.memory_b.now = self.cell_b(heard, self.memory_b.now)
        batch = len(count)
        loss = F.cross_entropy(self.odd(hidden), odd)
        state, more = self.memory_a.end()
        grads, slopes = self._pull(
            loss,
            [(message, credit, 1.0), (state, more, self.memory_a.scale)],
            self.a,
            [*self.memory_a.start],
            batch,
        )
        if last:
            loss = F.cross_entropy(self.threes(self.memory_b.now[0]), threes)
            state_b, more = self.memory_b.end()
            grads_b, slopes_b = self._pull(
                loss,
                [(state_b, more, self.memory_b.scale)],
                self.b,
                [*self.memory_b.start, *self.heard],
                batch,
            )
            self._follow(self.optimiser_b, self.b, grads_b)
        self._follow(self.optimiser_a, self.a, grads)
        self.memory_a.learn(state, slopes)
        if state_b is not None:
            self.memory_b.learn(state_b, slopes_b[:2])
            self._teach([slope * batch for slope in slopes_b[2:]])

    @staticmethod
    def _pull(
        loss: Tensor,
        put: list[tuple[Tensor, Tensor, float]],
        own: Sequence[Tensor],
        leaves: Sequence[Tensor],
        batch: int,
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the gradients that the parameters follow (predictions scaled), and those of the leaves (whole)."""
        ends = [loss, *(where for where, _, _ in put)]
        scaled = [None, *(what * (scale / batch) for _, what, scale in put)]
        whole = [None, *(what / batch for _, what, _ in put)]
        return torch.autograd.grad(ends, own, scaled, retain_graph=True), torch.autograd.grad(
            ends, leaves, whole
        )

    @staticmethod
    def _follow(optimiser: torch.optim.Adam, own: Sequence[Tensor], grads: tuple[Tensor, ...]) -> None:
        for p, g in zip(own, grads, strict=True):
            p.grad = g
        optimiser.step()

    def _predict(self, message: Tensor, context: Tensor, count: Tensor) -> Tensor:
        """Predict a message's gradient; the graph is kept, since the predictor learns from it before it changes."""
        if self.kind == "sobolev_label":
            asked = message.requires_grad_()
            losses = F.cross_entropy(self.credit(torch.cat([asked, context], 1)), count, reduction="sum")
            (slope,) = torch.autograd.grad(losses, asked, create_graph=True)
            self.said.append((slope, losses))
        else:
            label = F.one_hot(count, self.counts).to(message.dtype)
            slope = self.credit(torch.cat([message, label, context], 1))
            self.said.append((slope, None))
        return slope.detach()

    def _teach(self, gradients: list[Tensor]) -> None:
        """Let the predictor of the messages' gradients learn from a window of B's."""
        loss = torch.zeros((), dtype=gradients[0].dtype)
        for (said, losses), gradient in zip(self.said, gradients, strict=True):
            loss = loss + (
                (said - gradient).square().sum() if losses is None else losses + (said - gradient).abs().sum()
            )
        self.predictor_trainer.zero_grad()
        (loss / len(gradients[0])).backward()
        self.predictor_trainer.step()
        self.heard, self.said = [], []
