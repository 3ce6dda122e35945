"""Placements: every cut that could change a bit is refused with one line, the others change none; how agents are divided."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import networkx as nx
import pytest

from antiphon import Scenario, Simulation
from antiphon.distributed.parts.placement import divided
from tests.contracts.builders import LABEL, OWN, Document, Play, document
from tests.contracts.twins import differences, facts
from tests.engine.numbers import one_line
from tests.kit.running import lookahead
from tests.kit.tiers import sampled

CELL: Document = {"network": {"kind": "gru", "size": 4}, "observes": ["x"]}
APART: Mapping[str, int] = {"a": 0, "b": 1}


def pair(
    channel: Document | None = None,
    *,
    a: Document | None = None,
    b: Document | None = None,
    env: Any = None,
    **training: Any,
) -> Document:
    """Return two agents and a channel of delay 1."""
    link = {"delay": 1} | (channel or {}).get("link", {})
    way = {"from": "a", "to": "b", "size": 4, **(channel or {}), "link": link}
    agents = {"a": {**OWN, **(a or {})}, "b": {**OWN, "objective": LABEL, **(b or {})}}
    return document(agents, [way], env, **training)


def opened(doc: Document, parts: Any) -> Simulation:
    return Simulation(Scenario.model_validate(doc), parts=parts)


def assert_refused(line: str, doc: Document, parts: Any) -> None:
    with one_line("^" + re.escape(line)):
        opened(doc, parts)


BACK: list[Document] = [{"from": a, "to": b, "size": 4, "link": {"delay": 1}} for a, b in ("ab", "ba")]
SHARED = document(
    {one: {**OWN, "objective": LABEL, "share": "g"} for one in "ab"},
    [way | {"port": "out"} for way in BACK],
)
WHERE = "'a' is in part 0 and 'b' is in part 1"
ONCE = "give the channel `link: {delay: 1}`, or place both ends together"
AT_ONCE: Document = {"link": {"delay": 0}}
TO_STATE: Document = {"gradient": {"kind": "linear", "context": ["to.state"]}}
REFUSED: list[tuple[Document, str]] = [
    (
        pair({"coupling": "locked"}),
        f"channels[a->b].coupling: locked: both ends learn as one, but {WHERE}; make it decoupled and {ONCE}",
    ),
    (pair(AT_ONCE), "channels[a->b].link.delay: 0: a message is read at the step at which it is sent"),
    (
        pair({"link": {"delay": [2, 0]}}),
        "channels[a->b].link.delay: 0 back: a gradient returns at the step at which it is computed",
    ),
    (pair(TO_STATE, b=CELL), "channels[a->b].gradient.context: 'to.state' is read from the receiver itself"),
    (SHARED, "agents.b.share: shared parameters learn as one"),
    (pair() | {"share": [["a.0.bias", "b.0.bias"]]}, "share[0]: tied parameters are one weight"),
]


@pytest.mark.parametrize(("doc", "line"), REFUSED, ids=[line.partition(":")[0] for _, line in REFUSED])
def test_cuts_that_could_change_a_bit_are_refused(doc: Document, line: str) -> None:
    assert_refused(line, doc, APART)
    opened(doc, {"a": 0, "b": 0}).close()
    with one_line("cannot be separated into more than 1: 'a' and 'b' stay together"):
        opened(doc, 2)


def delayed(b: Document | None = None, env: Any = None, **link: Any) -> Document:
    """A delayed channel of delay 4."""
    return pair({"coupling": "delayed", "link": {"delay": 4, **link}}, b=b, env=env)


AGE: Document = {"kind": "linear", "context": ["held", "age"]}
ALIGNED: list[Document] = [BACK[0] | {"input": {"context": ["x"]}}, BACK[1]]
DELAYED_BACK: list[Document] = [way | {"coupling": "delayed", "link": {"delay": 4}} for way in BACK]
CUT: dict[str, tuple[Document, int]] = {
    "detached": (pair({"coupling": "detached"}), 1),
    "unlocked": (pair({"coupling": "unlocked", "input": AGE}), 1),
    "no gradient is wanted": (pair({"coupling": "detached", "link": {"delay": [4, 0]}}), 1),
    "the sender's state": (pair({"gradient": {"kind": "linear", "context": ["from.state"]}}, a=CELL), 1),
    "states of its own": (pair(a=CELL, b=CELL), 1),
    "aligned at the receiving end": (pair(b={"align": True}), 1),
    "aligned at the sending end": (pair(a={"align": "b->a"}) | {"channels": BACK}, 1),
    "aligned at both ends": (pair(a={"align": "b->a"}, b={"align": True}) | {"channels": BACK}, 1),
    "an aligned sender's synthetic input": (pair(a={"align": "b->a"}) | {"channels": ALIGNED}, 1),
    "losses, noise": (pair({"link": {"drop": 0.5, "noise": 0.1}}), 1),
    "a sender that learns seldom": (pair({"link": {"delay": 2}}, a={"learn": 0.3}), 2),
    "a sender with windows": (pair({"link": {"delay": 2}}, a={"clock": {"unroll": 4}}), 2),
    "a delay": (pair({"link": {"delay": 4}}), 4),
    "a gradient that is back sooner": (pair({"link": {"delay": [4, 2]}}), 2),
    "a gradient that is back later": (pair({"link": {"delay": [4, 9]}}), 4),
    "delayed": (delayed(), 4),
    "delayed, to a reader that ticks seldom": (delayed({"clock": {"period": 3}}), 4),
    "delayed, and messages are lost": (delayed(drop=0.5), 1),
    "delayed, and its receiver learns seldom": (delayed({"learn": 0.5}), 1),
    "delayed, and its receiver waits itself": (delayed() | {"channels": DELAYED_BACK}, 1),
    "delayed, and episodes end": (delayed(env=Play(share=0.2)), 1),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", sampled(CUT, 3, "nightly"))
def test_exchanges_as_late_as_may_be_change_no_bit(name: str) -> None:
    doc, expected = CUT[name]
    with opened(doc, None) as whole, opened(doc, 2) as divided:
        assert lookahead(whole, divided) == expected
        for steps in (9, 2):
            whole.run(steps)
            divided.run(steps)
            assert not list(differences(facts(whole), facts(divided), tolerance=0.0))


def test_parts_that_do_not_wait_see_a_stream() -> None:
    with one_line("env: its episodes end, and parts in virtual time are at different steps"):
        opened(pair(env=Play(share=0.2)), {"cluster": "two-cores"})


# --- graphs ----------------------------------------------------------------------------------------------


GRAPHS: dict[str, tuple[nx.Graph, int, float]] = {
    "a ring": (nx.cycle_graph(12), 2, 2),
    "a ring in many": (nx.cycle_graph(13), 7, 7),
    "a chain": (nx.path_graph(64), 4, 3),
    "a grid": (nx.convert_node_labels_to_integers(nx.grid_2d_graph(16, 16)), 2, 18),
    "a lattice": (nx.connected_watts_strogatz_graph(200, 4, 0.0, seed=3), 2, 6),
    "a tree": (nx.balanced_tree(2, 5), 4, 6),
    "dense groups on a ring": (nx.connected_caveman_graph(16, 16), 4, 4),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("costs", ["equal", "unequal"])
def test_parts_are_balanced_and_little_is_cut(name: str, costs: str) -> None:
    graph, parts, most = GRAPHS[name]
    cost = [1.0 if costs == "equal" else 1.0 + node * 7 % 5 for node in graph]
    part = divided(graph, cost, parts)
    loads = [sum(c for c, own in zip(cost, part, strict=True) if own == number) for number in range(parts)]
    assert set(part) == set(range(parts))
    assert max(loads) <= max(1.05 * sum(cost) / parts, sum(cost) / parts + max(cost))
    if costs == "equal":
        assert sum(part[one] != part[other] for one, other in graph.edges) <= most


def test_one_heavy_node_leaves_the_others_a_part_each() -> None:
    assert sorted(divided(nx.path_graph(3), [1000.0, 1.0, 1.0], 3)) == [0, 1, 2]
