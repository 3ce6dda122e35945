"""Plans: who is run as one, and why others are not; what they say is what is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antiphon import Scenario
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.examined import planned


def ring(
    agents: int, *, coupling: str = "decoupled", gradient: Mapping[str, Any] | None = None, **node: Any
) -> Scenario:
    """A ring, small: messages of 3 with delay 1, observations of 9, ten classes."""
    names = [f"n{i:03}" for i in range(agents)]
    own = {"network": {"kind": "mlp", "hidden": [5], "norm": "none"}, "objective": CLASSIFY, **node}
    way = {
        "size": 3,
        "port": "out",
        "norm": "none",
        "link": {"delay": 1},
        "coupling": coupling,
        "gradient": gradient or "linear",
    }
    return scenario_of(
        {name: {"observes": [f"patch_{i % 4}"], **own} for i, name in enumerate(names)},
        [{"from": a, "to": b, **way} for a, b in zip(names, [*names[1:], names[0]], strict=True)],
        {"patches": 4},
        batch=4,
    )


OWN = (9 + 3) * 5 + 5 + 5 * 10 + 10 + 5 * 3 + 3
"""Parameters of an agent of the ring: a hidden layer, a classifier, and a port."""


def chain(*couplings: str, hold: int = 6, **node: Any) -> Scenario:
    """Agents in a row on digits shown for some steps, one channel for each coupling."""
    names = "abcdef"[: len(couplings) + 1]
    agents: dict[str, Any] = {name: {"network": {"hidden": [6]}, **node} for name in names}
    agents["a"]["observes"] = ["image"]
    agents[names[-1]]["objective"] = CLASSIFY
    channels = [
        {"from": one, "to": other, "size": 6, "coupling": coupling}
        for one, other, coupling in zip(names, names[1:], couplings, strict=False)
    ]
    return scenario_of(agents, channels, {"hold": hold}, batch=4)


def test_a_cohort_says_what_its_members_have_in_common() -> None:
    found = planned(ring(5, clock={"period": 2, "phase": 1, "unroll": 3}, learn=0.5))
    (cohort,) = found.cohorts
    about = cohort.about
    assert (about["network"], about["ticks"]) == ("mlp 5", "every 2, phase 1")
    assert (about["learns"], cohort.optimiser) == ("every 3 ticks, with probability 0.5", "adam 0.001")
    assert (about["objective"], cohort.parameters) == ("classification of label", OWN)
    assert [len(channels) for channels in found.channel_stacks] == [5]
    assert found.why == "all 5 agents run as 1 cohort"


def test_a_chain_without_delay_ticks_in_waves() -> None:
    scenarios = chain(*["decoupled"] * 4), chain("locked", "locked"), ring(3)
    assert [planned(scenario).waves for scenario in scenarios] == [5, 3, 1]
