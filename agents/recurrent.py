"""Recurrent networks, and one that infers a latent: its posterior, and as a loss of its own the KL divergence from a prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Unpack, final

from pydantic import Field
from torch import Tensor

from antiphon.agents.feedforward import Layered
from antiphon.agents.network import (
    HIDDEN,
    OBJECTIVE,
    STATE,
    CallSettings,
    Described,
    HiddenOptions,
    Tensors,
    sub,
    with_prefix,
)
from antiphon.base import extensions
from antiphon.base.errors import ScenarioError
from antiphon.base.spec import Count, Counts
from antiphon.nets.recurrent_cells import Cell


@extensions.network("rnn")
@extensions.network("gru")
@extensions.network("lstm")
class Recurrent(Layered):
    """An encoder of hidden layers, a recurrent cell on top, and heads on its units.

    The state is an argument and an output (the port `STATE`) of each evaluation; the network holds none. Inputs are flattened.
    """

    class Options(HiddenOptions):
        """Keys of recurrent networks.

        Attributes:
            size: Units of the cell.
            cell_norm: Normalisation inside the cell (`batch`: recurrent batch norm, Cooijmans et al. 2016).
        """

        size: Count = 128
        hidden: Counts = ()
        cell_norm: Literal["batch", "layer", "none"] = "none"

        written: ClassVar[frozenset[str]] = frozenset({"size"})

        def hidden_shape(
            self, inputs: tuple[int, ...] | None, candidates: Callable[[], tuple[int, ...]]
        ) -> tuple[int, ...] | None:
            return (self.size,)

    recurrent: ClassVar[bool] = True

    def __init__(self, described: Described) -> None:
        super().__init__(described.flattened())
        size, options = described.options["size"], described.options
        (inputs,) = self.trunk_shape
        leak = options.get("rate", 0.5)
        self.cell = Cell(kind=described.kind, inputs=inputs, size=size, norm=options["cell_norm"], leak=leak)
        self.parts, self.state_size = {"cell": self.cell}, self.cell.state_size
        self.trunk_shape, self.function = (size,), (self.function, self.cell.function)

    def trunk(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        encoded, after = super().trunk(parameters, buffers, x, **settings)
        x, state = encoded[HIDDEN], settings.get("state")
        if state is None:
            state = x.new_zeros(*x.shape[:-1], self.state_size)
        own = sub(parameters, "cell"), sub(buffers, "cell"), x, state
        hidden, state, updated = self.cell(*own, training=settings["training"])
        return {HIDDEN: hidden, STATE: state}, after | with_prefix("cell", updated)

    def port_shape(self, port: str) -> tuple[int, ...]:
        return (self.state_size,) if port == STATE else super().port_shape(port)


@final
@extensions.network("leaky")
class LeakyRecurrent(Recurrent):
    """A recurrent network of leaky units: each is a low-pass filter of its activation."""

    class Options(Recurrent.Options):
        """Keys of leaky units.

        Attributes:
            rate: Weight of the new activation in each tick's state.
        """

        rate: Annotated[float, Field(gt=0, le=1)] = 0.5


@final
@extensions.network("posterior")
class Posterior(Recurrent):
    """A GRU that sends a latent's posterior; its own loss is the KL divergence from the prior, the last message it reads.

    Both are means, followed by log deviations. As the cores of FTW (Jaderberg et al. 2019, "Human-level performance in 3D
    multiplayer games with population-based reinforcement learning").
    Its heads are the objective's, of one component, and one port.
    """

    returns_loss: ClassVar[bool] = True
    objective_is_linear: ClassVar[bool] = False

    def __init__(self, described: Described) -> None:
        super().__init__(replace(described, kind="gru"))
        ports = list(self.linear_heads.values())
        if len(ports) != 1 or ports[0].features % 2 or ports[0].features > self.input_shape[0]:
            sent = ", ".join(f"{port.name} of {port.features}" for port in ports)
            raise ScenarioError(
                f"network: a posterior has one port of means and log deviations, and reads a prior of as many components; it "
                f"has {sent}, and reads {self.input_shape[0]}"
            )
        self._port = ports[0].name

    def __call__(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        settings["without"] = ()  # the objective is made from a head
        ports, after = super().__call__(parameters, buffers, x, **settings)
        posterior = ports[self._port]
        ports[OBJECTIVE] = kl_divergence(posterior, x[..., -posterior.shape[-1] :]).unsqueeze(-1)
        return ports, after


def kl_divergence(posterior: Tensor, prior: Tensor) -> Tensor:
    """Return KL(posterior || prior) in nats, [..], of independent normals: means, then log deviations, [.., 2 size] each."""
    (mean, log), (prior_mean, prior_log) = posterior.chunk(2, -1), prior.chunk(2, -1)
    squares = (2 * log).exp() + (mean - prior_mean).square()
    return (prior_log - log + 0.5 * (squares * (-2 * prior_log).exp() - 1)).sum(-1)
