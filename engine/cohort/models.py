"""The predictors of a bundle as one, with their optimiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.comms.bundled import Bundled, BundledInputs, BundledPredictors
from antiphon.comms.model import Model
from antiphon.comms.predictors import Example
from antiphon.engine.cohort.parts import Members
from antiphon.engine.core.memory import give_back
from antiphon.engine.core.parts import Heard
from antiphon.nets.stacked_optimiser import StackedOptimiser

__all__ = ["Models"]


class Models:
    """The predictors of a bundle as one, with their optimiser: stands where a channel has its own.

    Args:
        members: Of one kind; their numbers become views of the stacked ones.
        batch: B.
    """

    def __init__(self, members: Sequence[Model], batch: int) -> None:
        self.bundled: BundledPredictors | BundledInputs = Bundled.of(members)  # type: ignore[arg-type]
        self.batch = batch
        self.rate = members[0].rate
        self.hidden = members[0].hidden
        self.needs_delta = getattr(members[0], "needs_delta", True)
        self.needs_loss = getattr(members[0], "needs_loss", False)
        give_back(sum(p.numel() * p.element_size() for p in self.bundled.parameters.values()))
        self.optimiser = StackedOptimiser.from_members(
            [model.optimiser for model in members], list(self.bundled.parameters.values())
        )
        self.updates = 0
        self.taken = torch.zeros(len(members), dtype=torch.int64)

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Running statistics, stacked."""
        return self.bundled.buffers

    @buffers.setter
    def buffers(self, buffers: dict[str, Tensor]) -> None:
        self.bundled.buffers = buffers

    def refresh(self) -> None:
        """Take over what the members' own numbers have become."""
        self.bundled.refresh()
        self.optimiser.refresh()
        self.taken.zero_()

    def put_back(self, members: Tensor, buffers: dict[str, Tensor]) -> None:
        """Give `members`, [K] bool, back the running statistics they had."""
        self.buffers = {
            name: torch.where(members.view(-1, *[1] * (stack.dim() - 1)), buffers[name], stack)
            for name, stack in self.buffers.items()
        }

    def write_back(self) -> None:
        """Give the members their running statistics and counts of updates."""
        self.bundled.split_buffers()
        for model, taken in zip(self.bundled.models, self.taken.tolist(), strict=True):
            model.updates += taken
        self.taken.zero_()

    def step(
        self, gradients: Sequence[Tensor], now: int, members: Members, *, skip: Tensor | None = None
    ) -> None:
        """Take one optimiser step, of `members` alone; none where `skip` is not 0 on the device."""
        self.optimiser.step(gradients, self.rate(now), members, skip=skip)
        self.updates += 1
        self.taken += 1 if members is None else members.long()

    # --- as a predictor of a channel, on rows --------------------------------------------------------------

    def predict(self, asked: Example | Tensor | None, rows: int = 0, *, training: bool = True) -> Tensor:
        """Return the synthetic gradients of an example, or the synthetic inputs in a context, [K * B, M]."""
        if isinstance(self.bundled, BundledInputs):
            assert not isinstance(asked, Example)
            return self.bundled.predict(asked, self.batch, training=training)
        assert isinstance(asked, Example)
        return self.bundled.predict(asked)

    def value(self, example: Example) -> Tensor:
        """Return what critics expect, [K * B]."""
        return self._predictors.value(example)

    def propagated(self, example: Example) -> Tensor:
        """Return the gradients of the members' own losses by the message, [K * B, M]."""
        return self._predictors.propagated(example)

    def gradients(self, examples: Sequence[Example]) -> tuple[Tensor, list[Tensor]]:
        """Return the losses [K], summed over the examples, and the gradients, stacked."""
        return self._predictors.gradients(examples)

    def heard(self, heard: Sequence[Heard], members: Sequence[Members]) -> tuple[Tensor, list[Tensor]]:
        """Return the losses of synthetic inputs [K] and their gradients, stacked."""
        assert isinstance(self.bundled, BundledInputs)
        return self.bundled.gradients(heard, members)

    @property
    def _predictors(self) -> BundledPredictors:
        assert isinstance(self.bundled, BundledPredictors)
        return self.bundled
