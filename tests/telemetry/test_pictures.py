"""The picture of a graph: what is in it, that it is the same each time, and where agents stand."""

from __future__ import annotations

import itertools
import os
import re
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from antiphon.errors import RunError
from antiphon.telemetry import draw_graph
from antiphon.telemetry.placement import arrows, extent, place

pytest.importorskip("matplotlib")


def marked(graph: nx.Graph[int], *, readout: int = 0) -> nx.MultiDiGraph[str]:
    """Make a scenario's graph of any networkx graph."""
    couplings = itertools.cycle(["decoupled", "locked", "detached", "delayed"])
    made: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for node in graph:
        made.add_node(f"n{node:02}", role="readout" if node == readout else "agent")
    for (a, b), coupling in zip(graph.edges(), couplings, strict=False):
        made.add_edge(f"n{a:02}", f"n{b:02}", key=0, coupling=coupling, delay=1)
    return made


SMALL_WORLD = marked(nx.connected_watts_strogatz_graph(32, 4, 0.3, seed=1).to_directed())
CHAIN = marked(nx.path_graph(5, create_using=nx.DiGraph))
GRAPHS = {
    "small world": SMALL_WORLD,
    "chain": CHAIN,
    "tree": marked(nx.reverse(nx.balanced_tree(2, 3, create_using=nx.DiGraph))),
    "scale free": marked(nx.barabasi_albert_graph(150, 2, seed=1).to_directed()),
    "two": marked(nx.path_graph(2).to_directed()),
    "alone": marked(nx.empty_graph(1)),
    "nobody": marked(nx.empty_graph(0)),
    "no channels": marked(nx.empty_graph(7)),
    "hundreds": marked(nx.cycle_graph(450, create_using=nx.DiGraph)),
}


def texts(svg: Path) -> set[str]:
    """The words in a picture; matplotlib names each outlined word in a comment."""
    return set(re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", GRAPHS)
def test_every_kind_of_graph_can_be_drawn(tmp_path: Path, name: str) -> None:
    figure = draw_graph(GRAPHS[name], tmp_path / "graph.png")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")
    width, height = figure.get_size_inches()
    assert 0 < width < 20
    assert 0 < height < 20


def test_a_picture_names_agents_roles_couplings_and_delays(tmp_path: Path) -> None:
    graph = CHAIN.copy()
    graph.nodes["n02"]["role"] = "frozen"
    graph.edges["n00", "n01", 0]["delay"] = 0
    draw_graph(graph, tmp_path / "graph.svg")
    assert texts(tmp_path / "graph.svg") >= {
        "n00",
        "n04",
        "agent",
        "readout",
        "frozen",
        "decoupled, delay 1" if graph.edges["n00", "n01", 0]["coupling"] != "decoupled" else "decoupled",
        "locked, delay 1",
        "detached, delay 1",
        "delayed, delay 1",
    }


def test_delays_of_several_lengths_are_a_range(tmp_path: Path) -> None:
    graph = marked(nx.path_graph(9, create_using=nx.DiGraph))
    for (_, _, attributes), delay in zip(graph.edges(data=True), range(1, 9), strict=True):
        attributes.update(coupling="locked", delay=delay)
    draw_graph(graph, tmp_path / "graph.svg")
    assert "locked, delay 1–8" in texts(tmp_path / "graph.svg")


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_same_graph_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    again: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    again.add_nodes_from(SMALL_WORLD.nodes(data=True))
    for a, b, key, attributes in reversed(list(SMALL_WORLD.edges(keys=True, data=True))):
        again.add_edge(a, b, key=key, **attributes)
    draw_graph(SMALL_WORLD, tmp_path / f"a.{suffix}")
    draw_graph(SMALL_WORLD.copy(), tmp_path / f"b.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert place(again).places.keys() == place(SMALL_WORLD).places.keys()
    for name, centre in place(again).places.items():
        np.testing.assert_array_equal(centre, place(SMALL_WORLD).places[name])


def test_names_are_never_taken_for_mathematics(tmp_path: Path) -> None:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_edge("$\\frac$", "_b", key=0, coupling="$\\frac{$", delay=0)
    draw_graph(graph, tmp_path / "graph.svg")
    draw_graph(graph, tmp_path / "graph.png")


def test_long_names_stand_under_the_discs(tmp_path: Path) -> None:
    graph = nx.relabel_nodes(CHAIN, {"n00": "a-name-longer-than-any-disc"})
    draw_graph(graph, tmp_path / "graph.svg")
    assert "a-name-longer-than-any-disc" in texts(tmp_path / "graph.svg")


def test_a_graph_without_cycles_runs_from_left_to_right() -> None:
    for name in ("chain", "tree"):
        places = place(GRAPHS[name]).places
        assert all(places[a][0] < places[b][0] for a, b in GRAPHS[name].edges())


@pytest.mark.parametrize("name", ["small world", "scale free", "tree", "two"])
def test_discs_do_not_overlap(name: str) -> None:
    placement = place(GRAPHS[name])
    closest = min(
        float(np.linalg.norm(a - b)) for a, b in itertools.combinations(placement.places.values(), 2)
    )
    assert closest > 2 * placement.radius


def test_channels_between_the_same_two_agents_are_apart() -> None:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for a, b, key in (("a", "b", 0), ("a", "b", "slow"), ("b", "a", 0), ("a", "a", 0), ("a", "a", 1)):
        graph.add_edge(a, b, key=key)
    drawn = arrows(graph, place(graph))
    assert len(drawn) == 5
    middles = [arrow.line[len(arrow.line) // 2] for arrow in drawn.values()]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(middles, 2)) > 0.1


def test_arrow_heads_touch_the_receiver_and_lie_on_the_canvas() -> None:
    placement = place(SMALL_WORLD)
    drawn = arrows(SMALL_WORLD, placement)
    left, bottom, right, top = extent(placement, drawn.values())
    for (_, receiver, _), arrow in drawn.items():
        gap = float(np.linalg.norm(arrow.head[0] - placement.places[receiver])) - placement.radius
        assert 0 < gap < 0.05
        assert left <= arrow.head[:, 0].min() <= arrow.head[:, 0].max() <= right
        assert bottom <= arrow.head[:, 1].min() <= arrow.head[:, 1].max() <= top


def test_without_matplotlib_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [module for module in sys.modules if module.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RunError, match=r"needs matplotlib: pip install 'antiphon\[plots\]'"):
        draw_graph(CHAIN)


def test_a_picture_that_cannot_be_saved_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"x.png: cannot be written \(No such file or directory\)"):
        draw_graph(CHAIN, tmp_path / "missing" / "x.png")


def test_a_link_is_followed_and_what_is_no_file_is_refused(tmp_path: Path) -> None:
    picture, link, pipe = tmp_path / "x.png", tmp_path / "link.png", tmp_path / "pipe.png"
    link.symlink_to(picture)
    os.mkfifo(pipe)
    draw_graph(CHAIN, link)
    assert link.is_symlink()
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(RunError, match=r"pipe\.png"):
        draw_graph(CHAIN, pipe)
