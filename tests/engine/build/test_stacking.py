"""Which agents are computed as one stack, as a plan shows it, why others stand alone; the work of building grows with their number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from antiphon.engine.metrics.description import about_agent
from antiphon.scenarios import Scenario
from tests.contracts.builders import GOAL, LABEL, OWN, Document, document, levels, ring
from tests.engine.scenes import CLASSIFY, gradient, scenario_of
from tests.kit import examined

ALIGNED: Document = {"align": True, "observes": ["x"]}
CRITIC = gradient(kind="critic", hidden=[4], norm="layer")
LEVELS = ("a0 a1 a2", "b0 b1 b2")


def planned(scene: Document) -> Any:
    return examined.planned(Scenario.model_validate(scene))


def plain(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs))


class Inspection(nn.Module):
    """Looks at its numbers, which vmap refuses."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.map = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.map(x)
        return y if float(y.sum().detach()) > 0 else -y


def mixed() -> Document:
    """Alike but for names, keys, ports, and which signals of one shape they observe."""
    agents = {f"n{i}": {**OWN, "objective": LABEL, "observes": ["xz"[i % 2]]} for i in range(3)}
    link = {"size": 4, "link": {"delay": 1}, **gradient()}
    ends = [{"from": "n0", "to": "n1"}, {"from": "n1", "to": "n2", "port": "p"}]
    return document(agents, [{**end, **link} for end in (*ends, {"from": "n2", "to": "n0", "key": "k"})])


def waves() -> Document:
    """x is later than y in a step, and else like it."""
    agents = {name: {**OWN, "objective": LABEL} for name in ("s", "t", "u", "x", "y")}
    return document(agents, [{"from": a, "to": b, "size": 4} for a, b in ("st", "tx", "uy")])


STACKED: dict[str, tuple[Document, tuple[str, ...]]] = {
    "what makes no difference": (mixed(), ("n0 n1 n2",)),
    "levels": (levels(), LEVELS),
    "another wave": (waves(), ("s u",)),
    "aligned": (levels(high=ALIGNED, channel={"link": {"delay": 1}}), LEVELS),
    "ages": (levels(high={"observes": ["age"]}), LEVELS),
    "modules": (ring(agent={"network": plain}), ("n0 n1 n2 n3",)),
}


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", STACKED)
def test_agents_alike_are_one_stack(name: str) -> None:
    scene, expected = STACKED[name]
    assert sorted(" ".join(agent.name for agent in cohort) for cohort in planned(scene).cohorts) == sorted(
        expected
    )


def judged_group() -> Document:
    """Receivers of critics that are locked to one more agent each."""
    scene = levels(channel=CRITIC)
    scene["agents"] |= {f"c{i}": {**OWN, "objective": LABEL} for i in range(3)}
    scene["channels"] += [{"from": f"b{i}", "to": f"c{i}", "coupling": "locked"} for i in range(3)]
    return scene


ALONE: dict[str, tuple[Document, str, str]] = {
    "one of its kind": (waves(), "x", "no other agent is like it"),
    "tied": (ring(agent={"share": "g"}, channel={"port": "p"}), "n0", "tied"),
    "late": (ring(channel={"coupling": "delayed"}), "n0", "delayed gradients"),
    "acting": (ring(agent=[{"objective": GOAL, "acts": True}, *[{"objective": GOAL}] * 3]), "n0", "acts"),
    "aligned, lossy": (levels(high=ALIGNED, channel={"link": {"drop": 0.5}}), "b0", "which message arrived"),
    "critics of groups": (judged_group(), "b0", "critics"),
    "no vmap": (ring(agent={"network": Inspection}), "n0", ""),
}


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", ALONE)
def test_why_an_agent_is_alone(name: str) -> None:
    scene, agent, why = ALONE[name]
    found = planned(scene)
    (reason,) = [reason for reason, names in found.alone.items() if agent in names]
    assert why in reason
    assert not any(agent == each.name for cohort in found.cohorts for each in cohort)


# --- plans -----------------------------------------------------------------------------------------------


def ring_plan(agents: int, **node: Any) -> Scenario:
    """A ring, small: messages of 3 with delay 1, observations of 9, ten classes."""
    names = [f"n{i:03}" for i in range(agents)]
    own = {"network": {"kind": "mlp", "hidden": [5], "norm": "none"}, "objective": CLASSIFY, **node}
    way = {
        "size": 3,
        "port": "out",
        "norm": "none",
        "link": {"delay": 1},
        "gradient": "linear",
    }
    return scenario_of(
        {name: {"observes": [f"patch_{i % 4}"], **own} for i, name in enumerate(names)},
        [{"from": a, "to": b, **way} for a, b in zip(names, [*names[1:], names[0]], strict=True)],
        {"patches": 4},
        batch=4,
    )


OWN_PLAN = (9 + 3) * 5 + 5 + 5 * 10 + 10 + 5 * 3 + 3
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


def test_agents_and_channels_of_one_kind_are_a_stack_each() -> None:
    scenario = ring_plan(5, clock={"period": 2, "phase": 1, "unroll": 3}, learn=0.5)
    found = examined.planned(scenario)
    (cohort,) = found.cohorts
    assert (len(cohort), sum(p.numel() for p in cohort[0].learner.parameters.values())) == (5, OWN_PLAN)
    about = about_agent(scenario, "n000")
    assert (about["network"], about["ticks"]) == ("mlp, hidden: [5], norm: none", "every 2, phase 1")
    assert about["learns"] == "every 3 ticks, with probability 0.5"


def test_a_chain_without_delay_ticks_in_waves() -> None:
    scenarios = chain(*["decoupled"] * 4), chain("locked", "locked"), ring_plan(3)
    assert [len(scenario.relations.waves) for scenario in scenarios] == [5, 3, 1]
