"""Plans: who is run as one, in which order, on what, with how much memory and time; what they say is what is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import networkx as nx
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from antiphon.engine.build.builder import build
from antiphon.engine.build.stacking import stack
from antiphon.engine.planning import plan as plans
from antiphon.engine.planning.plan import plan
from antiphon.engine.simulation import Simulation
from antiphon.envs import describe, from_tensors
from antiphon.scenarios import Scenario, catalogue, load
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of

LIBRARY = catalogue()
GOAL = {"kind": "regression", "target": "wanted"}


def ring(
    agents: int, *, coupling: str = "decoupled", gradient: Mapping[str, Any] | None = None, **node: Any
) -> Scenario:
    """A ring as in the benchmarks, small: messages of 3 with delay 1, observations and targets of 3."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    names = [f"n{i:03}" for i in range(agents)]
    network = {"kind": "mlp", "hidden": [5], "norm": "none"}
    for name in names:
        graph.add_node(name, **{"observes": ["seen"], "network": network, "objective": GOAL, **node})
    for one, other in zip(names, [*names[1:], names[0]], strict=True):
        how = {"coupling": coupling, "gradient": dict(gradient or {})}
        graph.add_edge(one, other, size=3, port="out", norm="none", link={"delay": 1}, **how)
    return from_graph(graph)


def from_graph(graph: nx.DiGraph[str], batch: int = 4) -> Scenario:
    shown = torch.zeros(8, 3), torch.ones(8, 3)
    env = from_tensors(seen=shown[0], wanted=shown[1], training_only=["wanted"], test=0.0, validation=0.0)
    return Scenario.from_graph(graph, scenario="ring", env=env, training={"batch": batch})


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


# --- who is run as one ---------------------------------------------------------------------------------


def test_a_cohort_says_what_its_members_have_in_common() -> None:
    found = plan(ring(5, clock={"period": 2, "phase": 1, "unroll": 3}, p_update=0.5))
    (cohort,) = found.cohorts
    assert (cohort.network, cohort.ticks, cohort.optimiser) == ("mlp 5", "every 2, phase 1", "adam 0.001")
    assert (cohort.learns, cohort.objective) == ("each 3 ticks, p 0.5", "regression of wanted")
    assert cohort.parameters == 6 * 5 + 5 + 2 * (5 * 3 + 3)
    (one,) = found.channel_stacks
    assert (len(one.channels), one.coupling, one.gradient) == (5, "decoupled", "linear")
    assert (one.input, one.size, one.sender, one.receiver) == (None, 3, "n000", "n000")
    assert found.why == "all 5 agents run as 1 cohort"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("eyes", "copy", "digits-mlp") else pytest.mark.long) for n in LIBRARY],
)
def test_a_plan_is_what_the_backend_does(name: str) -> None:
    """Who is in which stack, and why not: read from the stacks themselves (engine.build.stacking)."""
    scenario = LIBRARY[name].resolve()
    system = build(scenario, describe(scenario.env), seed=0, device=torch.device("cpu"), dtype=torch.float32)
    found, stacked = plan(scenario, system=system), stack(system)
    agents = [one for one in stacked.system.agents.values() if one.stacked]
    channels = [one for one in stacked.system.channels.values() if one.members[0] is not one]
    assert [cohort.agents for cohort in found.cohorts] == [
        tuple(m.name for m in one.members) for one in agents
    ]
    assert {frozenset(one.channels) for one in found.channel_stacks} == {
        frozenset(member.name for member in one.members) for one in channels
    }
    assert {agent: alone.reason for alone in found.alone for agent in alone.agents} == stacked.alone
    for variant in [None] if name == "big-corporation" else LIBRARY[name].variants:
        found = plan(LIBRARY[name].resolve(variant))
        assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["memory"]["total"] > 0
        assert found.waves.count == len(LIBRARY[name].resolve(variant).waves())
        assert min(found.memory.parameters, found.memory.activations, found.flop) > 0


def test_who_stands_alone_is_named_with_the_reason() -> None:
    found = plan(load("digits-mlp").resolve())
    assert (found.backend, found.why) == ("cohort", "no two agents can be run as one")
    assert found.alone == (plans.Alone(("n0", "n1", "n2", "n3"), "no other is like it"),)
    copier = plan(load("copy").resolve())
    assert (copier.why, copier.alone[0].reason) == ("there is one agent", "it acts")
    line = "it was asked for; with cohort, all 4 agents run as 1 cohort"
    assert plan(ring(4), backend="reference").why == line
    asked = plan(load("digits-mlp").resolve(), backend="reference")
    assert (asked.backend, asked.why) == ("reference", "it was asked for")
    with one_line("did you mean 'cohort'"):
        plan(ring(4), backend="cohrt")


def test_a_chain_without_delay_ticks_in_waves() -> None:
    waves = plan(chain(*["decoupled"] * 4)).waves
    assert (waves.count, waves.chain, waves.locked) == (5, True, False)
    assert waves.channels == ("a->b", "b->c", "c->d", "d->e")
    assert plan(chain("locked", "locked")).waves.locked
    alone = plan(ring(3)).waves
    assert (alone.count, alone.chain, alone.channels) == (1, False, ())


# --- work ------------------------------------------------------------------------------------------------


def test_clocks_and_rare_updates_make_a_step_cheaper() -> None:
    every, rare, seldom = ring(4), ring(4, clock={"period": 4}), ring(4, p_update=0.1)
    full, quarter, part = (plan(scenario).flop for scenario in (every, rare, seldom))
    assert quarter == pytest.approx(full / 4)
    assert full / 3 < part < full
    assert plan(ring(16)).flop == 4 * full


def pairs(size: Any, sites: bool | None) -> Scenario:
    """Two equal pairs whose messages have 96 components, conditioned on the label."""
    gradient = {"kind": "linear", "context": ["label"], "sites": sites}
    agents: dict[str, Any] = {f"a{i}": {"observes": ["image"], "network": {"hidden": [6]}} for i in range(2)}
    agents |= {f"b{i}": {"network": {"hidden": [6]}, "objective": CLASSIFY} for i in range(2)}
    channels = [{"from": f"a{i}", "to": f"b{i}", "size": size, "gradient": gradient} for i in range(2)]
    return scenario_of(agents, channels)


SMALL = {"width": 8, "batch": 4}
COUNTED: dict[str, tuple[Scenario, float]] = {
    "ring": (ring(3), 0.0),
    # the part of a layer that makes a detached message has no gradients
    "detached": (ring(3, coupling="detached"), 0.3),
    "frozen": (ring(3, learn=False), 0.0),
    "mlp": (ring(2, gradient={"kind": "mlp", "hidden": [7]}), 0.0),
    "sites": (pairs([24, 4], None), 0.0),
    "site": (pairs([24, 4], False), 0.0),
    "period": (ring(4, clock={"period": 4}), 0.0),
    "digits": (load("digits-mlp").resolve(None, SMALL), 0.0),
    "locked": (load("digits-mlp").resolve("locked", SMALL), 0.0),
    "delayed": (chain("delayed", "delayed"), 0.0),
    # a window's last tick has no later ones to differentiate
    "windows": (load("two-timescales").resolve(None, {"hidden": 8, "batch": 4}), 0.06),
    # one message of six is void
    "void": (load("corporation").resolve(None, {"data": "digits", "agents": 8, "readouts": 2, "batch": 4}), 0.2),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long if n in ("windows", "void") else ()) for n in COUNTED]
)
def test_the_flop_of_a_step_are_those_that_torch_counts(name: str) -> None:
    scenario, off = COUNTED[name]
    steps = 48 if off else 12
    with Simulation(scenario) as simulation:
        simulation.run(steps=steps)
        with FlopCounterMode(display=False) as counter:
            simulation.run(steps=steps)
    counted = counter.get_total_flops() / steps
    assert plan(scenario).flop == pytest.approx(counted, rel=off or 1e-9)


def test_users_modules_and_statistics_of_a_batch_are_counted() -> None:
    def noisy(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, 7), nn.Dropout(0.5), nn.Linear(7, outputs))

    found = plan(ring(3, network=noisy))
    (alone,) = found.alone
    assert "random" in alone.reason
    assert found.memory.parameters == 4 * 3 * (6 * 7 + 7 + 7 * 6 + 6)
    assert found.flop > 0
    kept = [
        plan(load("digits-mlp").resolve(None, {"batch": batch, "width": 8})).memory.activations
        for batch in (16, 32, 48)
    ]
    assert kept[2] - kept[1] == kept[1] - kept[0]
    assert kept[1] < 2 * kept[0]  # statistics are saved once, however large the batch is
