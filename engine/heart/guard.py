"""What a step that diverges leaves: running statistics as they were before it, and on a GPU who diverged first, and when (rule 32)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from antiphon.engine.heart.system import System
from antiphon.nets.optimisers import Skip
from antiphon.nets.trained_parameters import TrainedParameters


class RunningStatistics:
    """The running statistics of learners and predictors before a step, whose tensors a step replaces, not changes."""

    def __init__(self, system: System) -> None:
        self._with_statistics = [trained for trained in system.trained_parameters if trained.buffers]
        self.keep()

    def keep(self) -> None:
        """Keep those of now, before a step."""
        self._before = {trained: dict(trained.buffers) for trained in self._with_statistics}

    def restore(self) -> None:
        """Put all back."""
        for trained in self._with_statistics:
            trained.put_statistics(self._before[trained])

    def restore_members(self, trained: TrainedParameters, members: Tensor) -> None:
        """Put those of some members of a stack, [N] bool, back."""
        if trained.members and trained in self._before:
            trained.restore_buffers(members, self._before[trained])

    def replaced(self) -> Iterator[tuple[TrainedParameters, str, Tensor]]:
        """Yield the running statistics that the step has replaced: learner or predictor, name, and the value before."""
        for trained in self._with_statistics:
            for name, before in self._before[trained].items():
                if trained.buffers[name] is not before:
                    yield trained, name, before


class Guard:
    """Keeps on the device the first step at which something was not finite; the host waits at `first_step` alone.

    From that step on optimisers skip.

    Args:
        count: How many magnitudes are checked at a step.

    Attributes:
        magnitudes: Those of the newest step, or of the first that had one that is not finite.
        skip: What optimisers are to do.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.magnitudes = torch.zeros(count, device=device)
        self._skip = torch.tensor([0.0, 1.0]).to(device)
        self.skip = Skip(*self._skip.unbind())
        self._marks = torch.tensor([True, False]).to(device)
        """What `_sound` differs from where a step is skipped, and where it is counted."""
        self._sound = torch.ones((), dtype=torch.bool, device=device)
        self._steps = torch.zeros((), dtype=torch.int64, device=device)
        """Steps, since the first, in which everything was finite."""
        self._first: int | None = None

    @torch.no_grad()
    def note(self, magnitudes: Tensor) -> None:
        """Check the magnitudes of a step, or of a minibatch."""
        self.magnitudes.copy_(torch.where(self._sound, magnitudes, self.magnitudes))
        torch.lt(self.magnitudes.amax(), math.inf, out=self._sound)  # NaN is not less
        torch.ne(self._sound, self._marks, out=self._skip)

    def end_step(self, step: int, statistics: RunningStatistics) -> None:
        """Count a step; put back the running statistics that it replaced, where anything was not finite."""
        self._first = step if self._first is None else self._first
        self._steps.add_(self._sound)
        for trained, name, before in statistics.replaced():
            trained.put_statistics({name: torch.where(self._sound, trained.buffers[name], before)})

    def first_step(self) -> int | None:
        """Wait for the device, and return the first step at which something was not finite; None: all was."""
        if self._first is None or not float(self.skip.flag):
            return None
        return self._first + int(self._steps)

    def in_place(self) -> list[Tensor]:
        """Return the tensors that a step changes in place."""
        return [self.magnitudes, self._skip, self._sound, self._steps]
