"""A scenario as it is printed: one line, and in a notebook its graph and tables."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from antiphon import load


@pytest.mark.parametrize("name", ["digits-mlp", "ring-of-many", "corporation"])
def test_a_scenario_is_one_line_and_in_a_notebook_a_graph_with_tables(name: str) -> None:
    scenario = load(name).resolve()
    assert repr(scenario).startswith(f"<Scenario {name}: {len(scenario.agents)} agents, ")
    assert "\n" not in repr(scenario)
    page = ElementTree.fromstring(f"<div>{scenario._repr_html_()}</div>")
    ends = [
        path.attrib["d"][1:].replace("L", " ").split()
        for path in page.iter("path")
        if "L" in path.attrib["d"]
    ]
    assert not [x for x, _, to_x, *_ in ends if x == to_x], "an arrow crosses the names of a column"
    drawn = {text.text for text in page.iter("text")}
    assert drawn == (set(scenario.agents) if len(scenario.agents) <= 60 else set())
    assert [len(table.findall("tr")) for table in page.iter("table")] == [
        1 + min(20, len(own)) for own in (scenario.agents, scenario.channels)
    ]
