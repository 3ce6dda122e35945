"""Kinds of agents and channels: those of one kind are built alike, so that a check builds one of them.

Which are computed as one stack is decided in `stacking`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from antiphon.agents.network import OBJECTIVE, VALUE
from antiphon.engine.build.shapes import Shapes
from antiphon.engine.core.agent import AGE
from antiphon.engine.core.clock import EpisodeWindows, Windows
from antiphon.engine.core.records import LearningGroup
from antiphon.envs.signal import Description
from antiphon.scenarios.agent_specs import AgentSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.document import Scenario

__all__ = ["Kinds"]

_OF_CHANNELS = (
    *("size", "norm", "symbols", "sample", "coupling", "gradient", "input", "link", "read", "staleness"),
    "carries",
)
"""Keys of a channel on which it depends how it is built."""


@dataclass(frozen=True)
class Kinds:
    """Kinds of the agents and channels of a scenario."""

    scenario: Scenario
    env: Description
    shapes: Shapes

    @property
    def known(self) -> bool:
        """Whether parts may be left out: no parameter of an agent is named by another part."""
        lens = any(channel.gradient.kind == "lens" for channel in self.scenario.channels)
        return not lens and not self.scenario.tied

    def of_agent(self, name: str) -> Hashable:
        """Return the kind of an agent: two of one kind have the same networks and optimiser."""
        spec = self.scenario.agents[name]
        if spec.layers is None or spec.weights is not None or spec.share is not None:
            return name
        heads = [
            (head.name if head.name in (OBJECTIVE, VALUE) else "", head.size, head.norm)
            for head in self.shapes.heads[name]
        ]
        aggregation = None if spec.aggregation is None else len(self.scenario.inputs_of(name))
        observed = [self._observed(spec, signal) for signal in spec.observes]
        built = (spec.network, spec.fan_in, spec.clock, spec.optimiser, spec.learn, spec.objective, spec.acts)
        shapes = (self.shapes.inputs[name], self.shapes.critics.get(name), aggregation)
        return (*built, *shapes, spec.categories, tuple(heads), tuple(observed))

    def _observed(self, spec: AgentSpec, signal: str) -> Hashable:
        return AGE if signal == AGE else self.env.signals[signal].shape_as(spec.categories)

    def of_channel(
        self, spec: ChannelSpec, agents: Mapping[str, Hashable], group_of: Mapping[str, LearningGroup]
    ) -> Hashable:
        """Return the kind of a channel.

        Args:
            spec: The channel.
            agents: Kinds by agent.
            group_of: Learning groups by agent.
        """
        if spec.feedback is not None:  # it depends on what learns together
            return spec.name
        ends = [
            (agents[name], _length(group_of[name].windows), group_of[name].late, group_of[name].staleness)
            for name in (spec.sender, spec.receiver)
        ]
        aligned = self.scenario.agents[spec.receiver].align == spec.name
        own = tuple(getattr(spec, key) for key in _OF_CHANNELS)
        return (*own, self.shapes.messages[spec.name], aligned, spec.port is None, *ends)


def _length(windows: Windows) -> Hashable:
    return (
        "episode" if isinstance(windows, EpisodeWindows) else (type(windows), windows.steps(), windows.end(0))
    )
