"""The guard: a divergence check that leaves the numbers on the device, as every look at one stops the stream of work.

A step that diverged is skipped by the optimisers themselves, and so is every step after it; the next synchronisation
reports which agents diverged, and when (semantics 32).

Unlike the check on the host it has one seed, and it does not ask which members a signal has reached: what
the others of a stack return is checked too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from antiphon.engine.heart.divergence import DivergenceCheck, Reason, line_of_channel, line_of_group
from antiphon.engine.heart.updates import PredictorUpdate, Update
from antiphon.engine.heart.window import LearningGroup
from antiphon.nets.optimisers import Skip
from antiphon.nets.trained_parameters import TrainedParameters


class _Checked(NamedTuple):
    """Whose numbers have been checked.

    Attributes:
        kind: `update` (an agent's gradients), `loss` (its losses), `returned` (what a window returns over a channel),
            or `predictor` or `input` (loss and gradients of a channel's).
        name: Of the agent or channel, or of a stack of them.
        turn: The index of its update among those of a step, in the order in which they are reported.
    """

    kind: str
    name: str
    turn: int = 0


class Guard(DivergenceCheck):
    """Remembers on the device the first step at which something was not finite; the host waits at `synchronize` alone.

    A tensor costs one or two launches, for the largest magnitude of each member, which no finite number makes overflow;
    a step costs six more.

    Args:
        check: The check on the host that it replaces.

    Attributes:
        skip: What optimisers are to do from that step on.
    """

    deferred = True

    def __init__(self, check: DivergenceCheck, device: torch.device) -> None:
        super().__init__(
            check.rule, check.agents, check.channels, check.groups_by_seed, check.learner_name_by_agent
        )
        self._skip = torch.tensor([0.0, 1.0]).to(device)
        self.skip = Skip(*self._skip.unbind())
        self._marks = torch.tensor([True, False]).to(device)
        """What `_sound` differs from where a step is skipped, and where it is counted."""
        self._largest = torch.zeros(1, device=device)
        """The largest magnitude of all so far; NaN, and infinity, stay."""
        self._sound = torch.ones((), dtype=torch.bool, device=device)
        self._steps = torch.zeros((), dtype=torch.int64, device=device)
        """Steps, since the first, in which everything was finite."""
        self._first: int | None = None
        self._turns = 0
        """Updates noted at this step."""
        self._lone: list[tuple[_Checked, Tensor]] = []
        """Numbers of lone agents and channels that are still to be checked: all in one call."""
        self._stacked: list[tuple[_Checked, Tensor]] = []
        """Largest magnitudes of the members of stacks, [N] each."""
        self._magnitudes: dict[tuple[tuple[_Checked, int], ...], Tensor] = {}
        """By what was checked, and how many members each has: the largest magnitudes at the newest check before the
        first that failed, or at that."""

    # --- a step --------------------------------------------------------------------------------------------

    def check_updates(self, updates: Sequence[Update], step: int) -> None:
        """Note the numbers of updates, which are checked once predictors have learned."""
        for turn, update in enumerate(updates, self._turns):
            for name, gradients in update.gradients_by_learner.items():
                self._note(_Checked("update", name, turn), len(self.agents[name].members), gradients)
            for name, reported in update.window_loss.reported_loss_by_agent.items():
                self._note(_Checked("loss", name, turn), len(self.agents[name].members), [reported.loss])
            for read, gradient in update.gradient_by_read.items():
                members = len(self.channels[read.channel_name].members)
                self._note(_Checked("returned", read.channel_name, turn), members, [gradient])
        self._turns += len(updates)

    def check_predictors(self, updates: Sequence[tuple[str, PredictorUpdate]], step: int) -> None:
        """Check the numbers of updates, and all that has been noted at this step."""
        for turn, (name, update) in enumerate(updates):
            checked = _Checked("input" if update.for_input else "predictor", name, turn)
            self._note(checked, update.loss.numel(), [*update.gradients, update.loss])
        self._check_noted()

    @torch.no_grad()
    def _note(self, checked: _Checked, count: int, numbers: Iterable[Tensor | None]) -> None:
        """Have numbers of `count` members, [N, …] or rows each, checked once predictors have learned."""
        for tensor in numbers:
            if tensor is None or not tensor.numel():
                continue
            if count == 1:
                self._lone.append((checked, tensor.reshape(-1)))
            else:
                largest = torch.linalg.vector_norm(tensor.reshape(count, -1), math.inf, dim=1)
                self._stacked.append((checked, largest))

    @torch.no_grad()
    def _check_noted(self) -> None:
        """Check what has been noted at this step: optimisers have it then."""
        lone, stacked, self._lone, self._stacked = self._lone, self._stacked, [], []
        self._turns = 0
        if not lone and not stacked:
            return
        magnitudes_of_each = [by_member for _, by_member in stacked]
        if lone:
            largest = torch._foreach_norm([numbers for _, numbers in lone], math.inf)
            magnitudes_of_each += [magnitude.view(1) for magnitude in largest]
        magnitudes = torch.cat([self._largest, *magnitudes_of_each])
        all_checked = (
            *((checked, len(by_member)) for checked, by_member in stacked),
            *((checked, 1) for checked, _ in lone),
        )
        before = self._magnitudes.get(all_checked)
        self._magnitudes[all_checked] = (
            magnitudes if before is None else torch.where(self._sound, magnitudes, before)
        )
        self._largest = magnitudes.amax(0, keepdim=True)
        torch.lt(self._largest[0], math.inf, out=self._sound)  # NaN is not less
        torch.ne(self._sound, self._marks, out=self._skip)

    def end_step(self, step: int) -> None:
        """Count a step; put back the running statistics that it replaced, where anything was not finite."""
        self._first = step if self._first is None else self._first
        self._steps.add_(self._sound)
        replaced: dict[torch.dtype, list[tuple[TrainedParameters, str, Tensor]]] = {}
        for owner, name, before in self.statistics.replaced_statistics():
            replaced.setdefault(before.dtype, []).append((owner, name, before))
        for statistics in replaced.values():  # all of a dtype at once: they are small
            old = torch.cat([before.reshape(-1) for _, _, before in statistics])
            new = torch.cat([owner.buffers[name].reshape(-1) for owner, name, _ in statistics])
            new = torch.where(new.abs() < math.inf, new, old)  # NaN is not less
            new = torch.where(self._sound, new, old)
            split = torch.split(new, [before.numel() for _, _, before in statistics])
            for (owner, name, before), values in zip(statistics, split, strict=True):
                owner.put_statistics({name: values.view(before.shape)})

    # --- what it has found ---------------------------------------------------------------------------------

    def synchronize(self) -> None:
        """Wait for the device, and raise if anything was not finite since.

        Raises:
            DivergenceError: It names the agent or channel, and the step; from there on nothing has moved.
        """
        if self._first is None or not float(self.skip.flag):
            return
        step, members_not_finite = self._first + int(self._steps), self._members_not_finite()
        updates = [
            checked for checked in members_not_finite if checked.kind in ("update", "returned", "loss")
        ]
        if updates:
            first_turn = min(checked.turn for checked in updates)
            (groups,) = self.groups_by_seed  # of one seed
            group_of = {name: group for group in groups for name in group.agent_names}
            reason_by_group: dict[LearningGroup, Reason] = {}
            # a loss is named before a gradient
            for checked in sorted(updates, key=lambda checked: checked.kind == "loss"):
                for n in members_not_finite[checked] if checked.turn == first_turn else ():
                    if checked.kind == "returned":  # by those that return it
                        name = self.channels[checked.name].members[n].receiver
                    else:
                        name = self.agents[checked.name].members[n].name
                    reason = Reason.LOSS_NOT_FINITE if checked.kind == "loss" else Reason.NOT_FINITE
                    reason_by_group[group_of[name]] = reason
            group = next(group for group in groups if group in reason_by_group)
            self.rule.report(line_of_group(group, reason_by_group[group], step))
        checked = min(members_not_finite, key=lambda checked: (checked.kind == "input", checked.turn))
        channel = self.channels[checked.name].members[members_not_finite[checked][0]]
        self.rule.report(line_of_channel(channel, step, of_input=checked.kind == "input"))

    def _members_not_finite(self) -> dict[_Checked, list[int]]:
        """By what was checked, the members whose numbers were not finite."""
        members_not_finite: dict[_Checked, list[int]] = {}
        for all_checked, magnitudes in self._magnitudes.items():
            split = torch.split(magnitudes[1:], [count for _, count in all_checked])
            for (checked, _), by_member in zip(all_checked, split, strict=True):
                members = [n for n, size in enumerate(by_member.tolist()) if not size < math.inf]
                if members:
                    members_not_finite[checked] = sorted({*members_not_finite.get(checked, ()), *members})
        return members_not_finite

    # --- its state, for recorded steps -----------------------------------------------------------------------

    def in_place(self) -> list[Tensor]:
        """Return the tensors that a step changes in place."""
        return [self._skip, self._sound, self._steps]

    def values(self) -> dict[str, Any]:
        """Return what a step replaces, without a copy of a tensor."""
        return {"largest": self._largest, "found": dict(self._magnitudes)}

    def load_values(self, values: Mapping[str, Any]) -> None:
        """Load what a step has replaced; the tensors are used as they are."""
        self._largest, self._magnitudes = values["largest"], dict(values["found"])
