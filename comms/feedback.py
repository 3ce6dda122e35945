"""Direct feedback: an output's error is sent to a message through a fixed matrix, bypassing the layers between.

`dfa` (direct feedback alignment) uses a random matrix A, `kickback` one of ones. The injected gradient is (dL/dp) A^T
with p the output of an objective, per sample (Czarnecki et al. 2017, table 1)::

    matrix = feedback_matrix(size, outputs, generator)  # or None for the generator: kickback
    injected = batch * dL_dp @ matrix.T  # [B, M], injected on a message that is cut at its receiver

`fa` (feedback alignment) replaces the receiver's first weight in the backward pass, so it belongs to the receiver's
network: the message enters the network detached, and its backward path is passed beside it::

    weights = network.feedback_weights(shape_of_message, generator)  # fixed, by parameter name
    network(parameters, buffers, x, training=True, transports=[Transport(live_message, weights)])

(`antiphon.nets.layers.Transport`).

Shapes: B batch, M message components, P outputs of the objective.
"""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.nets.layers import initial_linear


def feedback_matrix(size: int, outputs: int, generator: torch.Generator | None) -> Tensor:
    """Return A, [M, P]: it is never trained, and depends on the generator alone.

    With `kickback` every component of a message receives the sum of the errors. For cross-entropy this sum is zero,
    because the probabilities and the target both sum to one: kickback needs another objective.

    Args:
        size: M.
        outputs: P.
        generator: Samples A like the weight of a layer from P to M; None: A is all ones.
    """
    if generator is None:
        return torch.ones(size, outputs)
    return initial_linear(outputs, (size, outputs), generator)[0]
