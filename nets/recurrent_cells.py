"""Recurrent cells as functions of (parameters, buffers, input, state), with or without a leading stacked axis.

Shapes: B batch, I inputs, H units, S state, G gates, N stacked networks. `x` is [B, I] with plain parameters or
[N, B, I] with parameters stacked [N, …], as in `layers`: torch's own cells cannot be batched over networks.

The state is one flat tensor [.., B, S]: the units' activation h, for the LSTM followed by its cells c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from antiphon.nets.layers import initial_linear, initial_norm, linear, norm_buffers, normalise

CELLS = {"rnn": 1, "leaky": 1, "gru": 3, "lstm": 4}
"""Kinds of cell, with their numbers of gates (blocks of H rows of the weights)."""
_BATCH_GAIN = 0.1
"""Initial gain of recurrent batch norm, so that tanh keeps its gradient (Cooijmans et al. 2016, section 4)."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Recurrent layer, without its parameters.

    The terms of the input, W_x x, and of the past, W_h h, are separate, each with a bias as in torch or,
    under a norm, normalised with its own gain and bias over all gates together: layer norm as in Ba et al.
    2016 ("Layer Normalization", supplement), batch norm as in Cooijmans et al. 2016 ("Recurrent Batch
    Normalization"). The LSTM's new c is normalised too before the output gate. Batch norm's running statistics are
    shared by all ticks.
    """

    kind: str
    """`rnn` (tanh), `leaky` (h' = (1 - leak) h + leak tanh(…)), `gru` or `lstm`; gates in torch's order."""
    inputs: int
    size: int
    norm: str = "none"
    leak: float = 0.5
    """Weight of the new activation in a leaky unit, in (0, 1]."""

    @property
    def state_size(self) -> int:
        return 2 * self.size if self.kind == "lstm" else self.size

    @property
    def function(self) -> Cell:
        """The cell with the settings alone on which its function depends: only leaky units have a leak."""
        return self if self.kind == "leaky" else replace(self, leak=1.0)

    @property
    def gates(self) -> int:
        """Rows of each weight: the number of units times the number of gates."""
        return CELLS[self.kind] * self.size

    @property
    def norms(self) -> dict[str, int]:
        if self.norm == "none":
            return {}
        read = {"input.norm": self.gates, "recurrent.norm": self.gates}
        return read | ({"cell.norm": self.size} if self.kind == "lstm" else {})

    def parameters(self, generator: torch.Generator) -> Tensors:
        """Sample initial parameters (float32), by name.

        Input weights are uniform as in `initial_linear`; recurrent ones are orthogonal per gate (Saxe et al. 2014,
        as Cooijmans et al. 2016 use them); biases are zero but for the LSTM's forget gate, which starts open at 1
        (Gers et al. 2000; Jozefowicz et al. 2015).
        """
        weight, _ = initial_linear(self.inputs, (self.gates, self.inputs), generator)
        recurrent = torch.empty(self.gates, self.size)
        for gate in recurrent.chunk(CELLS[self.kind]):
            nn.init.orthogonal_(gate, generator=generator)
        initial = {"input.weight": weight, "recurrent.weight": recurrent}
        initial |= {name: torch.zeros(self.gates) for name in self._biases()}
        for name, features in self.norms.items():
            gain = _BATCH_GAIN if self.norm == "batch" else 1.0
            norm = initial_norm(self.norm, features, f"{name}.")
            initial |= {key: value * gain for key, value in norm.items()}
        if self.kind == "lstm":
            initial[self._biases()[0]][self.size : 2 * self.size] = 1.0
        return initial

    def buffers(self) -> Tensors:
        held: Tensors = {}
        for name, features in self.norms.items():
            held |= norm_buffers(self.norm, features, f"{name}.")
        return held

    def _biases(self) -> tuple[str, str]:
        between = "" if self.norm == "none" else "norm."
        return f"input.{between}bias", f"recurrent.{between}bias"

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        x: Tensor,
        state: Tensor,
        *,
        training: bool,
    ) -> tuple[Tensor, Tensor, Tensors]:
        """Return the units [.., B, H], the new state [.., B, S] and the new buffers; nothing is changed in place."""
        after: Tensors = {}

        def normed(name: str, y: Tensor) -> Tensor:
            if self.norm == "none":
                return y
            y, updated = normalise(self.norm, y, parameters, buffers, f"{name}.", training=training)
            after.update(updated)
            return y

        def read(name: str, y: Tensor) -> Tensor:
            return linear(y, parameters[f"{name}.weight"], parameters.get(f"{name}.bias"))

        past = state.chunk(self.state_size // self.size, -1)
        from_input = normed("input.norm", read("input", x))
        from_past = normed("recurrent.norm", read("recurrent", past[0]))
        if self.kind in ("rnn", "leaky"):
            h = torch.tanh(from_input + from_past)
            if self.kind == "leaky":
                h = (1.0 - self.leak) * past[0] + self.leak * h
            return h, h, after
        if self.kind == "gru":
            new, old = from_input.chunk(3, -1), from_past.chunk(3, -1)
            reset, update = torch.sigmoid(new[0] + old[0]), torch.sigmoid(new[1] + old[1])
            proposed = torch.tanh(new[2] + reset * old[2])
            h = proposed + update * (past[0] - proposed)
            return h, h, after
        gates = (from_input + from_past).chunk(4, -1)
        c = torch.sigmoid(gates[1]) * past[1] + torch.sigmoid(gates[0]) * torch.tanh(gates[2])
        h = torch.sigmoid(gates[3]) * torch.tanh(normed("cell.norm", c))
        return h, torch.cat([h, c], -1), after
