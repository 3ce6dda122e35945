"""A recurrent network that infers a latent: its posterior, and as a loss of its own the KL divergence from a prior."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack, final

from torch import Tensor

from antiphon.agents.network import OBJECTIVE, CallSettings, Head, Tensors
from antiphon.agents.recurrent import Recurrent
from antiphon.base import extensions
from antiphon.base.errors import ScenarioError


@final
@extensions.network("posterior")
class Posterior(Recurrent):
    """A GRU that sends a latent's posterior; its own loss is the KL divergence from the prior, the last message it reads.

    Both are means, followed by log deviations. As the cores of FTW (Jaderberg et al. 2019, "Human-level performance in 3D
    multiplayer games with population-based reinforcement learning").

    Args:
        input_shape: Shape of one sample; flattened.
        size: Units of the cell.
        heads: The objective's, of one component, and one port.
        settings: Of the encoder and the cell.

    Raises:
        ScenarioError: There is not one port, or it is no posterior of what the prior is of.
    """

    returns_loss: ClassVar[bool] = True
    objective_is_linear: ClassVar[bool] = False

    def __init__(
        self, input_shape: tuple[int, ...], size: int, heads: tuple[Head, ...], **settings: Any
    ) -> None:
        super().__init__(input_shape, size, heads, **settings | {"kind": "gru"})
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
