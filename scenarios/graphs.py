"""Scenarios as networkx graphs: agents are nodes, channels are edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from antiphon.errors import suggest
from antiphon.scenarios.parts import STATE
from antiphon.scenarios.problems import DocumentError, kind_of
from antiphon.scenarios.spec import channel_name, plain
from antiphon.scenarios.training import TrainingSpec

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["document_of", "graph_of", "named_by_ends"]

_ENDS = ("from", "to", "sender", "receiver")


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
    """Return a graph as a scenario's document; see `Scenario.from_graph`.

    Args:
        fields: Keys of the scenario and of its training, which override the graph's.
        keys: The scenario's keys beside agents and channels.
    """
    if not graph.is_directed():
        raise DocumentError((), "channels have a direction, the graph has none; use graph.to_directed()")
    given = {key: value for key, value in graph.graph.items() if key in keys}
    training = dict(_as_mapping(fields.get("training", given.get("training", {}))))
    for key, value in fields.items():
        if key in TrainingSpec.model_fields:
            training[key] = value
        elif key in keys:
            given[key] = value
        else:
            known = suggest(key, [*keys, *TrainingSpec.model_fields])
            raise DocumentError((key,), f"unknown argument {key!r}{known}")
    agents: dict[str, Any] = {}
    for node, attributes in graph.nodes(data=True):
        name = _node_name(node)
        if name in agents:
            raise DocumentError(("agents", name), "two nodes have this name; rename one")
        agents[name] = dict(attributes)
    channels = [_channel(*edge) for edge in _edges(graph)]
    return {"scenario": "graph", **given, "agents": agents, "channels": channels, "training": training}


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
            path = ("channels", channel_name(one, other, 0), end)
            raise DocumentError(path, "the edge itself says this; leave it out")
    if attributes.get("carries") == "state" and isinstance(key, int):
        key = STATE  # the number is networkx's own
    return {**attributes, "from": one, "to": other, "key": key}


def _node_name(node: object) -> str:
    if isinstance(node, str | int) and not isinstance(node, bool):
        return str(node)
    raise DocumentError(("agents",), f"a node is a word or a whole number, not {kind_of(node)}")


def named_by_ends(error: DocumentError, channels: list[dict[str, Any]]) -> DocumentError:
    """Replace an edge's number in a path by its ends, since graphs do not show numbers."""
    path = error.path
    if len(path) > 1 and path[0] == "channels" and isinstance(path[1], int):
        channel = channels[path[1]]
        name = channel_name(channel["from"], channel["to"], channel["key"])
        return DocumentError(("channels", name, *path[2:]), error.message, others=error.others)
    return error
