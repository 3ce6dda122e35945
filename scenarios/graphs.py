"""Scenarios and graphs: generators, by which a graph of networkx, one agent template and one channel template become agents
and channels; and scenarios as networkx graphs, whose nodes are agents and whose edges are channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, model_validator

from antiphon.base.errors import first_line, suggest
from antiphon.base.problems import DocumentError, Path, show_refused, within
from antiphon.base.spec import (
    Count,
    SignalName,
    Spec,
    channel_name,
    in_words,
    name_problem,
    plain,
)
from antiphon.comms.couplings import DEFAULT, Detached, kind_predicts
from antiphon.scenarios.parameters import section, substitute
from antiphon.scenarios.training import TrainingSpec
from antiphon.scenarios.yaml_text import Document

if TYPE_CHECKING:
    import networkx as nx

_OURS = {"chain": "path_graph", "ring": "cycle_graph", "tree": "full_rary_tree"}
"""Directed graphs, by the generator of networkx that has their edges."""


class DealSpec(Spec):
    """Signals distributed over generated agents.

    Attributes:
        observes: Agent i also observes the signal with this name and the suffix `_<i>`. In the context of a synthetic
            gradient the name means the sender's signal, in the context of a synthetic input the receiver's.
        of: Number of such signals, which are dealt to the agents in turn; None: one per agent.
    """

    observes: SignalName
    of: Count | None = None

    def signal(self, index: int) -> str:
        return f"{self.observes}_{index % (self.of or index + 1)}"


class GraphSpec(Spec):
    """A generated graph; further keys are arguments of the generator, as networkx names them.

    Attributes:
        kind: `chain`, `ring` (a directed cycle), `tree` (leaves to root; `r`: children of an agent), or a generator of networkx,
            with channels both ways, such as `connected_watts_strogatz_graph` (`k`, `p`) or `barabasi_albert_graph` (`m`). What
            is drawn at random has a `seed`, 0 unless given.
        agents: Number of agents.
        readout: Number of agents that also have the keys of `agent.readout`: the last ones of a chain, else evenly
            spaced from the first (in a tree: the root).
        deal: Signals distributed over the agents.
        split: The channels that also have the keys of `channel.split`: in a `chain` the number of one (from 1), or by signal
            `adjacent`: those of senders without a channel into a readout, for which the signal is removed from the context of
            their predictors (and of the inputs of such receivers), and a channel whose `local` or `sobolev_label` gradient has
            it as its target becomes `detached`. `all`: every agent may use it.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    agents: Count
    readout: Count = 1
    deal: DealSpec | None = None
    split: Annotated[
        Count | dict[SignalName, Literal["all", "adjacent"]] | None,
        in_words("the number of a channel, or by signal all or adjacent"),
    ] = None

    @property
    def of_adjacent(self) -> list[str]:
        """The signals that only agents with a channel into a readout may use."""
        split = self.split if isinstance(self.split, Mapping) else {}
        return [signal for signal, who in split.items() if who == "adjacent"]

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.readout > self.agents:
            raise DocumentError(("readout",), f"must be at most the {self.agents} agents, not {self.readout}")
        if isinstance(self.split, int) and not (self.kind == "chain" and 0 < self.split < self.agents):
            raise DocumentError(
                ("split",),
                f"must be the number of one of the chain's channels (1 to {self.agents - 1}), not {self.split}",
            )
        return self

    def arcs(self) -> list[tuple[int, int]]:
        """Return its channels, sorted, as pairs (from, to) of the numbers of agents."""
        import networkx as nx

        generators = {name: make for name, make in vars(nx.generators).items() if callable(make)}
        if self.kind not in _OURS and self.kind not in generators:
            fix = suggest(self.kind, [*generators, *_OURS])
            fix = fix if fix.startswith("; did") else "; write chain, ring, tree or a generator of networkx"
            raise DocumentError(("kind",), f"unknown kind {self.kind!r}{fix}")
        make = generators[_OURS.get(self.kind, self.kind)]
        arguments = {"n": self.agents, **(self.model_extra or {})}
        if "seed" in signature(make).parameters:
            arguments.setdefault("seed", 0)
        if self.kind in _OURS:
            arguments["create_using"] = nx.DiGraph
        try:
            made = make(**arguments)
        except (TypeError, ValueError, nx.NetworkXException) as error:
            raise DocumentError((), f"{self.kind}: {first_line(error)}") from None
        if {*made} != {*range(self.agents)}:
            raise DocumentError(
                ("agents",), f"{self.kind} has {len(made)} nodes, not {self.agents} from 0 on"
            )
        edges = {*made.edges()}
        back = {(b, a) for a, b in edges}
        return sorted(back if self.kind == "tree" else edges if self.kind in _OURS else edges | back)


def generate(
    graph: GraphSpec, sections: Mapping[Path, Any]
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Return the agents, channels and readouts of a graph.

    Args:
        sections: The sections `agent` and `channel` and, where given, those within them (`deal` is a list), by path, all
            parameters filled in.
    """
    width = len(str(graph.agents - 1))
    names = [f"n{index:0{width}}" for index in range(graph.agents)]
    spaced = [names[number * graph.agents // graph.readout] for number in range(graph.readout)]
    readouts = names[-graph.readout :] if graph.kind == "chain" else spaced
    read = set(readouts)
    agents: dict[str, dict[str, Any]] = {}
    dealt = sections.get(("agent", "deal"), ())
    for index, name in enumerate(names):
        agents[name] = {
            **sections.get(("agent",), {}),
            **(dealt[index % len(dealt)] if dealt else {}),
            **(sections.get(("agent", "first"), {}) if index == 0 else {}),
            **(sections.get(("agent", "readout"), {}) if name in read else {}),
        }
        observes = agents[name].get("observes", [])
        if graph.deal is not None and isinstance(observes, list | tuple):
            agents[name]["observes"] = [*observes, graph.deal.signal(index)]
    arcs = graph.arcs()
    adjacent = {sender for sender, receiver in arcs if names[receiver] in read}
    channels: list[dict[str, Any]] = []
    for number, (sender, receiver) in enumerate(arcs):
        hidden, unheard = ([] if end in adjacent else graph.of_adjacent for end in (sender, receiver))
        of_split = sections.get(("channel", "split"), {}) if hidden or graph.split == number + 1 else {}
        channel = {
            "from": names[sender],
            "to": names[receiver],
            **sections.get(("channel",), {}),
            **of_split,
        }
        for signal in hidden:
            channel = _unknown_to_sender(channel, signal)
        for signal in unheard:
            channel = _in_context(channel, "input", signal, ())
        if graph.deal is not None:
            dealt_signal = graph.deal.observes
            channel = _in_context(channel, "gradient", dealt_signal, (graph.deal.signal(sender),))
            channel = _in_context(channel, "input", dealt_signal, (graph.deal.signal(receiver),))
        channels.append(channel)
    return agents, channels, readouts


def _in_context(
    channel: dict[str, Any], key: str, signal: str, replacements: tuple[str, ...]
) -> dict[str, Any]:
    """Return a channel with one signal replaced by others in the context of its predictor `key`."""
    model = channel.get(key)
    if not isinstance(model, Mapping) or not isinstance(model.get("context"), list | tuple):
        return channel
    context = [new for name in model["context"] for new in (replacements if name == signal else (name,))]
    return {**channel, key: {**model, "context": context}}


def _unknown_to_sender(channel: dict[str, Any], signal: str) -> dict[str, Any]:
    """Return a channel without a signal that is not available to its sender."""
    channel = _in_context(channel, "gradient", signal, ())
    gradient = channel.get("gradient")
    if not isinstance(gradient, Mapping) or gradient.get("target") != signal:
        return channel
    without = {key: value for key, value in channel.items() if key != "gradient"}
    return (
        {**without, "coupling": Detached.name} if kind_predicts(channel.get("coupling", DEFAULT)) else without
    )


# --- scenarios as networkx graphs ------------------------------------------------------------------------

_OF_NETWORKX = {"name", "node_default", "edge_default", "mode", "partition"}
"""Graph attributes that networkx's own readers and generators set."""


def graph_of(document: Mapping[str, Any]) -> nx.MultiDiGraph[str]:
    """Return a scenario's document as a graph; see `Scenario.to_graph`."""
    import networkx as nx

    rest = {key: value for key, value in document.items() if key not in ("agents", "channels")}
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(**rest)
    graph.add_nodes_from(document["agents"].items())
    for channel in document.get("channels", ()):
        attributes = {key: value for key, value in channel.items() if key not in ("from", "to", "key")}
        graph.add_edge(channel["from"], channel["to"], key=channel.get("key", 0), **attributes)
    return graph


def document_of(graph: nx.Graph[Any], fields: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """Return a graph as a scenario's document, whose `keys` are those beside agents and channels; see `Scenario.from_graph`."""
    import networkx as nx

    if not graph.is_directed():
        raise DocumentError((), "graph: is undirected, and channels are directed; use graph.to_directed()")
    of_training = TrainingSpec.model_fields
    attributes = {key: value for key, value in graph.graph.items() if key not in _OF_NETWORKX}
    chosen = {**attributes, **fields}
    given = chosen.pop("training", {})
    training = dict(plain(given) if isinstance(given, Spec) else given)
    training |= {key: chosen.pop(key) for key in of_training if key in chosen}
    for key in chosen:
        if key not in keys:
            raise DocumentError((key,), f"unknown key {key!r}{suggest(key, [*keys, *of_training])}")
    agents = {str(node): dict(attributes) for node, attributes in graph.nodes(data=True)}
    multigraph: Any = nx.MultiDiGraph(graph)
    channels = [
        {"key": key, **attributes, "from": str(sender), "to": str(receiver)}
        for sender, receiver, key, attributes in multigraph.edges(keys=True, data=True)
    ]
    title = graph.graph.get("name")
    scenario = "graph" if name_problem(title) else title
    return {"scenario": scenario, **chosen, "agents": agents, "channels": channels, "training": training}


def named_by_ends(error: DocumentError, channels: list[dict[str, Any]]) -> DocumentError:
    """Replace an edge's number in a path by its ends, since graphs do not show numbers."""
    path = error.path
    if len(path) > 1 and path[0] == "channels" and isinstance(path[1], int):
        channel = channels[path[1]]
        name = channel_name(channel["from"], channel["to"], channel["key"])
        return error.at(("channels", name, *path[2:]))
    return error


# --- documents with a generated graph -----------------------------------------------------------------------

SECTIONS = {"agent": ("first", "readout", "deal"), "channel": ("split",)}
"""Sections of generated agents and channels, with the sections within them that are of some."""


def explicit(document: Document, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a document with the values of its parameters, and with the agents and channels of its graph."""
    body: dict[str, Any] = substitute(document.data, values)
    sections = dict(_sections(body))
    graph = body.pop("graph", None)
    if graph is None:
        for path in sections:
            raise DocumentError(path, "is for a generated graph, and there is no `graph`; add one")
        return body
    with within(("graph",)):
        generated, joining, readouts = generate(GraphSpec.model_validate(graph), sections)
    agents, channels = section(("agents",), body.get("agents", {})), body.get("channels", [])
    for name in agents:
        if name in generated:
            raise DocumentError(
                ("agents", name), "the graph generates an agent with this name too; rename one"
            )
    body["agents"] = {**agents, **generated}
    body["channels"] = [*channels, *joining] if isinstance(channels, list) else channels
    if ("agent", "readout") in sections:
        body.setdefault("readout", readouts)
    return body


def _sections(body: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Take the sections of generated agents and channels out of a document, those within them beside them."""
    for name, inner in SECTIONS.items():
        if name not in body:
            continue
        keys = section((name,), body.pop(name))
        yield (name,), {key: item for key, item in keys.items() if key not in inner}
        for key in inner:
            path, items = (name, key), keys.get(key)
            if key == "deal" and items is not None:
                if not isinstance(items, list) or not items:
                    raise DocumentError(path, f"must be a list of agents' keys, not {show_refused(items)}")
                yield path, [section((*path, index), item) for index, item in enumerate(items)]
            elif items is not None:
                yield path, section(path, items)
