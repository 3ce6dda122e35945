"""Direct feedback: an output's error carried to a message through a fixed matrix, past the layers between.

`dfa` (direct feedback alignment) uses a random matrix A, `kickback` one of ones. The injected gradient is (dL/dp) A^T
with p the output of an objective, per sample (Czarnecki et al. 2017, table 1)::

    feedback = DirectFeedback(size, outputs, generator)  # or None for the generator: kickback
    injected = feedback.signal(batch * dL_dp)  # [B, M], injected on a message that is cut at its receiver

`fa` (feedback alignment) replaces the receiver's first weight on the way back, so it belongs to the receiver's network:
the message enters the network's input cut, and its way back is given beside it::

    weights = network.feedback_weights(shape_of_message, generator)  # fixed, by parameter name
    network(parameters, buffers, x, training=True, transports=[Transport(live_message, weights)])

(`antiphon.nets.layers.Transport`).

Shapes: B batch, M message components, P outputs of the objective.
"""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.nets.layers import initial_linear

__all__ = ["DirectFeedback"]


class DirectFeedback:
    """Map from the error of an objective to the gradient injected on a message.

    Under `kickback` every component of a message receives the sum of the errors. For cross-entropy that sum is zero,
    as the probabilities and the target both add up to one: kickback needs another objective.

    Args:
        size: M.
        outputs: P.
        generator: Samples A like the weight of a layer from P to M; None: A is of ones.

    Attributes:
        weight: A, [M, P]; never trained, and the same for the same generator.
    """

    def __init__(
        self,
        size: int,
        outputs: int,
        generator: torch.Generator | None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        weight = torch.ones(size, outputs)
        if generator is not None:
            weight, _ = initial_linear(outputs, (size, outputs), generator)
        self.weight = weight.to(device=device, dtype=dtype)

    def signal(self, error: Tensor) -> Tensor:
        """Return the gradient injected on the message, [B, M] per sample.

        Args:
            error: B * dL/dp, [B, P] per sample: B times the gradient of a loss that is a mean over the batch.
        """
        return error @ self.weight.T
