"""The scenario: agents and channels, explicit, validated and immutable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, model_validator

from antiphon.scenarios.checks import check
from antiphon.scenarios.fields import FrozenMap, Name, Names, Sequence, Text
from antiphon.scenarios.parts import AgentSpec, ChannelSpec, EnvSpec
from antiphon.scenarios.relations import (
    episode_agents,
    incoming,
    levels,
    locked_groups,
    outgoing,
    undelayed,
    window_of,
)
from antiphon.scenarios.spec import OrObject, Spec, plain
from antiphon.scenarios.training import TelemetrySpec, TrainingSpec

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Scenario"]


def _is_environment(value: object) -> bool:
    """Whether a value is a source (it can make environments) or a vector environment itself."""
    if isinstance(value, Spec | Mapping):
        return False
    vector = all(hasattr(value, name) for name in ("num_envs", "reset", "step"))
    return vector or callable(getattr(value, "make", None))


def _sorted_agents(agents: dict[str, AgentSpec]) -> FrozenMap[AgentSpec]:
    return FrozenMap({name: agents[name] for name in sorted(agents)})


class Scenario(Spec):
    """A whole scenario, explicit: no parameters, no generators.

    Agents are sorted by name and channels by (from, to, key), so that equal scenarios are written alike.

    Attributes:
        scenario: Its name.
        description: Of the scenario, in words.
        readout: The agents whose metric is the scenario's; None: all that have an objective.
        env: The environment by id, or from Python a source or a `gymnasium.vector.VectorEnv`.
        agents: The agents by name.
        channels: The channels.
        training: Batch, steps, optimisers.
        telemetry: Of a run.

    Raises:
        ScenarioError: At construction: one line with the place, the value and the fix.
    """

    scenario: Name
    description: Text = ""
    readout: Names = None
    env: Annotated[EnvSpec | object, OrObject(EnvSpec, _is_environment)]
    agents: Annotated[dict[Name, AgentSpec], AfterValidator(_sorted_agents)]
    channels: Annotated[tuple[ChannelSpec, ...], Sequence] = ()
    training: TrainingSpec = TrainingSpec()
    telemetry: TelemetrySpec = TelemetrySpec()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        check(self)
        self.__dict__["channels"] = tuple(sorted(self.channels, key=lambda channel: channel.order))
        return self

    @cached_property
    def readouts(self) -> tuple[str, ...]:
        """The agents whose metric, averaged, is the scenario's."""
        return self.readout or tuple(name for name, agent in self.agents.items() if agent.objective)

    def inputs_of(self, agent: str) -> tuple[ChannelSpec, ...]:
        """Return the message channels into an agent, in canonical order (that of a `concat` fan-in)."""
        return self._inputs[agent]

    def outputs_of(self, agent: str) -> tuple[ChannelSpec, ...]:
        """Return the message channels out of an agent, in canonical order."""
        return self._outputs[agent]

    def memory_of(self, agent: str) -> ChannelSpec | None:
        """Return an agent's state channel; None: it has none, or a recurrent agent's is a detached one."""
        return self._memories.get(agent)

    def locked_groups(self) -> tuple[tuple[str, ...], ...]:
        """Return the agents partitioned into maximal sets joined by locked channels.

        An agent without locked channels is a group of its own.
        """
        return self._groups

    def window(self, group: Iterable[str]) -> int | Literal["episode"]:
        """Return a locked group's window: steps from one learning to the next, or `episode`."""
        return window_of(group, self.agents, self._episodic)

    def waves(self) -> tuple[tuple[str, ...], ...]:
        """Return the order in which agents due at one step tick.

        These are the topological levels over the message channels without delay, each level sorted by name.
        """
        return self._waves

    def with_training(self, **changes: Any) -> Scenario:
        """Return this scenario with some keys of `training` changed, for example `steps=50`.

        Raises:
            ScenarioError: The change is not accepted.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Scenario(**{**fields, "training": {**plain(self.training), **changes}})

    def to_yaml(self) -> str:
        """Write the scenario as a document.

        Raises:
            ScenarioError: It holds Python objects (a network or an environment of the user's).
        """
        from antiphon.scenarios.writer import to_yaml

        return to_yaml(self)

    @classmethod
    def from_yaml(cls, text: str, source: str = "scenario") -> Scenario:
        """Read a document; the parameters of a template have their defaults.

        Args:
            text: The document.
            source: Name in errors: the file's.

        Raises:
            ScenarioError: The text is no valid scenario; the line begins `source:line: `.
        """
        from antiphon.scenarios.template import Template

        return Template.from_yaml(text, source).resolve()

    def to_graph(self) -> nx.MultiDiGraph[str]:
        """Return the scenario as a networkx graph.

        Node attributes are the keys of an agent, edge attributes those of a channel (edge keys are channel
        keys), graph attributes the rest of the scenario, all as in a document.
        """
        from antiphon.scenarios.graph import to_graph

        return to_graph(self)

    @classmethod
    def from_graph(cls, graph: nx.Graph[Any], **fields: Any) -> Scenario:
        """Make a scenario of a directed networkx graph.

        Args:
            graph: A DiGraph or MultiDiGraph; node attributes are the keys of an agent, edge attributes
                those of a channel. Graph attributes give what `fields` does not.
            **fields: The scenario's other keys (`env`, `scenario`, `readout`, …); those of `training`
                (`batch`, `steps`, `optimiser`, …) may be given directly.

        Raises:
            ScenarioError: The graph is undirected, or something in it is not accepted.
        """
        from antiphon.scenarios.graph import from_graph

        return from_graph(graph, fields)

    @cached_property
    def _inputs(self) -> dict[str, tuple[ChannelSpec, ...]]:
        return incoming(self.agents, self.channels)

    @cached_property
    def _outputs(self) -> dict[str, tuple[ChannelSpec, ...]]:
        return outgoing(self.agents, self.channels)

    @cached_property
    def _memories(self) -> dict[str, ChannelSpec]:
        return {channel.sender: channel for channel in self.channels if channel.state}

    @cached_property
    def _episodic(self) -> frozenset[str]:
        return episode_agents(self.agents, self.channels)

    @cached_property
    def _groups(self) -> tuple[tuple[str, ...], ...]:
        return locked_groups(self.agents, self.channels)

    @cached_property
    def _waves(self) -> tuple[tuple[str, ...], ...]:
        return levels(self.agents, undelayed(self.channels))[0]
