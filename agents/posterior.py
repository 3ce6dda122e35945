"""A network that infers a latent: the posterior of a variational recurrent model, with its KL divergence from the prior."""

from __future__ import annotations

from torch import Tensor, nn

from antiphon import extensions, kinds
from antiphon.errors import ScenarioError
from antiphon.nets.recurrent import Cell, combine
from antiphon.spec import Count

__all__ = ["Posterior", "kl_divergence"]


@extensions.network("posterior")
class Posterior(nn.Module):
    """A GRU that returns the posterior of a latent, and its KL divergence from the prior as its own loss.

    The last message that it reads is the prior. Prior and posterior are means, followed by log deviations. As in the core of
    FTW (Jaderberg et al. 2019, "Human-level performance in 3D multiplayer games with population-based reinforcement learning").

    Args:
        inputs: Components of the observations and messages.
        outputs: Components of the posterior and of the prior.
        size: Units of the GRU.

    Raises:
        ScenarioError: The outputs are no posterior, or the inputs have no room for the prior.
    """

    class Options(kinds.Options):
        """Keys of a posterior.

        Attributes:
            size: Units of the cell.
        """

        size: Count = 128

    def __init__(self, inputs: int, outputs: int, size: int = 128) -> None:
        super().__init__()
        if outputs % 2 or not 0 < outputs <= inputs:
            raise ScenarioError(
                f"a posterior returns means and log deviations, and reads a prior as large; {outputs} outputs and {inputs} "
                "inputs do not fit: send it one message of twice the latent's size, and nothing else from it"
            )
        self.cell = Cell(kind="gru", inputs=inputs, size=size)
        self.input, self.recurrent = nn.Linear(inputs, 3 * size), nn.Linear(size, 3 * size)
        self.out, self.state_size = nn.Linear(size, outputs), size

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the posterior [batch, outputs], the next state [batch, size] and the divergence in nats [batch]."""
        state, _ = combine(self.cell, self.input(x), self.recurrent(state), [state], nn.Identity())
        posterior = self.out(state)
        return posterior, state, kl_divergence(posterior, x[:, -posterior.shape[1] :])


def kl_divergence(posterior: Tensor, prior: Tensor) -> Tensor:
    """Return KL(posterior || prior) in nats, [batch], of normal distributions: means, then log deviations, [batch, 2 size]."""
    (mean, log), (other, other_log) = posterior.chunk(2, 1), prior.chunk(2, 1)
    squares = (2 * log).exp() + (mean - other).square()
    return (other_log - log + 0.5 * (squares * (-2 * other_log).exp() - 1)).sum(1)
