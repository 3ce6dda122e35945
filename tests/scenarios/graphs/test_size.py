"""Documents that ask for too much are refused at once, from their numbers alone."""

from __future__ import annotations

import pytest

from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from antiphon.scenarios.graphs.generators import GraphSpec, refuse_what_is_too_large

DOCUMENT = """\
scenario: g
env: {{id: antiphon/Digits-v0}}
graph: {{{graph}}}
agent:
  network: {{hidden: [4]}}
  observes: [image]
  readout: {{objective: {{kind: classification, target: label}}}}
channel: {{size: 4}}
"""


@pytest.mark.parametrize(
    ("graph", "counted"),
    [
        (
            "kind: chain, agents: 10000000",
            "10,000,000 agents and 9,999,999 channels; the limit is 50,000",
        ),
        ("kind: ring, agents: 2147483647", "2,147,483,647 agents"),
        ("kind: tree, agents: 100000, neighbours: 3", "100,000 agents and 99,999 channels"),
        ("kind: small_world, agents: 2000, neighbours: 1998, rate: 0.5", "3,996,000 channels"),
        ("kind: scale_free, agents: 2000, neighbours: 900", "1,980,000 channels"),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_made(graph: str, counted: str) -> None:
    with pytest.raises(
        ScenarioError, match=f"graph: .*{counted}.* use fewer, or make the scenario in Python"
    ):
        Scenario.from_yaml(DOCUMENT.format(graph=graph))


def test_agents_and_channels_that_are_written_out_count_too() -> None:
    with pytest.raises(ScenarioError, match=r"^agents: 60,000 agents and 0 channels; the limit"):
        refuse_what_is_too_large({"agents": {str(n): {} for n in range(60_000)}})
    with pytest.raises(ScenarioError, match=r"^channels: 0 agents and 110,000 channels; the limit"):
        refuse_what_is_too_large({"channels": [{"from": "a", "to": "b"}] * 110_000})


def test_what_the_library_and_the_benchmarks_have_is_accepted() -> None:
    refuse_what_is_too_large({}, GraphSpec(kind="small_world", agents=4096, neighbours=2, rate=0.0))
    refuse_what_is_too_large({}, GraphSpec(kind="chain", agents=30_000))
    agents = {f"n{number}": {"network": {"kind": "mlp", "hidden": [64, 64]}} for number in range(4096)}
    refuse_what_is_too_large({"agents": agents, "channels": [{"from": "n0", "to": "n1"}] * 8192})
