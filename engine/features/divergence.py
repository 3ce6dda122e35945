"""Divergence: what is not finite, or too long, never reaches a parameter (semantics 32).

`Divergence` is what a scenario says about it, `DivergenceCheck` what a step does: gradients are checked before any is
applied, and what has diverged is reported, or disabled (quarantine).

On a GPU every look at a number stops the stream of work. There the guard leaves the numbers on the device: a step that
diverged is skipped by the optimisers themselves, and so is every step after it; the next synchronisation reports which
agents diverged, and when.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.message import LearningGroup
from antiphon.engine.heart.rows import mask_fill_zero, mask_not, members_and
from antiphon.engine.heart.updates import PredictorUpdate, Update
from antiphon.errors import DivergenceError
from antiphon.nets.optimisers import Skip
from antiphon.nets.trained_parameters import TrainedParameters

__all__ = ["Divergence", "DivergenceCheck", "Guard", "Place", "Report", "RunningStatistics"]

NOT_FINITE = "is not finite"
GRADIENT, LOSS = (f"{what} {{at}} {NOT_FINITE}" for what in ("gradient", "loss"))
"""What is wrong with an agent, `at` a step."""


@dataclass(frozen=True)
class Report:
    """One line about agents, with their names as data.

    Attributes:
        step: When.
        text: The line, with `{agents}` for the quoted names and `{channel}` for the channel's.
        agents: Whom it concerns: those of a learning group, or the end of a channel.
        channel: The channel, where it concerns one.
    """

    step: int
    text: str
    agents: tuple[str, ...]
    channel: str = ""

    def __str__(self) -> str:
        agents = ", ".join(f"'{name}'" for name in self.agents)
        return self.text.format(agents=agents, channel=self.channel)


@dataclass
class Divergence:
    """Finds what has diverged, and reports it.

    Attributes:
        quarantine: Whether the others continue; else a divergence is an error.
        bound: The largest norm that is none; None: any finite.
        stopped: Replicas that a divergence has stopped while others continue, with what it was (`ReplicaDivergence`).
        events: What was shortened (the first time) or put into quarantine: (step, one line).
    """

    quarantine: bool = False
    bound: float | None = None
    events: list[tuple[int, str]] = field(default_factory=list)
    stopped: dict[int, str] = field(default_factory=dict)

    def fine(self, numbers: list[Tensor]) -> bool:
        """Whether one look at all of them shows that nothing is wrong; where there is a bound it never does.

        Gradients may have `finite`: whether that is known from how they are made.
        """
        if self.bound is not None:
            return not numbers
        unknown = [tensor for tensor in numbers if not getattr(tensor, "finite", False)]
        return not unknown or math.isfinite(torch.stack(torch._foreach_norm(unknown)).sum().item())

    def members(self, count: int, gradients: Sequence[Tensor], beside: Sequence[Tensor]) -> dict[int, str]:
        """Return which of `count` members of a stack have diverged, and what is wrong with each.

        Args:
            count: N.
            gradients: [N, …] each: to be finite, and no longer than the bound.
            beside: [N, …] or rows: to be finite too, like losses and what goes back.
        """
        if not gradients and not beside:
            return {}
        flat = [t.reshape(count, -1) for t in gradients]
        finite = torch.stack([t.isfinite().all(1) for t in [*flat, *(b.reshape(count, -1) for b in beside)]])
        found = {n: NOT_FINITE for n, sound in enumerate(finite.all(0).tolist()) if not sound}
        if self.bound is not None and flat:
            lengths = torch.stack([t.norm(dim=1) for t in flat]).norm(dim=0)
            for n, length in enumerate(lengths.tolist()):
                if n not in found and length > self.bound:
                    found[n] = self.too_long
        return found

    @property
    def too_long(self) -> str:
        """What is wrong with a gradient that is longer than the bound."""
        return f"exceeds on_divergence.max {self.bound:g}"

    def report(self, found: Report) -> None:
        """Note a quarantine, or raise.

        Raises:
            DivergenceError: There is no quarantine.
        """
        if not self.quarantine:
            raise DivergenceError(str(found))
        self.note(found)

    def note(self, found: Report) -> None:
        """Note an event."""
        self.events.append((found.step, str(found)))


class Place(NamedTuple):
    """Whose numbers a guard has checked.

    Attributes:
        kind: `update` (an agent's gradients), `loss` (its losses), `returned` (what a window returns over a channel), or
            `predictor` or `input` (loss and gradients of a channel's).
        name: Of the agent or channel, or of a stack of them.
        turn: The place of its update among those of a step, in the order in which they are reported.
    """

    kind: str
    name: str
    turn: int = 0


class Guard:
    """Remembers on the device the first step at which something was not finite; the host waits at `read` alone.

    A tensor costs one or two launches, for the largest magnitude of each member, which no finite number makes overflow; a
    step costs six more.

    Args:
        device: Where.

    Attributes:
        skip: What optimisers are to do from that step on.
    """

    def __init__(self, device: torch.device) -> None:
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
        self._lone: list[tuple[Place, Tensor]] = []
        """Numbers of lone agents and channels that are still to be checked: all in one call."""
        self._stacked: list[tuple[Place, Tensor]] = []
        """Largest magnitudes of the members of stacks, [N] each."""
        self._found: dict[tuple[tuple[Place, int], ...], Tensor] = {}
        """By places and their members: the largest magnitudes at the newest check before the first that failed, or at that."""

    @torch.no_grad()
    def look(self, place: Place, count: int, numbers: Iterable[Tensor | None]) -> None:
        """Have numbers checked at the next `check`.

        Args:
            place: Whose they are.
            count: N, its members.
            numbers: [N, …], or rows, each.
        """
        for tensor in numbers:
            if tensor is None or not tensor.numel():
                continue
            if count == 1:
                self._lone.append((place, tensor.reshape(-1)))
            else:
                largest = torch.linalg.vector_norm(tensor.reshape(count, -1), math.inf, dim=1)
                self._stacked.append((place, largest))

    @torch.no_grad()
    def check(self) -> None:
        """Check what has been noted by `look`: from now on `tripped` has it."""
        lone, stacked, self._lone, self._stacked = self._lone, self._stacked, [], []
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

    def close(self, step: int) -> None:
        """Count a step; every one is to be counted, from the first to be checked on."""
        self._first = step if self._first is None else self._first
        self._steps.add_(self._sound)

    def frozen(self, before: Tensor, after: Tensor) -> Tensor:
        """Return `after`, or `before` once something was not finite."""
        return torch.where(self._sound, after, before)

    def in_place(self) -> list[Tensor]:
        """Return the tensors that a step changes in place."""
        return [self._skip, self._sound, self._steps]

    def values(self) -> dict[str, Any]:
        """Return what a step replaces, without a copy of a tensor."""
        return {"largest": self._largest, "found": dict(self._found)}

    def load_values(self, values: Mapping[str, Any]) -> None:
        """Load what a step has replaced; the tensors are used as they are."""
        self._largest, self._found = values["largest"], dict(values["found"])

    def read(self) -> tuple[int, dict[Place, list[int]]] | None:
        """Wait for the device; return the step, and the members by place; None: all is well."""
        if self._first is None or not float(self.skip.flag):
            return None
        wrong: dict[Place, list[int]] = {}
        for places, magnitudes in self._found.items():
            each = torch.split(magnitudes[1:], [count for _, count in places])
            for (place, _), own in zip(places, each, strict=True):
                members = [n for n, size in enumerate(own.tolist()) if not size < math.inf]
                if members:
                    wrong[place] = sorted({*wrong.get(place, ()), *members})
        return self._first + int(self._steps), wrong


class RunningStatistics:
    """The running statistics of learners and predictors; these are values, which a step replaces.

    Args:
        agents: All.
        channels: All.

    Attributes:
        owners: Learners and predictors, with or without running statistics.
    """

    def __init__(self, agents: Mapping[str, Agent], channels: Mapping[str, Channel]) -> None:
        owners: list[TrainedParameters] = [agent.learner for agent in agents.values()]
        owners += [model for channel in channels.values() for model in channel.models]
        self.owners = list(dict.fromkeys(owners))
        self._owners = [owner for owner in self.owners if owner.buffers]
        self.note()

    def note(self) -> None:
        """Keep what they are before a step."""
        self._before = {owner: dict(owner.buffers) for owner in self._owners}

    def restore(self) -> None:
        """Put all back to what they were before the step."""
        for owner in self._owners:
            owner.buffers = self._before[owner]

    def restore_members(self, owner: TrainedParameters, members: Tensor) -> None:
        """Put those of members of a stack, [N] bool, back."""
        if owner.members and owner in self._before:
            owner.restore_buffers(members, self._before[owner])

    def restore_not_finite(self) -> None:
        """Put back those that a step has moved to what is not finite; of a stack, all of such a member.

        A sender that diverges may send finite messages first whose squares overflow; it is disabled, and its receiver's
        running variance would be infinite for ever.
        """
        moved = [owner for owner in self._owners if self._moved(owner)]
        new = [own for owner in moved for own in owner.buffers.values() if own.is_floating_point()]
        if not new or math.isfinite(torch.stack(torch._foreach_norm(new, math.inf)).sum().item()):
            return
        for owner in moved:
            if not owner.members:
                if not all(own.isfinite().all() for own in owner.buffers.values()):
                    owner.buffers = self._before[owner]
                continue
            finite = [own.reshape(len(own), -1).isfinite().all(1) for own in owner.buffers.values()]
            self.restore_members(owner, torch.logical_not(torch.stack(finite).all(0)))

    def _moved(self, owner: TrainedParameters) -> list[str]:
        """The names of those of an owner that the step has replaced."""
        return [name for name, before in self._before[owner].items() if owner.buffers[name] is not before]

    def keep_where(self, guard: Guard) -> None:
        """Put those that a step has replaced back once the guard has found something that is not finite, or where they are not."""
        replaced: dict[torch.dtype, list[tuple[TrainedParameters, str, Tensor]]] = {}
        for owner in self._owners:
            for name in self._moved(owner):
                before = self._before[owner][name]
                replaced.setdefault(before.dtype, []).append((owner, name, before))
        for each in replaced.values():  # all at once: statistics are small
            old = torch.cat([before.reshape(-1) for _, _, before in each])
            new = torch.cat([owner.buffers[name].reshape(-1) for owner, name, _ in each])
            new = torch.where(new.abs() < math.inf, new, old)  # NaN is not less
            kept = torch.split(guard.frozen(old, new), [before.numel() for _, _, before in each])
            for (owner, name, before), own in zip(each, kept, strict=True):
                owner.buffers = {**owner.buffers, name: own.view(before.shape)}


class DivergenceCheck:
    """Checks the gradients of a step before they are used, and disables, or reports, what has diverged.

    Args:
        divergence: What follows.
        agents: All, by name.
        channels: All, by name.
        groups: The learning groups of single agents, which are disabled as wholes.

    Attributes:
        guard: What checks on the device, and is read by the host at `synchronize` only; None: the host checks at every step.
        statistics: Running statistics of before the step.
    """

    def __init__(
        self,
        divergence: Divergence,
        agents: Mapping[str, Agent],
        channels: Mapping[str, Channel],
        groups: Sequence[LearningGroup],
    ) -> None:
        self.divergence = divergence
        self.agents, self.channels = agents, channels
        self.guard: Guard | None = None
        self.statistics = RunningStatistics(agents, channels)
        self._group_of = {name: group for group in groups for name in group.members}
        self._checked = 0
        """Updates that have been given to the guard at this step."""
        self._stopped: set[int] = set()
        """Replicas that have been disabled."""

    def synchronize(self) -> None:
        """Wait for the device, and raise if anything was not finite since.

        Raises:
            DivergenceError: It names the agent or channel, and the step; from there on nothing has moved.
        """
        found = None if self.guard is None else self.guard.read()
        if found is None:
            return
        step, wrong = found
        updates = [place for place in wrong if place.kind in ("update", "returned", "loss")]
        if updates:
            first = min(place.turn for place in updates)
            found_in: dict[LearningGroup, str] = {}
            for place in sorted(updates, key=lambda one: one.kind != "loss"):  # else a gradient is named
                for name in self._names_of(place, wrong[place]) if place.turn == first else ():
                    found_in[self._group_of[name]] = LOSS if place.kind == "loss" else GRADIENT
            group = next(g for g in dict.fromkeys(self._group_of.values()) if g in found_in)
            self._report_group(group, found_in[group], step)
        place = min(wrong, key=lambda one: (one.kind == "input", one.turn))
        channel = self.channels[place.name].members[wrong[place][0]]
        self._report_channel(channel, NOT_FINITE, step, of_input=place.kind == "input")

    def _names_of(self, place: Place, members: Sequence[int]) -> list[str]:
        """The agents whose gradients a place has: of what is returned, those that return it."""
        if place.kind in ("update", "loss"):
            return [self.agents[place.name].members[n].name for n in members]
        return [self.channels[place.name].members[n].receiver for n in members]

    def disable_stopped_replicas(self) -> None:
        """Disable every member of the replicas that have diverged: nothing of them moves at this step either."""
        for replica in self.divergence.stopped.keys() - self._stopped:
            self._stopped.add(replica)
            for agent in self.agents.values():
                members = (agent.replicas.index == replica).cpu()
                agent.disable(members)
                self.statistics.restore_members(agent.learner, members)
            for channel in self.channels.values():
                members = (channel.places.replicas.index == replica).cpu()
                for model in channel.models:
                    self.statistics.restore_members(model, members)
                channel.gradient.disable(members)
                channel.input.disable(members)

    def revive(self, replica: int) -> None:
        """Let a replica that has diverged take part again, once a state is loaded into it."""
        self.divergence.stopped.pop(replica, None)
        self._stopped.discard(replica)

    # --- agents ----------------------------------------------------------------------------------------------

    def check_updates(self, updates: Sequence[Update], step: int) -> list[Update]:
        """Disable the agents that have diverged, and return the updates of which anything is left.

        Raises:
            DivergenceError: One has, and the scenario says stop.
        """
        if self.guard is not None:
            for turn, update in enumerate(updates, self._checked):
                self._guard_update(self.guard, update, turn)
            self._checked += len(updates)
            return list(updates)
        checked = [t for update in updates for t in (*_losses(update), *_own(update), *_deltas(update))]
        if self.divergence.fine(checked):
            return list(updates)
        kept = list(updates)
        for update in updates:
            if self._stacked(update):
                self._disable_members(update, step)
            elif wrong := self._wrong_of(update):
                self._report_group(update.group, wrong, step)
                for name in update.group.members:
                    self.agents[name].disable(torch.ones(1, dtype=torch.bool))
                kept.remove(update)
        return kept

    def _wrong_of(self, update: Update) -> str:
        """What is wrong with an update of lone agents; '': nothing."""
        wrong = self.divergence.members(1, _own(update), _deltas(update))
        if wrong:
            return f"gradient {{at}} {wrong[0]}"
        return LOSS if self.divergence.members(1, [], _losses(update)) else ""

    def _stacked(self, update: Update) -> bool:
        return any(self.agents[name].stacked for name in update.group.members)

    def _guard_update(self, guard: Guard, update: Update, turn: int) -> None:
        for name, gradients in update.gradients.items():
            guard.look(Place("update", name, turn), len(self.agents[name].members), gradients)
        for name, losses in update.window_loss.losses.items():
            guard.look(Place("loss", name, turn), len(self.agents[name].members), [losses.loss])
        for read, gradient in update.returned.items():
            members = len(self.channels[read.channel].members)
            guard.look(Place("returned", read.channel, turn), members, [gradient])

    def decide(self) -> None:
        """Let the guard, where there is one, check all that it has been given at this step: optimisers have it then."""
        self._checked = 0
        if self.guard is not None:
            self.guard.check()

    def close(self, step: int) -> None:
        """End a step: under quarantine running statistics stay finite; they no longer move once the guard has tripped."""
        if self.guard is None:
            if self.divergence.quarantine:
                self.statistics.restore_not_finite()
        else:
            self.guard.close(step)
            self.statistics.keep_where(self.guard)

    def _disable_members(self, update: Update, step: int) -> None:
        """Disable the members of an update that have diverged, each with all that it learns with."""
        wrong = self._groups_diverged(update)
        for group in dict.fromkeys(self._group_of.values()):
            if group in wrong:
                self._report_group(group, wrong[group], step)
        for name in update.group.members:
            agent = self.agents[name]
            bad = torch.tensor([self._group_of[member.name] in wrong for member in agent.members])
            if not bool(bad.any()):
                continue
            agent.disable(bad)
            if agent.stacked:
                enabled = torch.logical_not(bad)
                update.stepping_members[name] = members_and(update.stepping_members[name], enabled)
            if name in update.window_loss.losses:
                update.window_loss.losses[name] = update.window_loss.losses[name].without(bad)
        for read in update.returned:  # what they would return does not count
            channel = self.channels[read.channel]
            disabled = self.agents[channel.receiver].disabled_rows
            if isinstance(disabled, Tensor):
                disabled = channel.of_receiver(disabled)
            channel.ledger.restrict(read, mask_not(disabled))

    def _groups_diverged(self, update: Update) -> dict[LearningGroup, str]:
        """By group of single agents: what is wrong with its gradients or losses. Returned gradients that are not finite are zeroed."""
        wrong: dict[LearningGroup, str] = {}
        lengths: dict[LearningGroup, float] = {}  # of all gradients of a group together
        for name, gradients in update.gradients.items():
            agent, members = self.agents[name], update.stepping_members.get(name)
            flat = [g.reshape(len(agent.members), -1) for g in gradients if g is not None]
            finite = torch.stack([g.isfinite().all(1) for g in flat]).all(0).tolist() if flat else []
            norms = torch.stack([g.norm(dim=1) for g in flat]).norm(dim=0).tolist() if flat else []
            for n, (sound, norm) in enumerate(zip(finite, norms, strict=True)):
                group = self._group_of[agent.members[n].name]
                if members is not None and not bool(members[n]):
                    continue
                if not sound:
                    wrong[group] = GRADIENT
                lengths[group] = math.hypot(lengths.get(group, 0.0), norm)
        for group, length in lengths.items():
            if self.divergence.bound is not None and length > self.divergence.bound:
                wrong.setdefault(group, f"gradient {{at}} {self.divergence.too_long}")
        for read, gradient in update.returned.items():
            if gradient is None or bool(gradient.isfinite().all()):
                continue
            channel = self.channels[read.channel]
            members = update.stepping_members.get(channel.receiver)
            if members is not None:  # a member that nothing reached returns nothing
                rows = self.agents[channel.receiver].replicas.rows_of(members)
                gradient = mask_fill_zero(channel.of_receiver(rows), gradient)
                update.returned[read] = gradient
            for k in self.divergence.members(len(channel.members), [], [gradient]):
                wrong.setdefault(self._group_of[channel.members[k].receiver], GRADIENT)
        for name, losses in update.window_loss.losses.items():
            each = self.agents[name].members
            for n in self.divergence.members(len(each), [], [losses.loss]):
                wrong.setdefault(self._group_of[each[n].name], LOSS)
        return wrong

    def _report_group(self, group: LearningGroup, what: str, step: int) -> None:
        text = (
            f"agent {{agents}}: the {what.format(at=f'at step {step + 1}')}; "
            "lower its learning rate, or the scale of the synthetic gradients it receives"
        )
        self.divergence.report(Report(step, text, group.members))

    # --- synthetic gradients and inputs ----------------------------------------------------------------------

    def check_predictors(self, updates: dict[str, PredictorUpdate], step: int) -> None:
        """Disable the models that have diverged, and drop the updates of which nothing is left.

        Raises:
            DivergenceError: One has, and the scenario says stop.
        """
        for name, diverged in self._diverged(updates).items():
            channel, of_input = self.channels[name], updates[name].of_input
            models = channel.input if of_input else channel.gradient
            new = [k for k in diverged if models.disabled is None or not models.disabled[k]]
            for k in new:
                self._report_channel(channel.members[k], diverged[k], step, of_input=of_input)
            models.disable(torch.tensor([k in new for k in range(len(channel.members))]))
            if models.all_disabled:
                del updates[name]

    def _diverged(self, updates: Mapping[str, PredictorUpdate]) -> dict[str, dict[int, str]]:
        """What is wrong with the numbers of some members, by name and place; one reduction where nothing is.

        All are left to the guard where there is one.
        """
        if self.guard is not None:
            for turn, (name, update) in enumerate(updates.items()):
                kind = "input" if update.of_input else "predictor"
                self.guard.look(
                    Place(kind, name, turn), update.loss.numel(), [*update.gradients, update.loss]
                )
            return {}
        if self.divergence.fine([t for update in updates.values() for t in (update.loss, *update.gradients)]):
            return {}
        found = {
            name: self.divergence.members(update.loss.numel(), update.gradients, [update.loss])
            for name, update in updates.items()
        }
        return {name: diverged for name, diverged in found.items() if diverged}

    def _report_channel(self, channel: Channel, what: str, step: int, *, of_input: bool) -> None:
        kind, end = ("input", channel.receiver) if of_input else ("gradient", channel.sender)
        fix = (
            "the learning rate of the synthetic input"
            if of_input
            else "its learning rate, or the rate of its synthetic gradients"
        )
        text = (
            f"agent {{agents}}: the loss of the synthetic {kind} of its channel {{channel}} at step {step + 1} {what}; "
            f"lower {fix}"
        )
        self.divergence.report(Report(step, text, (end,), channel.name))


def _own(update: Update) -> list[Tensor]:
    return [g for gradients in update.gradients.values() for g in gradients if g is not None]


def _deltas(update: Update) -> list[Tensor]:
    return [gradient for gradient in update.returned.values() if gradient is not None]


def _losses(update: Update) -> list[Tensor]:
    return [losses.loss for losses in update.window_loss.losses.values()]
