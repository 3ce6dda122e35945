"""Plans: who is run as one, in which order, on what, with how much memory and time; what they say is what is done."""

from __future__ import annotations

import json
from typing import Any

import networkx as nx
import pytest
import torch
from torch import nn

from antiphon.agents.mlp import Mlp
from antiphon.agents.network import Head
from antiphon.engine.build.outline import build_to_look
from antiphon.engine.build.stacking import stack
from antiphon.engine.planning import plan as plans
from antiphon.engine.planning.cost_model import CPU, GPU, Load, Loads, seconds
from antiphon.engine.planning.operations import Work, of_network, of_predictor
from antiphon.engine.planning.plan import Plan, arranged, plan
from antiphon.engine.planning.stopwatch import measure
from antiphon.engine.simulation import Simulation
from antiphon.envs import describe, from_tensors
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario, catalogue, load

LIBRARY = catalogue()
GOAL = {"kind": "regression", "target": "wanted"}


def ring(agents: int, **node: Any) -> Scenario:
    """A ring as in the benchmarks, small: messages of 3 with delay 1, observations and targets of 3."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    names = [f"n{i:03}" for i in range(agents)]
    network = {"kind": "mlp", "hidden": [5], "norm": "none"}
    for name in names:
        graph.add_node(name, **{"observes": ["seen"], "network": network, "objective": GOAL, **node})
    for one, other in zip(names, [*names[1:], names[0]], strict=True):
        graph.add_edge(one, other, size=3, port="out", norm="none", link={"delay": 1})
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
    agents[names[-1]]["objective"] = {"kind": "classification", "target": "label"}
    channels = [
        {"from": one, "to": other, "size": 6, "coupling": coupling}
        for one, other, coupling in zip(names, names[1:], couplings, strict=False)
    ]
    env = {"id": "antiphon/Digits-v0", "hold": hold}
    return Scenario.model_validate(
        {"scenario": "chain", "env": env, "agents": agents, "channels": channels, "training": {"batch": 4}}
    )


# --- the library -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIBRARY)
def test_a_plan_is_what_the_backend_does(name: str) -> None:
    scenario = LIBRARY[name].resolve()
    system = build_to_look(scenario, describe(scenario.env))
    found = plan(scenario, system=system)
    assert found.backend == "cohort"
    stacked = stack(system)
    cohorts = [
        tuple(m.name for m in agent.members) for agent in stacked.system.agents.values() if agent.stacked
    ]
    bundles = {
        tuple(sorted(channel.name for channel in several.members))
        for several in stacked.system.channels.values()
        if several.members[0] is not several
    }
    assert [cohort.agents for cohort in found.cohorts] == cohorts
    assert {tuple(sorted(bundle.channels)) for bundle in found.bundles} == bundles
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
        assert 0.1 < found.estimated_ms["reference"] < 60_000
        assert found.device.operations > 10


# --- who is run as one -----------------------------------------------------------------------------------


def test_a_cohort_says_what_its_members_have_in_common() -> None:
    found = plan(ring(5, clock={"period": 2, "phase": 1, "unroll": 3}, p_update=0.5))
    (cohort,) = found.cohorts
    assert (cohort.network, cohort.ticks, cohort.optimiser) == ("mlp 5", "every 2, phase 1", "adam 0.001")
    assert (cohort.learns, cohort.objective) == ("each 3 ticks, p 0.5", "regression of wanted")
    assert cohort.parameters == 6 * 5 + 5 + 2 * (5 * 3 + 3)
    (bundle,) = found.bundles
    assert (len(bundle.channels), bundle.coupling, bundle.gradient) == (5, "decoupled", "linear")
    assert (bundle.input, bundle.size, bundle.sender, bundle.receiver) == (None, 3, "n000", "n000")
    assert found.why == "all 5 agents run as 1 cohort"


def test_who_stands_alone_is_named_with_the_reason() -> None:
    found = plan(load("digits-mlp").resolve())
    assert (found.backend, found.why) == ("reference", "no two agents can be run as one")
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
    assert found.device.flop > 0


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
    assert found.device.flop > 2 * 6 * 4 * 36
    assert found.memory.activations > 0


def test_the_backend_that_was_asked_for_is_named_as_such() -> None:
    assert (
        plan(ring(4), backend="reference").why
        == "it was asked for; with cohort, all 4 agents run as 1 cohort"
    )
    asked = plan(load("digits-mlp").resolve(), backend="cohort")
    assert (asked.backend, asked.why) == ("cohort", "it was asked for; no two agents are alike")
    with pytest.raises(ScenarioError, match="did you mean 'cohort'"):
        plan(ring(4), backend="cohrt")


# --- waves -----------------------------------------------------------------------------------------------


def test_a_chain_that_would_gain_by_a_delay_is_told_so() -> None:
    scenario = chain("decoupled", "decoupled", "decoupled", "decoupled")
    waves = plan(scenario).waves
    assert (waves.count, waves.chain, waves.locked) == (5, True, False)
    assert waves.channels == ("a->b", "b->c", "c->d", "d->e")
    assert waves.remedy == (
        "delay 1 on them would make it one wave, and its agents run in 3 instead of 5 calls"
    )


def test_without_a_gain_it_says_so_and_where_readers_must_be_aligned_that() -> None:
    assert plan(chain("decoupled")).waves.remedy == (
        "delay 1 on it would make it one wave, but no more of its agents alike"
    )
    assert plan(chain("decoupled", hold=1)).waves.remedy == (
        "delay 1 on it, their readers aligned, would make it one wave, but no more of its agents alike"
    )


def test_a_delay_that_loses_credit_is_no_remedy() -> None:
    waves = plan(chain("locked", "locked")).waves
    assert (waves.count, waves.locked, waves.remedy) == (3, True, None)
    both = plan(chain("locked", "decoupled", "decoupled")).waves
    assert both.remedy is not None
    assert both.remedy.startswith("delay 1 on b->c, c->d would make it 2 waves")


def test_one_wave_needs_no_word() -> None:
    waves = plan(ring(3)).waves
    assert (waves.count, waves.chain, waves.channels, waves.remedy) == (1, False, (), None)


# --- work and time ---------------------------------------------------------------------------------------


def test_the_work_of_a_network_is_that_of_its_products() -> None:
    network = Mlp((4,), (5,), (Head("objective", (3,)),), norm="none")
    numbers = network.parameters(torch.Generator())
    rows = 7
    for returns in (False, True):
        forwards, backwards = of_network(network, numbers, {}, rows, torch.float32, returns=returns)
        assert forwards.flop == 2 * rows * (4 * 5 + 5 * 3)
        assert backwards.flop == 2 * rows * (4 * 5 * (1 + returns) + 2 * 5 * 3)
        assert forwards.operations == 3  # two linear maps and an activation
        assert forwards.held == 4 * rows * (4 + 5)  # what each map reads; the activation is the second's


def test_a_large_network_is_counted_without_its_numbers() -> None:
    network = Mlp((5000,), (5000,), (Head("objective", (3,)),), norm="none")
    with torch.device("meta"):
        numbers = network.parameters(torch.Generator())
    forwards, _ = of_network(network, numbers, {}, 2, torch.float32, returns=False)
    assert forwards.flop == 2 * 2 * (5000 * 5000 + 5000 * 3)


def test_a_linear_predictor_costs_its_products_and_keeps_its_numbers() -> None:
    scenario = ring(2)
    system = build_to_look(scenario, describe(scenario.env))
    predictor = system.channels["n000->n001"].predictor
    assert predictor is not None
    before = predictor.parameters
    rows = 10
    work = of_predictor(predictor, rows)
    assert work.flop == 3 * 2 * rows * 3 * 3  # said, said again to learn, and the weights' gradient
    assert predictor.parameters is before
    assert predictor.trainable == list(before.values())


def test_as_one_costs_as_many_operations_and_more_of_the_rest() -> None:
    one = Work(3, 4, 5, 6)
    assert one.together(10) == Work(3, 40, 50, 60)
    assert one + one * 2 == one * 3
    small, large = (plan(ring(n)) for n in (4, 16))
    assert small.device.operations == large.device.operations
    assert large.device.flop == 4 * small.device.flop
    assert large.estimated_ms["cohort"] < 2 * small.estimated_ms["cohort"]
    assert large.estimated_ms["reference"] == pytest.approx(4 * small.estimated_ms["reference"], rel=0.1)


def test_clocks_and_rare_updates_make_a_step_cheaper() -> None:
    every, rare, seldom = ring(4), ring(4, clock={"period": 4}), ring(4, p_update=0.1)
    full, quarter, part = (plan(s, backend="reference").device for s in (every, rare, seldom))
    assert quarter.operations == pytest.approx(full.operations / 4)
    assert quarter.flop == pytest.approx(full.flop / 4)
    assert full.flop / 3 < part.flop < full.flop


def test_a_device_is_judged_by_the_work_of_a_step() -> None:
    idle = Work(operations=1000)
    assert seconds(Load(0, 0, idle), GPU) > seconds(Load(0, 0, idle), CPU)
    busy = Work(operations=10, flop=1e12)
    assert seconds(Load(0, 0, busy), GPU) < seconds(Load(0, 0, busy), CPU)
    small = plan(ring(2)).device
    assert small.name == "cpu"
    assert "a GPU would be slower at this size" in small.why
    assert "operations a step" in small.why
    large = plan(load("cifar10-cnn").resolve()).device
    assert "a GPU may be about" in large.why
    assert large.gpu_ms > 0


def test_a_short_run_measures_both_backends() -> None:
    found = measure(ring(3), ["cohort", "reference"], seconds=0.02)
    assert list(found) == ["cohort", "reference"]
    assert all(0.05 < ms < 1000 for ms in found.values())
    whole: Plan = plan(ring(3)).with_measured(found)
    assert whole.as_dict()["measured_ms"] == found


# --- what it counts is what there is ---------------------------------------------------------------------


def test_the_operations_of_a_step_are_about_as_many_as_torch_does() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += not operation.is_view
            return operation(*args, **(kwargs or {}))

    for scenario in (ring(12), load("digits-mlp").resolve(), load("two-timescales").resolve()):
        with Simulation(scenario) as simulation:
            simulation.run(steps=32)
            with Counting() as counting:
                simulation.run(steps=32)
        said = plan(scenario).device.operations
        assert 0.6 < said / (counting.count / 32) < 1.6, scenario.scenario


def test_cohorts_and_bundles_are_counted_as_one() -> None:
    scenario = ring(6)
    system = build_to_look(scenario, describe(scenario.env))
    together, reasons = arranged(system)
    assert ([len(a) for a in together.agents], [len(b) for b in together.bundles], reasons) == ([6], [6], {})
    load_of_it = Loads(system).of(together)
    assert (load_of_it.ticks, load_of_it.messages) == (1, 1)
