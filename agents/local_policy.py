"""The control `local_policy`: the sender's own policy on its message, trained on the receiver's actions and advantages.

Its loss is a policy gradient loss, -A log p(a | m, c), with the receiver's action a and advantage A (docs/gradients.md);
the sender follows its gradient in the message. It does not use the receiver's network, so it shows what a synthetic gradient
adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from antiphon.agents.distributions import Distribution
from antiphon.base.extensions import gradient
from antiphon.comms.examples import ContextSpec, Example
from antiphon.comms.synthetic_gradients import (
    LayerOptions,
    OwnLossPredictor,
)


@final
@gradient("local_policy")
class LocalPolicyGradient(OwnLossPredictor):
    """SG = d(-A log π(a))/dm of a policy π on m and c, trained by -A log π(a) with returned action a and advantage A.

    An example is a message with the actions and advantages (constants) of the ticks that read it: its loss is the sum over
    these ticks, a mean over the batch.
    """

    needs_actions: ClassVar[bool] = True
    refuses: ClassVar[frozenset[str]] = frozenset({"trace"})

    class Options(LayerOptions):
        """Keys of the control for policies."""

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
        return super()._predict(example)

    def _losses(self, example: Example, message: Tensor, *, move: bool) -> Tensor:
        outputs = self.forward(message, example.context, move=move)
        total = outputs.new_zeros(outputs.shape[:-1])
        for returned in example.actions or ():
            total = total - returned.advantage * self.distribution.log_prob(outputs, returned.action)
        return total
