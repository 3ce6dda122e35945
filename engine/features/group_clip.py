"""Clipping of learning groups: agents that learn as one network are clipped to the joint norm of their gradients (semantics 7a)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from antiphon.base.mask import ALL, Mask, Members
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.feature import Feature
from antiphon.engine.heart.layout import name_in_seed
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import LearningGroup
from antiphon.nets.clipping import clipped, clipped_each, norm_of, norms_of_each

Gradients = Sequence[Tensor | None]
Moving = Mapping[str, tuple[Gradients, Mask[Members]]]
"""By agent or stack, the gradients and the members that move."""


def clipped_groups(base: System) -> list[list[str]]:
    """Return the owners of each learning group of which more than one has a `clip`; `base`: single agents."""
    clipping = (
        [name for name in group.agent_count_by_learner if _clips(base.agents[name])] for group in base.groups
    )
    return [names for names in clipping if len(names) > 1]


def _clips(agent: Agent) -> bool:
    return agent.learner.optimiser.clip is not None and bool(agent.learner.trainable)


def _group_numbers(engine: Engine) -> dict[str, list[int]]:
    """Return by stack the clipped group of each member; -1: it learns alone."""
    system = engine.system
    groups = [
        [name_in_seed(name, seed, system.seed_count) for name in names]
        for seed, base in enumerate(engine.single_systems)
        for names in clipped_groups(base)
    ]
    number_by_agent = {name: number for number, names in enumerate(groups) for name in names}
    return {
        stack.name: [number_by_agent.get(name, -1) for name in stack.member_names]
        for stack in system.agents.values()
        if any(name in number_by_agent for name in stack.member_names)
    }


class GroupClip(Feature):
    """Clips the gradients of a system's learning groups; the optimisers of their members do not clip again."""

    def __init__(self, engine: Engine) -> None:
        self.system = system = engine.system
        self._numbers = _group_numbers(engine)
        for name in self._numbers:
            optimiser = system.agents[name].learner.optimiser
            for member_optimiser in (optimiser, *getattr(optimiser, "members", ())):
                member_optimiser.clips = False
        self._ties = [
            [(name, list(system.agents[name].learner.parameters).index(key)) for name, key in tie]
            for tie in system.tied_parameters
            if tie[0][0] in system.agents
        ]
        self._joint_norms: dict[LearningGroup, _JointNorms] = {}

    def clipped_gradients(self, group: LearningGroup, moving: Moving) -> dict[str, Gradients]:
        if group not in self._joint_norms:
            names = [name for name in group.agent_count_by_learner if name in self._numbers]
            self._joint_norms[group] = _JointNorms(self.system, {name: self._numbers[name] for name in names})
        joint_norms = self._joint_norms[group]
        if not joint_norms.numbers:
            return {}
        moving_ties = [[(name, index) for name, index in tie if name in moving] for tie in self._ties]
        repeated = {parameter for tie in moving_ties for parameter in tie[1:]}  # one weight counts once
        nothing: tuple[Gradients, Mask[Members]] = ((), ALL)
        norms = [self._norms(name, *moving.get(name, nothing), repeated) for name in joint_norms.numbers]
        clipped_by_agent: dict[str, Gradients] = {}
        for name, norm in zip(joint_norms.numbers, joint_norms.of(norms), strict=True):
            if name not in moving:
                continue
            agent, gradients = self.system.agents[name], moving[name][0]
            limit = agent.learner.optimiser.clip
            assert limit is not None
            present = [g for g in gradients if g is not None]
            clipped_gradients = iter(
                clipped_each(present, limit, norm)
                if agent.has_member_axis
                else clipped(present, limit, norm[0])
            )
            clipped_by_agent[name] = [None if g is None else next(clipped_gradients) for g in gradients]
        return clipped_by_agent

    def _norms(
        self, name: str, gradients: Gradients, members: Mask[Members], repeated: set[tuple[str, int]]
    ) -> Tensor:
        """[N]: the norm of the gradients of each member that moves, of the others 0; without those of `repeated` parameters."""
        agent = self.system.agents[name]
        present = [g for i, g in enumerate(gradients) if g is not None and (name, i) not in repeated]
        if not present:
            return torch.zeros(len(agent.members), dtype=self.system.dtype, device=self.system.device)
        if not agent.has_member_axis:
            return norm_of(present).view(1)
        norms = norms_of_each(present)
        return members.map(lambda values: values.to(norms.device)).zero_elsewhere(norms)


class _JointNorms:
    """The members of the stacks of one group, and which of them are clipped together (`_group_numbers`)."""

    def __init__(self, system: System, numbers: Mapping[str, Sequence[int]]) -> None:
        self.numbers, self._device = numbers, system.device
        self._flat = [number for of_stack in numbers.values() for number in of_stack]

    @cached_property
    def _table(self) -> tuple[list[Tensor], Tensor]:
        """The indices of the groups' first members, of their second, …; and of each member its group's, or behind them its own."""
        groups = {
            number: [i for i, number_of_member in enumerate(self._flat) if number_of_member == number]
            for number in self._flat
        }
        groups.pop(-1, None)
        zero_index, group_index = len(self._flat), {number: row for row, number in enumerate(groups)}
        longest = max(map(len, groups.values()))
        columns = [
            torch.tensor(
                [indices[i] if i < len(indices) else zero_index for indices in groups.values()],
                device=self._device,
            )
            for i in range(longest)
        ]
        result_index = [group_index.get(number, len(groups) + i) for i, number in enumerate(self._flat)]
        return columns, torch.tensor(result_index, device=self._device)

    def of(self, norms: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return for each stack's norms, [N], those of the groups that its members are in; they add up in one order."""
        norm_of_members, (columns, result_index) = torch.cat([*norms]), self._table
        squares = torch.cat([norm_of_members.square(), norm_of_members.new_zeros(1)])
        sums = squares[columns[0]]
        for column in columns[1:]:
            sums = sums + squares[column]
        joint = torch.cat([sums.sqrt(), norm_of_members])[result_index]
        return torch.split(joint, [len(of_stack) for of_stack in norms])
