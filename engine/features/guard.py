"""The guard: a divergence check that leaves the numbers on the device, where every look at one stops the stream of work.

A step that diverged is skipped by the optimisers themselves, and so is every step after it; the next synchronisation
reports which agents diverged, and when (semantics 32).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from antiphon.engine.heart.divergence import DivergenceCheck
from antiphon.engine.heart.divergence_texts import Reason, channel_report, group_report
from antiphon.engine.heart.updates import PredictorUpdate, Update
from antiphon.engine.heart.window import LearningGroup
from antiphon.nets.optimisers import Skip
from antiphon.nets.trained_parameters import TrainedParameters


class _Place(NamedTuple):
    """Whose numbers have been checked.

    Attributes:
        kind: `update` (an agent's gradients), `loss` (its losses), `returned` (what a window returns over a channel), or
            `predictor` or `input` (loss and gradients of a channel's).
        name: Of the agent or channel, or of a stack of them.
        turn: The place of its update among those of a step, in the order in which they are reported.
    """

    kind: str
    name: str
    turn: int = 0


class Guard(DivergenceCheck):
    """Remembers on the device the first step at which something was not finite; the host waits at `synchronize` alone.

    A tensor costs one or two launches, for the largest magnitude of each member, which no finite number makes overflow; a
    step costs six more.

    Args:
        check: The check on the host that it replaces.
        device: Where.

    Attributes:
        skip: What optimisers are to do from that step on.
    """

    deferred = True

    def __init__(self, check: DivergenceCheck, device: torch.device) -> None:
        super().__init__(check.rule, check.agents, check.channels, check.groups_by_seed)
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
        self._lone: list[tuple[_Place, Tensor]] = []
        """Numbers of lone agents and channels that are still to be checked: all in one call."""
        self._stacked: list[tuple[_Place, Tensor]] = []
        """Largest magnitudes of the members of stacks, [N] each."""
        self._found: dict[tuple[tuple[_Place, int], ...], Tensor] = {}
        """By places and their members: the largest magnitudes at the newest check before the first that failed, or at that."""

    # --- a step --------------------------------------------------------------------------------------------

    def check_updates(self, updates: Sequence[Update], step: int) -> None:
        """Note the numbers of updates, which are checked once predictors have learned."""
        for turn, update in enumerate(updates, self._turns):
            for name, gradients in update.gradients_by_learner.items():
                self._note(_Place("update", name, turn), len(self.agents[name].members), gradients)
            for name, reported in update.window_loss.reported_loss_by_agent.items():
                self._note(_Place("loss", name, turn), len(self.agents[name].members), [reported.loss])
            for read, gradient in update.gradient_by_read.items():
                members = len(self.channels[read.channel_name].members)
                self._note(_Place("returned", read.channel_name, turn), members, [gradient])
        self._turns += len(updates)

    def check_predictors(self, updates: Sequence[tuple[str, PredictorUpdate]], step: int) -> None:
        """Check the numbers of updates, and all that has been noted at this step."""
        for turn, (name, update) in enumerate(updates):
            place = _Place("input" if update.for_input else "predictor", name, turn)
            self._note(place, update.loss.numel(), [*update.gradients, update.loss])
        self._check_noted()

    @torch.no_grad()
    def _note(self, place: _Place, count: int, numbers: Iterable[Tensor | None]) -> None:
        """Have numbers of `count` members, [N, …] or rows each, checked once predictors have learned."""
        for tensor in numbers:
            if tensor is None or not tensor.numel():
                continue
            if count == 1:
                self._lone.append((place, tensor.reshape(-1)))
            else:
                largest = torch.linalg.vector_norm(tensor.reshape(count, -1), math.inf, dim=1)
                self._stacked.append((place, largest))

    @torch.no_grad()
    def _check_noted(self) -> None:
        """Check what has been noted at this step: optimisers have it then."""
        lone, stacked, self._lone, self._stacked = self._lone, self._stacked, [], []
        self._turns = 0
        if not lone and not stacked:
            return
        each = [own for _, own in stacked]
        if lone:
            each += [own.view(1) for own in torch._foreach_norm([own for _, own in lone], math.inf)]
        magnitudes = torch.cat([self._largest, *each])
        places = (*((place, len(own)) for place, own in stacked), *((place, 1) for place, _ in lone))
        before = self._found.get(places)
        self._found[places] = magnitudes if before is None else torch.where(self._sound, magnitudes, before)
        self._largest = magnitudes.amax(0, keepdim=True)
        torch.lt(self._largest[0], math.inf, out=self._sound)  # NaN is not less
        torch.ne(self._sound, self._marks, out=self._skip)

    def end_step(self, step: int) -> None:
        """Count a step; running statistics that it has replaced are put back where they, or anything else, were not finite."""
        self._first = step if self._first is None else self._first
        self._steps.add_(self._sound)
        replaced: dict[torch.dtype, list[tuple[TrainedParameters, str, Tensor]]] = {}
        for owner, name, before in self.statistics.replaced_statistics():
            replaced.setdefault(before.dtype, []).append((owner, name, before))
        for each in replaced.values():  # all at once: statistics are small
            old = torch.cat([before.reshape(-1) for _, _, before in each])
            new = torch.cat([owner.buffers[name].reshape(-1) for owner, name, _ in each])
            new = torch.where(new.abs() < math.inf, new, old)  # NaN is not less
            new = torch.where(self._sound, new, old)
            kept = torch.split(new, [before.numel() for _, _, before in each])
            for (owner, name, before), own in zip(each, kept, strict=True):
                owner.put_statistics({name: own.view(before.shape)})

    # --- what it has found ---------------------------------------------------------------------------------

    def synchronize(self) -> None:
        """Wait for the device, and raise if anything was not finite since.

        Raises:
            DivergenceError: It names the agent or channel, and the step; from there on nothing has moved.
        """
        if self._first is None or not float(self.skip.flag):
            return
        step, wrong = self._first + int(self._steps), self._wrong()
        updates = [place for place in wrong if place.kind in ("update", "returned", "loss")]
        if updates:
            first = min(place.turn for place in updates)
            (groups,) = self.groups_by_seed  # of one seed
            group_of = {name: group for group in groups for name in group.agent_names}
            found_in: dict[LearningGroup, Reason] = {}
            for place in sorted(
                updates, key=lambda one: one.kind == "loss"
            ):  # which is named before a gradient
                for n in wrong[place] if place.turn == first else ():
                    if place.kind == "returned":  # by those that return it
                        name = self.channels[place.name].members[n].receiver
                    else:
                        name = self.agents[place.name].members[n].name
                    reason = Reason.LOSS_NOT_FINITE if place.kind == "loss" else Reason.NOT_FINITE
                    found_in[group_of[name]] = reason
            group = next(group for group in groups if group in found_in)
            self.rule.report(group_report(group, found_in[group], step))
        place = min(wrong, key=lambda one: (one.kind == "input", one.turn))
        channel = self.channels[place.name].members[wrong[place][0]]
        report = channel_report(channel, Reason.NOT_FINITE, step, of_input=place.kind == "input")
        self.rule.report(report)

    def _wrong(self) -> dict[_Place, list[int]]:
        """The members that were not finite, by place."""
        wrong: dict[_Place, list[int]] = {}
        for places, magnitudes in self._found.items():
            each = torch.split(magnitudes[1:], [count for _, count in places])
            for (place, _), own in zip(places, each, strict=True):
                members = [n for n, size in enumerate(own.tolist()) if not size < math.inf]
                if members:
                    wrong[place] = sorted({*wrong.get(place, ()), *members})
        return wrong

    # --- its state, for recorded steps -----------------------------------------------------------------------

    def in_place(self) -> list[Tensor]:
        """Return the tensors that a step changes in place."""
        return [self._skip, self._sound, self._steps]

    def values(self) -> dict[str, Any]:
        """Return what a step replaces, without a copy of a tensor."""
        return {"largest": self._largest, "found": dict(self._found)}

    def load_values(self, values: Mapping[str, Any]) -> None:
        """Load what a step has replaced; the tensors are used as they are."""
        self._largest, self._found = values["largest"], dict(values["found"])
