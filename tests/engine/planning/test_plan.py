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

from antiphon.engine.build.builder import build, build_to_look
from antiphon.engine.build.stacking import stack
from antiphon.engine.capture.conditions import OF_BACKENDS
from antiphon.engine.planning import plan as plans
from antiphon.engine.planning.cost_model import CostModel
from antiphon.engine.planning.plan import plan, stacked
from antiphon.engine.simulation import Simulation
from antiphon.envs import describe, from_tensors
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario, catalogue, load
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


# --- the library -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIBRARY)
def test_a_plan_is_what_the_backend_does(name: str) -> None:
    scenario = LIBRARY[name].resolve()
    system = build(scenario, describe(scenario.env), seed=0, device=torch.device("cpu"), dtype=torch.float32)
    found = plan(scenario, system=system)
    assert found.backend == "cohort"
    stacked = stack(system)
    cohorts = [
        tuple(m.name for m in agent.members) for agent in stacked.system.agents.values() if agent.stacked
    ]
    channel_stacks = {
        tuple(sorted(channel.name for channel in several.members))
        for several in stacked.system.channels.values()
        if several.members[0] is not several
    }
    assert [cohort.agents for cohort in found.cohorts] == cohorts
    assert {tuple(sorted(one.channels)) for one in found.channel_stacks} == channel_stacks
    assert {agent: alone.reason for alone in found.alone for agent in alone.agents} == stacked.alone


@pytest.mark.parametrize("name", LIBRARY)
def test_every_variant_has_a_plan(name: str) -> None:
    template = LIBRARY[name]
    for variant in [None] if name == "big-corporation" else template.variants:
        found = plan(template.resolve(variant))
        assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["memory"]["total"] > 0
        assert found.waves.count == len(template.resolve(variant).waves())
        assert found.memory.parameters > 0
        assert found.memory.activations > 0
        assert found.flop > 0


# --- who is run as one -----------------------------------------------------------------------------------


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


def test_who_stands_alone_is_named_with_the_reason() -> None:
    found = plan(load("digits-mlp").resolve())
    assert (found.backend, found.why) == ("cohort", "no two agents can be run as one")
    assert found.alone == (plans.Alone(("n0", "n1", "n2", "n3"), "no other is like it"),)
    copier = plan(load("copy").resolve())
    assert (copier.why, copier.alone[0].reason) == ("there is one agent", "it acts")


def test_users_modules_are_counted_and_their_reasons_told() -> None:
    def noisy(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, 7), nn.Dropout(0.5), nn.Linear(7, outputs))

    found = plan(ring(3, network=noisy))
    (alone,) = found.alone
    assert "random" in alone.reason
    assert found.memory.parameters == 4 * 3 * (6 * 7 + 7 + 7 * 6 + 6)
    assert found.flop > 0


def test_a_module_that_refuses_zeros_is_counted_roughly() -> None:
    class Choosy(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.layer = nn.Linear(inputs, outputs)
            self.asked = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.requires_grad:
                raise ValueError("not today")
            y: torch.Tensor = self.layer(x)
            return y

    def choosy(inputs: int, outputs: int) -> nn.Module:
        return Choosy(inputs, outputs)

    found = plan(ring(2, network=choosy))
    assert found.flop > 2 * 6 * 4 * 36
    assert found.memory.activations > 0


def test_the_backend_that_was_asked_for_is_named_as_such() -> None:
    assert (
        plan(ring(4), backend="reference").why
        == "it was asked for; with cohort, all 4 agents run as 1 cohort"
    )
    asked = plan(load("digits-mlp").resolve(), backend="reference")
    assert (asked.backend, asked.why) == ("reference", "it was asked for")
    with pytest.raises(ScenarioError, match="did you mean 'cohort'"):
        plan(ring(4), backend="cohrt")


# --- waves -----------------------------------------------------------------------------------------------


def test_why_a_gpu_takes_steps_one_by_one_is_in_the_plan() -> None:
    scenario = ring(4)
    assert plan(scenario).one_by_one is None
    for backend, reason in OF_BACKENDS.items():
        assert plan(scenario, backend=backend).one_by_one == reason
    often = scenario.model_copy(update={"telemetry": scenario.telemetry.model_copy(update={"every": 1})})
    assert plan(often).one_by_one == (
        "figures are taken in every period of its schedule (telemetry.every: 1, a period: 1)"
    )


def test_a_chain_without_delay_ticks_in_waves() -> None:
    waves = plan(chain("decoupled", "decoupled", "decoupled", "decoupled")).waves
    assert (waves.count, waves.chain, waves.locked) == (5, True, False)
    assert waves.channels == ("a->b", "b->c", "c->d", "d->e")
    assert plan(chain("locked", "locked")).waves.locked


def test_one_wave_needs_no_word() -> None:
    waves = plan(ring(3)).waves
    assert (waves.count, waves.chain, waves.channels) == (1, False, ())


# --- work and time ---------------------------------------------------------------------------------------


def costs(scenario: Scenario) -> CostModel:
    return CostModel(build_to_look(scenario, describe(scenario.env)))


def test_the_work_of_a_network_is_that_of_its_products() -> None:
    rows, seen, heads = 4, 6, 3 + 3  # three of its observation and three of the message; objective and port
    for coupling, returns in (("detached", 0), ("decoupled", 1)):
        scenario = ring(3, coupling=coupling)
        model = costs(scenario)
        cost = model.network(model.system.agents["n000"])
        assert cost.forward == 2 * rows * (seen * 5 + 5 * heads)
        assert cost.backward == 2 * rows * (seen * 5 * (1 + returns) + 2 * 5 * heads)
        assert cost.saved == 4 * rows * (seen + 5)  # what each map reads; the activation is the second's


def test_a_frozen_network_has_no_gradients_of_its_parameters() -> None:
    scenario = ring(3)
    agents = {
        name: spec.model_copy(update={"learn": name != "n001"}) for name, spec in scenario.agents.items()
    }
    model = costs(scenario.model_copy(update={"agents": agents}))
    learning, frozen = (model.network(model.system.agents[name]).backward for name in ("n000", "n001"))
    assert frozen == 2 * 4 * (6 * 5 + 5 * 6)
    assert learning == 2 * frozen


def test_statistics_of_a_batch_are_saved_once_however_large_it_is() -> None:
    saved = []
    for batch in (16, 32, 48):
        model = costs(load("digits-mlp").resolve(None, {"batch": batch, "width": 8}))
        saved.append(model.network(model.system.agents["n1"]).saved)
    assert saved[2] - saved[1] == saved[1] - saved[0]
    assert saved[1] < 2 * saved[0]


def test_a_system_without_numbers_is_counted_too() -> None:
    model = costs(load("digits-mlp").resolve(None, {"width": 20_000, "batch": 2}))
    assert all(number.is_meta for number in model.system.agents["n1"].learner.parameters.values())
    assert model.network(model.system.agents["n1"]).forward == 2 * 2 * 20_000**2


def test_a_predictor_costs_its_products_and_is_left_as_it_is() -> None:
    scenario = ring(2, gradient={"kind": "mlp", "hidden": [7]})
    system = build(scenario, describe(scenario.env), seed=0, device=torch.device("cpu"), dtype=torch.float32)
    agents = sum(CostModel(system).network(agent).forward for agent in system.agents.values())
    agents += sum(CostModel(system).network(agent).backward for agent in system.agents.values())
    predictor = system.channels["n000->n001"].predictor
    assert predictor is not None
    before = {name: value.clone() for name, value in (predictor.parameters | predictor.buffers).items()}
    maps = 3 * 7 + 7 * 3
    assert CostModel(system).flop() - agents == 2 * 2 * 4 * (
        maps + maps + maps + 7 * 3
    )  # twice forward, then back
    after = predictor.parameters | predictor.buffers
    assert all(torch.equal(after[name], value) for name, value in before.items())


def pairs(size: Any, sites: bool | None) -> Scenario:
    """Two equal pairs whose messages have 96 components, conditioned on the label."""
    gradient = {"kind": "linear", "context": ["label"], "sites": sites}
    agents: dict[str, Any] = {f"a{i}": {"observes": ["image"], "network": {"hidden": [6]}} for i in range(2)}
    agents |= {f"b{i}": {"network": {"hidden": [6]}, "objective": CLASSIFY} for i in range(2)}
    ends = [{"from": f"a{i}", "to": f"b{i}"} for i in range(2)]
    return scenario_of(agents, [{**end, "size": size, "gradient": gradient} for end in ends])


@pytest.mark.parametrize(
    ("size", "sites", "count", "own"),
    [([24, 4], None, 24, 4), ([4, 4, 6], True, 24, 4), ([24, 4], False, 1, 96), (96, None, 1, 96)],
)
def test_a_predictor_of_sites_costs_the_products_of_all_of_them(
    size: Any, sites: bool | None, count: int, own: int
) -> None:
    scenario = pairs(size, sites)
    model = costs(scenario)
    agents = sum(model.network(agent).forward for agent in model.system.agents.values())
    agents += sum(model.network(agent).backward for agent in model.system.agents.values())
    rows = scenario.training.batch * count
    assert model.flop() - agents == 2 * 2 * 2 * rows * (own + 10) * own  # of both: predicted, then back
    (stack,) = plan(scenario).channel_stacks
    assert stack.gradient == ("linear" if count == 1 else "linear at every site")


def test_clocks_and_rare_updates_make_a_step_cheaper() -> None:
    every, rare, seldom = ring(4), ring(4, clock={"period": 4}), ring(4, p_update=0.1)
    full, quarter, part = (plan(scenario).flop for scenario in (every, rare, seldom))
    assert quarter == pytest.approx(full / 4)
    assert full / 3 < part < full
    assert plan(ring(16)).flop == 4 * full


STEPS = 48


@pytest.mark.parametrize(
    ("scenario", "off"),
    [
        (ring(12), 0.0),
        (ring(4, clock={"period": 4}), 0.0),
        (load("digits-mlp").resolve(), 0.0),
        (load("digits-mlp").resolve("locked"), 0.0),
        (chain("delayed", "delayed"), 0.0),
        (
            load("two-timescales").resolve(None, {"hidden": 8, "batch": 4}),
            0.06,
        ),  # a window's last tick has no later ones to differentiate
        (
            load("corporation").resolve(None, {"data": "digits", "agents": 8, "readouts": 2}),
            0.2,
        ),  # one message of six is void
    ],
)
def test_the_flop_of_a_step_are_those_that_torch_counts(scenario: Scenario, off: float) -> None:
    with Simulation(scenario) as simulation:
        simulation.run(steps=STEPS)
        with FlopCounterMode(display=False) as counter:
            simulation.run(steps=STEPS)
    counted = counter.get_total_flops() / STEPS
    assert plan(scenario).flop == pytest.approx(counted, rel=off or 1e-9)


def test_cohorts_and_bundles_hold_all_that_are_alike() -> None:
    scenario = ring(6)
    agents, channels, reasons = stacked(build_to_look(scenario, describe(scenario.env)))
    assert ([len(each) for each in agents], [len(each) for each in channels], reasons) == ([6], [6], {})
