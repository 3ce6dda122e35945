"""The scenario: agents and channels, explicit, validated and immutable; as a networkx graph (agents are nodes, channels
are edges), and as YAML (one line per agent and per channel, defaults left out).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, model_validator

from antiphon.errors import suggest
from antiphon.scenarios.checks import check
from antiphon.scenarios.parts import STATE, AgentSpec, ChannelSpec, EnvSpec, NetworkSpec
from antiphon.scenarios.problems import DocumentError, kind_of
from antiphon.scenarios.reader import plain_scalar_tags
from antiphon.scenarios.relations import (
    episode_agents,
    incoming,
    levels,
    locked_groups,
    outgoing,
    undelayed,
    window_of,
)
from antiphon.scenarios.spec import (
    FrozenMap,
    Name,
    Names,
    OrObject,
    Sequence,
    Spec,
    Text,
    channel_name,
    plain,
)
from antiphon.scenarios.training import TelemetrySpec, TrainingSpec

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Scenario", "from_graph", "to_graph", "to_yaml", "write"]


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
        from antiphon.scenarios.document import to_yaml

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
        from antiphon.scenarios.document import to_graph

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
        from antiphon.scenarios.document import from_graph

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


_ENDS = ("from", "to", "sender", "receiver")


def to_graph(scenario: Scenario) -> nx.MultiDiGraph[str]:
    """Return a scenario as a graph; see `Scenario.to_graph`."""
    import networkx as nx

    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for key, value in plain(scenario).items():
        if key not in ("agents", "channels"):
            graph.graph[key] = value
    for name, agent in scenario.agents.items():
        graph.add_node(name, **plain(agent))
    for channel in scenario.channels:
        attributes = {key: value for key, value in plain(channel).items() if key not in ("from", "to", "key")}
        graph.add_edge(channel.sender, channel.receiver, key=channel.key, **attributes)
    return graph


def from_graph(graph: nx.Graph[Any], fields: Mapping[str, Any]) -> Scenario:
    """Make a scenario of a graph; see `Scenario.from_graph`."""
    if not graph.is_directed():
        raise DocumentError((), "channels have a direction, the graph has none; use graph.to_directed()")
    own = [name for name in Scenario.model_fields if name not in ("agents", "channels")]
    given = {key: value for key, value in graph.graph.items() if key in own}
    training = dict(_as_mapping(fields.get("training", given.get("training", {}))))
    for key, value in fields.items():
        if key in TrainingSpec.model_fields:
            training[key] = value
        elif key in own:
            given[key] = value
        else:
            known = suggest(key, [*own, *TrainingSpec.model_fields])
            raise DocumentError((key,), f"unknown argument {key!r}{known}")
    agents: dict[str, Any] = {}
    for node, attributes in graph.nodes(data=True):
        name = _node_name(node)
        if name in agents:
            raise DocumentError(("agents", name), "two nodes have this name; rename one")
        agents[name] = dict(attributes)
    channels = [_channel(*edge) for edge in _edges(graph)]
    document = {"scenario": "graph", **given, "agents": agents, "channels": channels, "training": training}
    try:
        return Scenario.model_validate(document)
    except DocumentError as error:
        raise _on_edge(error, channels) from None


def _as_mapping(training: object) -> Mapping[str, Any]:
    if isinstance(training, TrainingSpec):
        return plain(training)
    if not isinstance(training, Mapping):
        raise DocumentError(("training",), f"must be a mapping of keys, not {kind_of(training)}")
    return training


def _edges(graph: nx.Graph[Any]) -> list[tuple[Any, Any, Any, dict[str, Any]]]:
    import networkx as nx

    if isinstance(graph, nx.MultiDiGraph):
        return list(graph.edges(keys=True, data=True))
    return [(a, b, data.get("key", 0), data) for a, b, data in graph.edges(data=True)]


def _channel(sender: object, receiver: object, key: object, attributes: Mapping[str, Any]) -> dict[str, Any]:
    one, other = _node_name(sender), _node_name(receiver)
    for end in _ENDS:
        if end in attributes:
            path = (f"channels[{channel_name(one, other, 0)}]", end)
            raise DocumentError(path, "the edge itself says this; leave it out")
    if attributes.get("carries") == "state" and isinstance(key, int):
        key = STATE  # the number is networkx's own
    return {**attributes, "from": one, "to": other, "key": key}


def _node_name(node: object) -> str:
    if isinstance(node, str | int) and not isinstance(node, bool):
        return str(node)
    raise DocumentError(("agents",), f"a node is a word or a whole number, not {kind_of(node)}")


def _on_edge(error: DocumentError, channels: list[dict[str, Any]]) -> DocumentError:
    """Replace an edge's number in a path by its ends, since graphs do not show numbers."""
    path = error.path
    if len(path) > 1 and path[0] == "channels" and isinstance(path[1], int):
        channel = channels[path[1]]
        name = channel_name(channel["from"], channel["to"], channel["key"])
        return DocumentError((f"channels[{name}]", *path[2:]), error.message)
    return error


_WIDTH = 160
_LINE_ENDS = frozenset("\r\x85\u2028\u2029\ufeff")
_SECTIONS = ("agents", "channels", "training", "telemetry")


class _Dumper(yaml.SafeDumper):
    """YAML dumper that quotes ambiguous words of YAML 1.1 and 1.2; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.Node:
        """Escape characters that readers take for line ends, in double quotes."""
        style = '"' if _LINE_ENDS & set(text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.yaml_implicit_resolvers = {
    start: [*yaml.SafeDumper.yaml_implicit_resolvers.get(start, ()), *plain_scalar_tags().get(start, ())]
    for start in {*yaml.SafeDumper.yaml_implicit_resolvers, *plain_scalar_tags()}
}


def to_yaml(scenario: Scenario) -> str:
    """Write a scenario as a document that reads back equal.

    Raises:
        ScenarioError: It holds Python objects.
    """
    if not isinstance(scenario.env, EnvSpec):
        kind = type(scenario.env).__name__
        raise DocumentError(
            ("env",), f"a Python {kind} cannot become YAML; name a registered environment's id"
        )
    for name, agent in scenario.agents.items():
        if not isinstance(agent.network, NetworkSpec):
            message = "a Python network cannot become YAML; name a built-in kind such as {kind: mlp}"
            raise DocumentError(("agents", name, "network"), message)
    return write(plain(scenario))


def write(data: Mapping[str, Any]) -> str:
    """Write a document (plain data): sections in blocks, each agent, channel and value on a line."""
    stream = io.StringIO()
    dumper = _Dumper(stream, width=_WIDTH, allow_unicode=True, sort_keys=False, default_flow_style=True)
    dumper.open()
    root: Any = dumper.represent_data(data)
    root.flow_style = False
    for key, value in root.value:
        value.flow_style = not (key.value in _SECTIONS and value.value)
    dumper.serialize(root)
    dumper.close()
    return stream.getvalue()
