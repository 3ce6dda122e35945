"""The control `local_policy`: a policy of the sender's own on its message, trained by what the receiver did and got.

Its loss is that of a policy gradient, -A log p(a | m, c), with the receiver's action a and advantage A (docs/gradients.md);
the sender follows its slope. Nothing of the receiver's network is in it, so it tells what a synthetic gradient adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from antiphon.agents.distributions import Distribution
from antiphon.comms.examples import ContextSpec, Example
from antiphon.comms.synthetic_gradients import (
    LayerOptions,
    Predictor,
    ReadOptions,
    counted,
    with_slope,
)
from antiphon.extensions import gradient

__all__ = ["LocalPolicyGradient"]


@final
@gradient("local_policy")
class LocalPolicyGradient(Predictor):
    """A policy on the message and its context, whose parameters start at zero.

    An example is a message with the actions of the ticks that read it, and their advantages, which are constants:
    its loss is their sum, a mean over the batch.

    Args:
        shape: As of `Predictor`, like the rest.
        context: Likewise.
        distribution: Of the receiver's action.
        settings: The others.
    """

    needs_actions: ClassVar[bool] = True
    refuses: ClassVar[frozenset[str]] = frozenset({"trace", "propagate"})

    class Options(LayerOptions, ReadOptions):
        """Keys of the control of policies."""

    def __init__(
        self,
        shape: tuple[int, ...],
        context: Sequence[ContextSpec],
        *,
        distribution: Distribution,
        **settings: Any,
    ) -> None:
        self.distribution = distribution
        super().__init__(shape, context, **settings)
        self.function = (distribution,)

    @property
    def outputs(self) -> int:
        return self.distribution.parameters

    def _predict(self, example: Example) -> Tensor:
        if not example.actions:
            return torch.zeros_like(example.message)
        return with_slope(lambda m: self._losses(example, m, move=False), example.message)[1]

    def _loss(self, example: Example) -> Tensor:
        losses = self._losses(example, example.message, move=True)
        return counted(example, losses).sum(-1) / losses.shape[-1]

    def _losses(self, example: Example, message: Tensor, *, move: bool) -> Tensor:
        """Losses per sample, [B]."""
        read, _ = self.normalised(message)
        outputs = self.forward(read, example.context, move=move)
        total = outputs.new_zeros(outputs.shape[:-1])
        for returned in example.actions or ():
            total = total - returned.advantage * self.distribution.log_prob(outputs, returned.action)
        return total
