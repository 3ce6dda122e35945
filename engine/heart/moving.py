"""Moving: what a step, or a minibatch of a further pass, has learned is checked, and only then moves parameters (rules 7, 7a, 27, 32).

The norms of gradients are computed once: they tell whether all is finite, and by how much agents are clipped.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from itertools import compress, product
from typing import NamedTuple

import torch
from torch import Tensor

from antiphon.base.errors import DivergenceError
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.layout import name_in_seed
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import ByChannel, Update
from antiphon.nets.mask import ALL, Mask, Members
from antiphon.nets.native.mlp import LazyGradient
from antiphon.nets.optimisers import Skip, clipped, norms_of
from antiphon.nets.trained_parameters import TrainedParameters, take_optimiser_steps

_COPIED = 1 << 16
"""Up to so many numbers, all tensors are copied into one for a norm: 0.6 of the time, of two networks of 64 units."""

Stack = Agent | Channel
Move = tuple[TrainedParameters, Sequence[Tensor | None], Mask[Members]]
Norms = dict[tuple[Update, str], Tensor]
"""The norms of the P gradients that there are of learners that clip, [P], of a stack [P, N], by update and learner."""


class Checked(NamedTuple):
    """What of a stack is checked: `loss` or `gradient` of agents, `gradient` that they return over a channel, or its `synthetic` ones."""

    what: str
    stack: Stack
    tensors: Sequence[Tensor | None]
    norms: Tensor | None = None
    """Those of the tensors, where they are known."""


# --- what a step that diverges leaves (rule 32) ------------------------------------------------------------


class RunningStatistics:
    """The running statistics of learners and predictors before a step, whose tensors a step replaces, not changes."""

    def __init__(self, system: System) -> None:
        self._with_statistics = [trained for trained in system.trained_parameters if trained.buffers]
        self.keep()

    def keep(self) -> None:
        self._before = {trained: dict(trained.buffers) for trained in self._with_statistics}

    def restore(self) -> None:
        for trained in self._with_statistics:
            trained.put_statistics(self._before[trained])

    def restore_members(self, trained: TrainedParameters, members: Tensor) -> None:
        """Put those of some members of a stack, [N] bool, back."""
        if trained.members and trained in self._before:
            trained.restore_buffers(members, self._before[trained])

    def restore_unless(self, sound: Tensor) -> None:
        """Put those that the step has replaced back where it was not `sound`, a bool on the device."""
        for trained in self._with_statistics:
            for name, before in self._before[trained].items():
                if (now := trained.buffers[name]) is not before:
                    trained.put_statistics({name: torch.where(sound, now, before)})


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
        statistics.restore_unless(self._sound)

    def first_step(self) -> int | None:
        """Wait for the device, and return the first step at which something was not finite; None: all was."""
        if self._first is None or not float(self.skip.flag):
            return None
        return self._first + int(self._steps)


# --- what moves --------------------------------------------------------------------------------------------


class Moving:
    """Ties, checks, clips and applies the gradients of a system.

    Attributes:
        guard: Keeps on the device what is not finite; None: every step is checked at once.
        statistics: The running statistics of before the step.
    """

    def __init__(self, system: System, single_systems: Sequence[System]) -> None:
        self.system, self.agents = system, system.agents
        self.guard: Guard | None = None
        self.statistics = RunningStatistics(system)
        self._norms: Norms = {}
        self._ties = [
            [(name, list(self.agents[name].learner.parameters).index(key)) for name, key in tie]
            for tie in system.tied_parameters
            if tie[0][0] in self.agents  # a tie is never cut: else all of its agents are in another part
        ]
        self._group_numbers = numbers = _group_numbers(system, single_systems)
        clips = {name for name, agent in self.agents.items() if agent.learner.optimiser.clip is not None}
        self._joint_norms = {
            group: _JointNorms(
                {name: numbers[name] for name in group.agent_count_by_learner if name in clips}, system.device
            )
            for group in system.groups
        }
        self._sending_groups = {
            name: numbers[channel.sender]
            if (index := channel.endpoints.sender_index) is None
            else [numbers[channel.sender][n] for n in index.tolist()]
            for name, channel in system.channels.items()
            if channel.sender in self.agents
        }
        """By channel: the learning groups of its members' senders."""
        for agent in self.agents.values():  # they are clipped here, with the gradients of others
            agent.learner.clips = False
        agents, channels = list[Stack](self.agents.values()), list[Stack](system.channels.values())
        self._owners = [
            *product(("loss", "gradient"), agents),
            *product(("gradient", "synthetic gradient", "synthetic input"), channels),
        ]
        """What is checked of each stack, in the order in which it is reported."""

    def check_later(self) -> None:
        """Leave what is found on the device until `synchronize`; not of several seeds, of which one may stop."""
        if self.system.seed_count == 1:
            count = sum(len(stack.members) for _, stack in self._owners)
            self.guard = Guard(count, self.system.device)
            for owner in self.system.trained_parameters:
                owner.optimiser.skip = self.guard.skip

    # --- gradients -------------------------------------------------------------------------------------------

    def settle(self, turn: Sequence[Update], step: int) -> None:
        """Say what moves of a turn, or of a minibatch, put the sum over tied parameters in place of each, and check it.

        Raises:
            DivergenceError: A number is not finite, and there is one seed; of several, that seed moves no more.
        """
        for update in turn:
            self._let_reached_move(update)
        if self._ties:
            self._tie(turn)
        checked: list[Checked] = []
        for update in turn:
            for name, reported in update.window_loss.reported_loss_by_agent.items():
                checked.append(Checked("loss", self.agents[name], [reported.loss]))
            for name, gradients in update.gradients_by_learner.items():
                agent = self.agents[name]
                norms = None
                if agent.learner.optimiser.clip is not None and (
                    present := [g for g in gradients if g is not None]
                ):
                    norms = norms_of(present, by_member=agent.layout.has_member_axis)
                    self._norms[update, name] = norms
                checked.append(Checked("gradient", agent, gradients, norms))
            for read, gradient in update.gradient_by_read.items():
                channel = self.system.channels[read.channel_name]
                checked.append(Checked("gradient", channel, [gradient]))
        self._check(checked, step)

    def _let_reached_move(self, update: Update) -> None:
        """Let those members move that learn from a window, of groups with a target or an injection in it (rule 7)."""
        reached = set[int]()
        for name, reported in update.window_loss.reported_loss_by_agent.items():
            count, groups = reported.target_count, self._group_numbers[name]
            if isinstance(count, Tensor) and len(groups) > 1:
                groups = list(compress(groups, count.gt(0).tolist()))
            reached.update(groups)
        for name in update.agents_with_auxiliary_loss:
            reached.update(self._group_numbers[name])
        for (name, _), rows in update.injected_rows.items():
            groups = self._sending_groups[name]
            if not reached.issuperset(groups):
                members = self.system.channels[name].layout.members_in(rows)
                reached.update(compress(groups, members.tensor(len(groups), "cpu").tolist()))
        for name in update.group.agent_count_by_learner:
            groups, layout = self._group_numbers[name], self.agents[name].layout
            moving = (
                ALL if reached.issuperset(groups) else Mask.of(torch.tensor([n in reached for n in groups]))
            )
            learning = layout.members_in(update.window.learning_rows_by_agent[name])
            update.moving_members_by_learner[name] = moving & learning

    def _tie(self, turn: Sequence[Update]) -> None:
        """Put the sum of the gradients that reach any of a tie's parameters in place of each (rule 27c)."""
        of_agents: dict[str, tuple[Update, list[Tensor | None]]] = {
            name: (update, [*gradients] if update.moving(name).anywhere else [None] * len(gradients))
            for update in turn
            for name, gradients in update.gradients_by_learner.items()
        }
        for tie in self._ties:
            present = [(name, index) for name, index in tie if name in of_agents]
            summands = [g for name, index in present if (g := of_agents[name][1][index]) is not None]
            if not summands:
                continue
            total = reduce(torch.add, summands)
            for name, index in present:  # each has its own tensor: an optimiser may change what it is given
                update, gradients = of_agents[name]
                gradients[index] = total.clone()
                update.moving_members_by_learner[name] = ALL
        for name, (update, gradients) in of_agents.items():
            update.gradients_by_learner[name] = gradients

    # --- whether all is finite -------------------------------------------------------------------------------

    def check_predictors(self, updates: ByChannel, step: int) -> None:
        """Check what predictors have learned, as in `settle`; the last check before parameters move."""
        self._check(
            [
                Checked(
                    "synthetic input" if learned.for_input else "synthetic gradient",
                    self.system.channels[name],
                    [learned.loss, *learned.gradients],
                )
                for name, learned in updates
            ],
            step,
        )

    def _check(self, checked: Sequence[Checked], step: int) -> None:
        if self.guard is not None:
            self.guard.note(self._magnitudes(checked))
        elif not _all_finite(checked):
            self._report(self._magnitudes(checked), step)

    def _magnitudes(self, checked: Sequence[Checked]) -> Tensor:
        """The largest magnitude of what is checked of each member, in the order of `_owners`: no finite number makes it overflow."""
        found, zeros = defaultdict[tuple[str, Stack], list[Tensor]](list), self.system.zeros
        for what, stack, tensors, _ in checked:
            found[what, stack] += [
                torch.linalg.vector_norm(t.reshape(len(stack.members), -1), math.inf, dim=1)
                for t in tensors
                if t is not None and t.numel()
            ]
        return torch.cat(
            [
                torch.stack(own).amax(0) if (own := found.get((what, stack))) else zeros(len(stack.members))
                for what, stack in self._owners
            ]
        )

    def _report(self, magnitudes: Tensor, step: int) -> None:
        """Raise the first divergence; of several seeds, stop those that have one."""
        members = [(what, stack, n) for what, stack in self._owners for n in range(len(stack.members))]
        for (what, stack, n), magnitude in zip(members, magnitudes.tolist(), strict=True):
            if math.isfinite(magnitude):
                continue
            member = stack.members[n]
            whose = "its learning rate"
            if isinstance(member, Channel):
                model = member.synthetic_gradient.model
                if what == "synthetic gradient" and model is not None and model.closed_form:
                    whose = f"the learning rates of '{member.sender}' and '{member.receiver}'"
                who = f"agent '{member.receiver}'" if what == "gradient" else f"channel {member.name}"
            else:
                who = f"agent '{member.name}'"
            fix = f"lower {whose}" if step else "look for nan in its inputs and initial weights"
            line = f"{who}: the {what} at step {step + 1} is not finite; {fix}"
            if self.system.seed_count == 1:
                raise DivergenceError(line)
            self.system.stopped_seeds.setdefault(stack.layout.seed_of(n), line)

    def synchronize(self) -> None:
        """Wait for the device, where it keeps what is not finite.

        Raises:
            DivergenceError: Something was not; from that step on nothing has moved.
        """
        if self.guard is not None and (step := self.guard.first_step()) is not None:
            self._report(self.guard.magnitudes, step)

    def unstopped(self, stack: Stack) -> Mask[Members]:
        """Return the members of a stack that may move: those of seeds that have not diverged so far."""
        if not self.system.stopped_seeds:
            return ALL
        seeds = [stack.layout.seed_of(n) for n in range(len(stack.members))]
        return Mask.of(torch.tensor([seed not in self.system.stopped_seeds for seed in seeds]))

    def end_step(self, step: int) -> None:
        """End a step: running statistics that it has replaced are put back where something was not finite."""
        if self.guard is not None:
            self.guard.end_step(step, self.statistics)
        stacks: list[Stack] = [*self.agents.values(), *self.system.channels.values()]
        for stack in stacks if self.system.stopped_seeds else ():
            stopped = (~self.unstopped(stack)).tensor(len(stack.members), "cpu")
            for trained in [stack.learner] if isinstance(stack, Agent) else stack.models:
                self.statistics.restore_members(trained, stopped)

    # --- the update ------------------------------------------------------------------------------------------

    def move(
        self, turns: Sequence[Sequence[Update]], predictors: ByChannel, step: int, *, further: bool = False
    ) -> None:
        """Move agents, turn by turn, then predictors, by what has been checked; `further`: of a further pass (rule 42)."""
        for turn in turns:
            moves = [move for update in turn for move in self._moves(update, further=further)]
            take_optimiser_steps(moves, step, further=further)
        self._norms.clear()
        moves = []
        for name, learned in predictors:
            channel = self.system.channels[name]
            model = channel.synthetic_input.model if learned.for_input else channel.synthetic_gradient.model
            assert model is not None
            learned.moving_members &= self.unstopped(channel)
            if learned.moving_members.anywhere:
                moves.append((model, learned.gradients, learned.moving_members))
            learned.gradients = []  # they are as large as the models, and nothing reads them any more
        if moves:
            take_optimiser_steps(moves, step)

    def _moves(self, update: Update, *, further: bool) -> list[Move]:
        """The learners that an update moves, with their clipped gradients and the members that move."""
        moving: dict[str, Mask[Members]] = {}
        for name, gradients in update.gradients_by_learner.items():
            agent = self.agents[name]
            if agent.learner.trainable and agent.learner.moves_by(gradients, further=further):
                members = update.moving(name) & self.unstopped(agent)
                update.moving_members_by_learner[name] = members
                if members.anywhere:
                    moving[name] = members
        repeated = {at for tie in self._ties for at in [at for at in tie if at[0] in moving][1:]}
        joint_norms = self._joint_norms[update.group]
        joint = joint_norms.of([self._norm(update, name, moving, repeated) for name in joint_norms.names])
        moves: list[Move] = []
        for name, members in moving.items():
            agent, gradients = self.agents[name], update.gradients_by_learner[name]
            if name in joint:
                limit, norm, by_member = (
                    agent.learner.optimiser.clip,
                    joint[name],
                    agent.layout.has_member_axis,
                )
                assert limit is not None
                gradients = clipped(gradients, limit, norm if by_member else norm[0], by_member=by_member)
            moves.append((agent.learner, gradients, members if agent.layout.has_member_axis else ALL))
        return moves

    def _norm(
        self,
        update: Update,
        name: str,
        moving: Mapping[str, Mask[Members]],
        repeated: Collection[tuple[str, int]],
    ) -> Tensor:
        """[N]: the norm of a learner's gradients, of members that do not move 0; without those of `repeated` parameters."""
        agent = self.agents[name]
        if name not in moving or (update, name) not in self._norms:
            return self.system.zeros(len(agent.members))
        norms, gradients = self._norms[update, name], update.gradients_by_learner[name]
        if any(repeated_name == name for repeated_name, _ in repeated):
            places = [index for index, g in enumerate(gradients) if g is not None]
            norms = norms[[row for row, index in enumerate(places) if (name, index) not in repeated]]
        joint: Tensor = norms.norm(dim=0)
        if not agent.layout.has_member_axis:
            return joint.view(1)
        return moving[name].map(lambda values: values.to(joint.device)).zero_elsewhere(joint)


class _JointNorms:
    """The learning groups within a group of stacks, of members that clip.

    Args:
        numbers: The learning group of each member, by stack.
    """

    def __init__(self, numbers: Mapping[str, Sequence[int]], device: torch.device) -> None:
        self.names, self._sizes = list(numbers), [len(of_stack) for of_stack in numbers.values()]
        flat = [number for of_stack in numbers.values() for number in of_stack]
        members = {group: [i for i, number in enumerate(flat) if number == group] for group in flat}
        longest = max(map(len, members.values()), default=1)
        self._table: tuple[Tensor, Tensor] | None = None
        """The members of each group, [longest, groups], the shorter ones with a zero behind all; and the group of each member."""
        if longest > 1:
            padded = [indices + [len(flat)] * (longest - len(indices)) for indices in members.values()]
            place = {group: row for row, group in enumerate(members)}
            columns = torch.tensor(padded, device=device).t().contiguous()
            self._table = columns, torch.tensor([place[group] for group in flat], device=device)

    def of(self, norms: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return for each stack's norms, [N], those of the groups that its members are in; they add up in one order."""
        if self._table is not None:
            columns, group_of_member = self._table
            squares = torch.cat([*norms]).square()
            sums = torch.cat([squares, squares.new_zeros(1)])[columns].sum(0)
            norms = torch.split(sums.sqrt()[group_of_member], self._sizes)
        return dict(zip(self.names, norms, strict=True))


def _group_numbers(system: System, single_systems: Sequence[System]) -> dict[str, list[int]]:
    groups = [
        [name_in_seed(name, seed, system.seed_count) for name in group.agent_names]
        for seed, single_system in enumerate(single_systems)
        for group in single_system.groups
    ]
    number_by_agent = {name: number for number, names in enumerate(groups) for name in names}
    return {
        agent.name: [number_by_agent[name] for name in agent.member_names] for agent in system.agents.values()
    }


def _all_finite(checked: Sequence[Checked]) -> bool:
    """Return whether one sum over norms shows that all numbers are finite."""
    norms = [own.norms.flatten() for own in checked if own.norms is not None]
    others = [
        t
        for own in checked
        if own.norms is None
        for t in own.tensors
        if t is not None and not (type(t) is LazyGradient and t.of.finite)
    ]
    if others and sum(map(Tensor.numel, others)) <= _COPIED:
        copied = torch._C._nn.flatten_dense_tensors(others)  # one call for all tensors
        norms.append(torch.linalg.vector_norm(copied).view(1))
    elif others:
        norms.append(torch.stack(torch._foreach_norm(others)))
    return not norms or math.isfinite((norms[0] if len(norms) == 1 else torch.cat(norms)).sum().item())
