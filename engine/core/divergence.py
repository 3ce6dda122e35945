"""Divergence: what is not finite, or too long, never reaches a parameter (semantics 32).

`Divergence` is what a scenario says about it, `DivergenceCheck` what a step does: gradients are checked before any is
applied, and what has diverged is reported, or disabled (quarantine).

On a GPU every look at a number stops the stream of work. There the guard leaves the numbers on the device: a step that
diverged is skipped by the optimisers themselves, and so is every step after it; the next synchronisation reports which
agents diverged, and when.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from antiphon.agents.learner import StackedLearner
from antiphon.comms.stacked import StackedModels
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.masks import mask_fill_zero, mask_not
from antiphon.engine.core.records import LearningGroup, members_and
from antiphon.engine.core.updates import InputUpdate, PredictorUpdate, Update
from antiphon.errors import DivergenceError
from antiphon.nets.step_numbers import stamp_number

__all__ = ["Divergence", "DivergenceCheck", "Guard", "Report", "RunningStatistics"]

NOT_FINITE = "is not finite"


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
        quarantine: Whether the others go on; else a divergence is an error.
        bound: The largest norm that is none; None: any finite.
        stopped: Replicas that a divergence has stopped while others go on, with what it was (`ReplicaDivergence`).
        events: What was shortened (the first time) or put into quarantine: (step, one line).
    """

    quarantine: bool = False
    bound: float | None = None
    events: list[tuple[int, str]] = field(default_factory=list)
    stopped: dict[int, str] = field(default_factory=dict)

    def fine(self, numbers: list[Tensor]) -> bool:
        """Whether one look at all of them shows that nothing is wrong; where there is a bound it never does."""
        if not numbers:
            return True
        return self.bound is None and math.isfinite(torch.stack(torch._foreach_norm(numbers)).sum().item())

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
        return f"is longer than training.bound {self.bound:g}"

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


class Guard:
    """Remembers on the device the first step at which something was not finite.

    Args:
        device: Where.

    Attributes:
        tripped: [] float32: 1 from that step on; what optimisers are told to skip by.
        step: [] int64: that step; -1: none.
        names: By stack, [N] bool: whose numbers they were.
    """

    def __init__(self, device: torch.device) -> None:
        self.tripped = torch.zeros((), device=device)
        self.step = torch.full((), -1, dtype=torch.int64, device=device)
        self.names: dict[str, Tensor] = {}

    def look(self, name: str, count: int, numbers: Sequence[Tensor | None], step: int) -> None:
        """Look at the numbers of a stack's members, on the device.

        Args:
            name: Of the stack.
            count: N.
            numbers: [N, …], or rows, each.
            step: The step.
        """
        found = [t.reshape(count, -1).isfinite().all(1) for t in numbers if t is not None]
        if not found:
            return
        broken = torch.logical_not(torch.stack(found).all(0))
        first = self.tripped == 0
        known = self.names.get(name)
        mine = broken & (first | (self.step == stamp_number(step)))
        self.names[name] = mine if known is None else known | mine
        self.step = torch.where(first & broken.any(), stamp_number(step), self.step)
        self.tripped = torch.maximum(self.tripped, broken.any().to(self.tripped.dtype))

    def frozen(self, before: Tensor, after: Tensor) -> Tensor:
        """Return `after`, or `before` once something was not finite."""
        return torch.where(self.tripped > 0, before, after)

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers, without a copy of a tensor."""
        return {"tripped": self.tripped, "step": self.step, "names": dict(self.names)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what another has remembered; the tensors are used as they are."""
        self.tripped, self.step, self.names = state["tripped"], state["step"], dict(state["names"])

    def read(self) -> tuple[int, dict[str, list[int]]] | None:
        """Wait for the device; return the step and the members, by stack; None: all is well."""
        if not float(self.tripped):
            return None
        return int(self.step), {
            name: members
            for name, mask in self.names.items()
            if (members := mask.nonzero().flatten().tolist())
        }


AnyUpdate = TypeVar("AnyUpdate", PredictorUpdate, InputUpdate)


class RunningStatistics:
    """The running statistics of learners and predictors; these are values, which a step replaces.

    Args:
        agents: All.
        channels: All.
    """

    def __init__(self, agents: Mapping[str, Agent], channels: Mapping[str, Channel]) -> None:
        learners = [agent.learner for agent in agents.values()]
        models = [m for c in channels.values() for m in (c.predictor, c.input) if m is not None]
        self._owners = {id(owner): owner for owner in (*learners, *models) if owner.buffers}
        self.note()

    def note(self) -> None:
        """Keep what they are before a step."""
        self._before = {key: dict(owner.buffers) for key, owner in self._owners.items()}

    def restore(self) -> None:
        """Put all back to what they were before the step."""
        for key, owner in self._owners.items():
            owner.buffers = self._before[key]

    def restore_members(self, owner: object, members: Tensor) -> None:
        """Put those of members of a stack, [N] bool, back."""
        if isinstance(owner, StackedLearner | StackedModels) and id(owner) in self._before:
            owner.restore_buffers(members, self._before[id(owner)])

    def keep_where(self, guard: Guard) -> None:
        """Put those of stacked learners back once the guard has found something that is not finite."""
        for key, owner in self._owners.items():
            if isinstance(owner, StackedLearner):
                before = self._before[key]
                owner.buffers = {name: guard.frozen(before[name], b) for name, b in owner.buffers.items()}


class DivergenceCheck:
    """Checks the gradients of a step before they are used, and disables, or reports, what has diverged.

    Args:
        divergence: What follows.
        agents: All, by name.
        channels: All, by name.
        groups: The learning groups of single agents, which are disabled as wholes.

    Attributes:
        guard: Where stacks are checked on the device, and read by the host at `synchronize` only; None: at every step.
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
        self._stopped: set[int] = set()
        """Replicas that have been disabled."""

    @property
    def skip(self) -> Tensor | None:
        """[] float, on the device: not 0 once optimisers are to skip their steps; None: the host has checked."""
        return None if self.guard is None else self.guard.tripped

    def synchronize(self) -> None:
        """Wait for the device, and raise if anything was not finite since.

        Raises:
            DivergenceError: It names the agent or channel, and the step; from there on nothing has moved.
        """
        found = None if self.guard is None else self.guard.read()
        if found is None:
            return
        step, diverged = found
        for name, members in diverged.items():
            if name in self.agents:
                member = self.agents[name].members[members[0]]
                self._report_group(self._group_of[member.name], NOT_FINITE, step)
            if name in self.channels:
                self._report_channel(
                    self.channels[name].members[members[0]], NOT_FINITE, step, of_input=False
                )

    def disable_stopped_replicas(self) -> None:
        """Disable every member of the replicas that have diverged: nothing of them moves at this step either."""
        for replica in self.divergence.stopped.keys() - self._stopped:
            self._stopped.add(replica)
            for agent in self.agents.values():
                members = (agent.replicas.index == replica).cpu()
                agent.disable(members)
                self.statistics.restore_members(agent.learner, members)
            for channel in self.channels.values():
                members = (channel.replicas.index == replica).cpu()
                for model in (channel.predictor, channel.input):
                    self.statistics.restore_members(model, members)
                places = members.nonzero().flatten().tolist()
                channel.disable_predictors(places)
                channel.disable_input_models(places)

    # --- agents ----------------------------------------------------------------------------------------------

    def check_updates(self, updates: Sequence[Update], step: int) -> list[Update]:
        """Disable the agents that have diverged, and return the updates of which anything is left.

        Raises:
            DivergenceError: One has, and the scenario says stop.
        """
        checked = list(updates)
        if self.guard is not None:
            for update in updates:
                if self._stacked(update):
                    self._guard_update(self.guard, update, step)
            checked = [update for update in updates if not self._stacked(update)]
        if self.divergence.fine([g for update in checked for g in (*_own(update), *_deltas(update))]):
            return list(updates)
        kept = list(updates)
        for update in checked:
            if self._stacked(update):
                self._disable_members(update, step)
            elif wrong := self.divergence.members(1, _own(update), _deltas(update)):
                self._report_group(update.group, wrong[0], step)
                for name in update.group.members:
                    self.agents[name].agent_disabled = True
                kept.remove(update)
        return kept

    def _stacked(self, update: Update) -> bool:
        return any(self.agents[name].stacked for name in update.group.members)

    def _guard_update(self, guard: Guard, update: Update, step: int) -> None:
        for name, gradients in update.gradients.items():
            guard.look(name, len(self.agents[name].members), gradients, step)
        for one in update.returned:
            guard.look(one.channel.name, len(one.channel.members), [one.delta], step)

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
        for one in update.returned:  # what they would return does not count
            disabled = self.agents[one.channel.receiver].agent_disabled
            if isinstance(disabled, Tensor):
                disabled = one.channel.of_receiver(disabled)
            one.channel.ledger.restrict(one.use, mask_not(disabled))

    def _groups_diverged(self, update: Update) -> dict[LearningGroup, str]:
        """By group of single agents: what is wrong with its gradients. Rows of deltas of nobody are zeroed."""
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
                    wrong[group] = NOT_FINITE
                lengths[group] = math.hypot(lengths.get(group, 0.0), norm)
        for group, length in lengths.items():
            if self.divergence.bound is not None and length > self.divergence.bound:
                wrong.setdefault(group, self.divergence.too_long)
        for one in update.returned:
            if one.delta is None or bool(one.delta.isfinite().all()):
                continue
            members = update.stepping_members.get(one.channel.receiver)
            if members is not None:  # a member that nothing reached returns nothing
                rows = self.agents[one.channel.receiver].rows_of(members)
                one.delta = mask_fill_zero(one.channel.of_receiver(rows), one.delta)
            for k in self.divergence.members(len(one.channel.members), [], [one.delta]):
                wrong.setdefault(self._group_of[one.channel.members[k].receiver], NOT_FINITE)
        return wrong

    def _report_group(self, group: LearningGroup, what: str, step: int) -> None:
        text = (
            f"agent {{agents}}: the gradient at step {step} {what}; "
            "lower its learning rate, or the scale of the synthetic gradients it receives"
        )
        self.divergence.report(Report(step, text, group.members))

    # --- synthetic gradients and inputs ----------------------------------------------------------------------

    def check_predictors(self, updates: dict[str, AnyUpdate], step: int) -> None:
        """Disable the models that have diverged, and drop the updates of which nothing is left.

        Raises:
            DivergenceError: One has, and the scenario says stop.
        """
        for name, diverged in self._diverged(updates, step).items():
            channel, of_input = self.channels[name], isinstance(updates[name], InputUpdate)
            disabled = channel.input_models_disabled if of_input else channel.predictors_disabled
            new = [k for k in diverged if disabled is None or not disabled[k]]
            for k in new:
                self._report_channel(channel.members[k], diverged[k], step, of_input=of_input)
            (channel.disable_input_models if of_input else channel.disable_predictors)(new)
            if channel.input_model_disabled if of_input else channel.predictor_disabled:
                del updates[name]

    def _diverged(
        self, updates: Mapping[str, PredictorUpdate | InputUpdate], step: int
    ) -> dict[str, dict[int, str]]:
        """What is wrong with the numbers of some members, by name and place; one reduction where nothing is.

        Those of stacks are left to the guard where there is one.
        """
        checked = dict(updates)
        if self.guard is not None:
            for name, update in updates.items():
                if update.loss.dim():
                    self.guard.look(name, len(update.loss), [*update.gradients, update.loss], step)
                    del checked[name]
        if self.divergence.fine([t for update in checked.values() for t in (update.loss, *update.gradients)]):
            return {}
        found = {
            name: self.divergence.members(update.loss.numel(), update.gradients, [update.loss])
            for name, update in checked.items()
        }
        return {name: diverged for name, diverged in found.items() if diverged}

    def _report_channel(self, channel: Channel, what: str, step: int, *, of_input: bool) -> None:
        kind, end = ("input", channel.receiver) if of_input else ("gradient", channel.sender)
        fix = (
            "the learning rate of the synthetic input"
            if of_input
            else "its learning rate, or that of its synthetic gradients"
        )
        text = (
            f"agent {{agents}}: the loss of the synthetic {kind} of its channel {{channel}} at step {step} {what}; "
            f"lower {fix}"
        )
        self.divergence.report(Report(step, text, (end,), channel.name))


def _own(update: Update) -> list[Tensor]:
    return [g for gradients in update.gradients.values() for g in gradients if g is not None]


def _deltas(update: Update) -> list[Tensor]:
    return [one.delta for one in update.returned if one.delta is not None]
