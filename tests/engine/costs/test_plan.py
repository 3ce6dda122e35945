"""Plans: who is run as one, in which order, on what, with how much work; what they say is what is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from antiphon import Scenario, Simulation, load
from antiphon.scenarios import catalogue
from tests.engine.costs.conftest import Planned
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.commands import Commands
from tests.kit.examined import planned
from tests.kit.running import stacks

LIBRARY = [name for name in catalogue() if not name.startswith("cifar10")]
"""Of those whose data are made up here."""


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
        "gradient": gradient or {},
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


# --- who is run as one ---------------------------------------------------------------------------------


def test_a_cohort_says_what_its_members_have_in_common(planned: Planned) -> None:
    found = planned(ring(5, clock={"period": 2, "phase": 1, "unroll": 3}, learn=0.5))
    (cohort,) = found["cohorts"]
    about = cohort["about"]
    assert (about["network"], about["ticks"]) == ("mlp 5", "every 2, phase 1")
    assert (about["learns"], cohort["optimiser"]) == ("every 3 ticks, with probability 0.5", "adam 0.001")
    assert (about["objective"], cohort["parameters"]) == ("classification of label", OWN)
    assert [len(channels) for channels in found["channel_stacks"]] == [5]
    assert found["why"] == "all 5 agents run as 1 cohort"


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in ("eyes", "copy", "digits-mlp") else pytest.mark.nightly)
        for n in LIBRARY
    ],
)
def test_a_plan_is_what_the_backend_does(
    name: str, planned: Planned, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is in which stack, and why not."""
    monkeypatch.setenv("ANTIPHON_DATA", str(pictures))
    found, template = planned(name), load(name)
    with Simulation(template) as simulation:
        agents, channels, alone = stacks(simulation)
    assert [tuple(cohort["agents"]) for cohort in found["cohorts"]] == agents
    assert set(map(frozenset, found["channel_stacks"])) == channels
    assert {agent: some["reason"] for some in found["alone"] for agent in some["agents"]} == alone
    for variant in [] if name == "big-corporation" else template.variants:
        found = planned(name, f"--variant {variant}")
        assert found["waves"] == len(template.resolve(variant).waves())
        assert min(found["memory"]["parameters"], found["memory"]["activations"], found["flop"]) > 0


@pytest.mark.long
def test_who_stands_alone_is_named_with_the_reason(planned: Planned, cli: Commands) -> None:
    found = planned("digits-mlp")
    assert (found["backend"], found["why"]) == ("cohort", "no agents are stacked")
    assert found["alone"] == [{"agents": ["n0", "n1", "n2", "n3"], "reason": "no other agent is like it"}]
    copier = planned("copy")
    assert (copier["why"], copier["alone"][0]["reason"]) == ("there is one agent", "it acts")
    scenario = ring(3, network={"kind": "gru", "size": 4})
    with Simulation(scenario, backend="native", logdir="native") as simulation:
        simulation.run(1)
        found = cli.json("show native")["plan"]
        if simulation.running.backend.name == "native":
            assert found["backend"] == "native"
            assert [name for some in found["by_torch"] for name in some["agents"]] == ["n000", "n001", "n002"]


@pytest.mark.parametrize("normed", [False, True])
def test_modules_whose_minibatches_replay_all_environments_are_named(normed: bool) -> None:
    def network(inputs: int, outputs: int) -> nn.Module:
        norm = nn.BatchNorm1d(3) if normed else nn.LayerNorm(3)
        return nn.Sequential(nn.Linear(inputs, 3), norm, nn.Linear(3, outputs))

    agent = {"observes": ["observation"], "acts": True, "objective": "ppo", "network": network}
    scenario = Scenario(scenario="pole", env="antiphon/CartPole-v0", agents={"a": agent})
    found = [(some.agents, some.reason) for some in planned(scenario).replayed_whole]
    assert found == ([(("a",), "a call changes its buffers (batch norm?)")] if normed else [])


def test_a_chain_without_delay_ticks_in_waves(planned: Planned) -> None:
    scenarios = chain(*["decoupled"] * 4), chain("locked", "locked"), ring(3)
    assert [planned(scenario)["waves"] for scenario in scenarios] == [5, 3, 1]


# --- work ------------------------------------------------------------------------------------------------


def test_clocks_and_rare_updates_make_a_step_cheaper(planned: Planned) -> None:
    scenarios = ring(4), ring(4, clock={"period": 4}), ring(4, learn=0.1), ring(16)
    full, quarter, part, many = (planned(scenario)["flop"] for scenario in scenarios)
    assert quarter == pytest.approx(full / 4)
    assert full / 3 < part < full
    assert many == 4 * full


def pairs(size: Any, sites: bool | None) -> Scenario:
    """Two equal pairs whose messages have 96 components, conditioned on the label."""
    gradient = {"kind": "linear", "context": ["label"], "sites": sites}
    agents: dict[str, Any] = {f"a{i}": {"observes": ["image"], "network": {"hidden": [6]}} for i in range(2)}
    agents |= {f"b{i}": {"network": {"hidden": [6]}, "objective": CLASSIFY} for i in range(2)}
    channels = [{"from": f"a{i}", "to": f"b{i}", "size": size, "gradient": gradient} for i in range(2)]
    return scenario_of(agents, channels)


def slow(coupling: str, *periods: int) -> Scenario:
    """A chain of agents that tick at every step, and after the first one as rarely as these."""
    scenario = chain(*[coupling] * len(periods), hold=8, clock={"period": 1})
    agents = dict(scenario.agents)
    for name, period in zip(list(agents)[1:], periods, strict=True):
        agents[name] = agents[name].model_copy(
            update={"clock": agents[name].clock.model_copy(update={"period": period})}
        )
    return scenario.model_copy(update={"agents": agents})


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
    # of the messages to a slow receiver only those that it reads bring a gradient
    "slow receiver": (slow("decoupled", 2), 0.03),
    "delayed to a slow receiver": (slow("delayed", 4), 0.0),
    "slow in turn": (slow("locked", 2, 1), 0.0),
    "state": (ring(3, network={"kind": "gru", "size": 4}, clock={"unroll": 1}), 0.0),
    # a window's last tick has no later ones to differentiate
    "windows": (load("two-timescales").resolve(None, {"hidden": 8, "batch": 4}), 0.06),
    # one message of six is void
    "void": (load("corporation").resolve(None, {"data": "digits", "agents": 8, "readouts": 2, "batch": 4}), 0.2),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.nightly if n in ("windows", "void") else ()) for n in COUNTED]
)
def test_the_flop_of_a_step_are_those_that_torch_counts(name: str, planned: Planned) -> None:
    scenario, off = COUNTED[name]
    steps = 48 if off else 12
    with Simulation(scenario) as simulation:
        for _ in range(steps):  # by hand: metrics cost FLOP too
            simulation.step()
        with FlopCounterMode(display=False) as counter:
            for _ in range(steps):
                simulation.step()
    counted = counter.get_total_flops() / steps
    assert planned(scenario)["flop"] == pytest.approx(counted, rel=off or 1e-9)


def test_work_is_counted_once_for_each_channel_not_for_each_path() -> None:
    """Thirty agents, each of which sends to all later ones, are joined by half a billion paths."""
    names = [f"n{i}" for i in range(30)]
    agents: dict[str, Any] = {name: {"network": {"hidden": [2]}} for name in names}
    agents["n0"]["observes"] = ["image"]
    agents["n29"]["objective"] = CLASSIFY
    pairs_of_names = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    channels = [
        {"from": a, "to": b, "size": 1, "port": "out", "coupling": "locked"} for a, b in pairs_of_names
    ]
    assert planned(scenario_of(agents, channels, batch=2)).flop > 0


def noisy_ring() -> Scenario:
    """A ring of a user's module."""

    def noisy(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, 7), nn.Dropout(0.5), nn.Linear(7, outputs))

    return ring(3, network=noisy)


@pytest.mark.long
def test_users_modules_and_statistics_of_a_batch_are_counted(planned: Planned) -> None:
    found = planned("tests.engine.costs.test_plan:noisy_ring")
    (alone,) = found["alone"]
    assert "random" in alone["reason"]
    assert found["memory"]["parameters"] == 4 * 3 * (12 * 7 + 7 + 7 * 13 + 13)
    assert found["flop"] > 0
    kept = [
        planned(f"digits-mlp --set width=8 --set batch={batch}")["memory"]["activations"]
        for batch in (16, 32, 48)
    ]
    assert kept[2] - kept[1] == kept[1] - kept[0]
    assert kept[1] < 2 * kept[0]  # statistics are saved once, however large the batch is
