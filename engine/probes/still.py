"""A backend in which everything is computed as ever, and nothing moves: for what is measured on frozen networks."""

from __future__ import annotations

from antiphon.comms.predictors import Example
from antiphon.engine.core.ledger import Record
from antiphon.engine.core.system import System
from antiphon.engine.core.tape import Tape
from antiphon.engine.step.predictors import Heard, PredictorTrainer, PredictorUpdate
from antiphon.engine.step.report import Update
from antiphon.engine.step.stepper import Reference

__all__ = ["FrozenBackend"]


class _Idle(PredictorTrainer):
    """Takes note of what has come back, and learns nothing from it."""

    def local_examples(self, tapes: list[Tape]) -> dict[str, list[Example]]:
        """Gather no lessons."""
        return {}

    def prepare(
        self,
        predictor_updates: dict[str, list[Example]],
        returns: dict[str, list[Record]],
        step: int,
        *,
        watch: bool,
    ) -> dict[str, PredictorUpdate]:
        """Let the gradients that reach their senders at this step be known to them."""
        for channel in self.system.channels.values():
            channel.ledger.take(step)
        return {}

    def prepare_inputs(self, step: int) -> dict[str, Heard]:
        """Forget what synthetic inputs would learn from."""
        for channel in self.system.channels.values():
            channel.heard = []
        return {}


class FrozenBackend(Reference):
    """The reference backend without updates; running statistics alone move.

    Args:
        system: What runs.
        follows: Whether the gradients that agents would follow are found all the same.
    """

    def __init__(self, system: System, *, follows: bool = False) -> None:
        super().__init__(system)
        self.predictor_trainer = _Idle(system)
        if not follows:
            for agent in system.owners().values():
                agent.learner.trainable = []

    def _apply(self, updates: list[Update], step: int) -> None:
        """Leave all parameters as they are."""
