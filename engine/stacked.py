"""A system of stacks, and the single agents that it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from torch import Tensor

from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import LearningGroup

AgentOrChannel = TypeVar("AgentOrChannel", Agent, Channel)


@dataclass(frozen=True)
class Stacked:
    """A system of stacks, and the single agents of one seed that it is made of.

    Attributes:
        single_system: The single agents and channels; their parameters are views of the stacked ones.
        seed: The seed of the single agents, among several.
    """

    single_system: System
    system: System
    seed: int = 0

    def singles(self, stack: AgentOrChannel) -> Iterator[tuple[int, AgentOrChannel]]:
        """Yield the single agents or channels of a stack, each with its place there."""
        first = self.places_of(stack).start
        return ((n, single) for n, single in enumerate(stack.members[self.places_of(stack)], first))

    def own_names(self, member_names: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield the names of the seed's members of a stack, each with its place there, from the names in all seeds."""
        count = len(member_names) // self.system.seed_count
        suffix = f"@{self.seed}" if self.system.seed_count > 1 else ""
        for place in range(self.seed * count, (self.seed + 1) * count):
            yield place, member_names[place].removesuffix(suffix)

    def places_of(self, stack: Agent | Channel) -> slice:
        return stack.layout.members_of_seed(self.seed)

    def groups_of(self, group: LearningGroup) -> list[LearningGroup]:
        """Return the learning groups of single agents that a learning group of stacks is made of."""
        stacks = (self.system.agents[name] for name in group.agent_names)
        return list(
            dict.fromkeys(
                self.single_system.group_by_agent[single.name]
                for stack in stacks
                for _, single in self.singles(stack)
            )
        )

    @cached_property
    def stack_and_index(self) -> dict[str, tuple[Channel, int]]:
        """By single channel: the stack that it is in, and its place there."""
        return {
            single.name: (channel, k)
            for channel in self.system.channels.values()
            for k, single in self.singles(channel)
        }

    def sent(self, channel: str, stamp: int | None = None) -> Tensor | None:
        """Return a message of a single channel that its outbox still has, [B, size] as sent; None: it has none.

        Args:
            stamp: The step at which it was sent; None: the newest.
        """
        stack, index = self.stack_and_index[channel]
        messages = stack.wire.outbox.sent
        message = messages.get(max(messages, default=-1) if stamp is None else stamp)
        return None if message is None else message.value[stack.layout.rows_of_member(index)]
