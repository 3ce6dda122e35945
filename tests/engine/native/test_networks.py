"""The backend `native` computes what `cohort` computes: random rings of all it takes, and its promises."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import DivergenceError, Simulation, load
from tests.contracts import builders
from tests.contracts.builders import Document, Play, ring
from tests.contracts.twins import differences, facts, made
from tests.kit.native import needs_kernel
from tests.kit.running import native_agents

pytestmark = needs_kernel
MLP: Document = {"kind": "mlp", "hidden": [5], "norm": "layer", "activation": "tanh"}
OPTIMISERS: list[Document] = [
    {"kind": "sgd", "lr": 0.1},
    {"kind": "sgd", "lr": 0.1, "momentum": 0.5, "weight_decay": 0.1},
    {"kind": "adam", "lr": 0.01, "weight_decay": 0.1},
    {"kind": "adamw", "lr": 0.01, "weight_decay": 0.1, "clip": 0.5},
]


def random_ring(seed: int) -> Document:
    """A ring of agents that the kernel takes, wide enough for normalisations not to enlarge rounding errors."""
    chance = random.Random(seed)
    network = {
        "kind": "mlp",
        "hidden": [chance.randint(8, 70) for _ in range(chance.randint(1, 3))],
        "norm": chance.choice(["none", "layer", "batch"]),
        "activation": chance.choice(["relu", "tanh", "identity"]),
    }
    hidden = {"hidden": [4], "norm": "layer"}
    gradient = chance.choice(
        [{"kind": "linear"}, {"kind": "mlp", **hidden}, {"kind": "local", "target": "label"}]
    )
    channel = {
        "size": chance.choice([None, 6, 7, 33]),
        "gradient": {**gradient, "context": chance.choice([[], ["label"]])},
        "link": {"delay": chance.randint(1, 3), "drop": chance.choice([0.0, 0.3])},
    }
    if channel["size"]:
        channel["norm"] = chance.choice(["none", "layer", "batch"])
    agent = {
        "observes": chance.choice([["x"], ["x", "y"]]),
        "network": network,
        "optimiser": chance.choice(OPTIMISERS),
        "learn": chance.choice([1.0, 0.5]),
        "clock": {"period": chance.choice([1, 1, 2])},
    }
    env = chance.choice([Play(), Play(share=0.15, gaps=0.3)])
    batch = chance.choice([4, 5, 7, 19])
    found = ring(chance.randint(2, 5), agent=agent, channel=channel, env=env, batch=batch)
    names = list(found["agents"])
    back = {**found["channels"][0], "key": "back"}  # each reads two channels
    found["channels"] += [{**back, "from": name, "to": names[i - 1]} for i, name in enumerate(names)]
    return found


def agree(document: Document, steps: int) -> None:
    """Hold the native backend to torch over some steps."""
    one, other = (made(document, backend) for backend in ("cohort", "native"))
    assert native_agents(other)
    for _ in range(steps):
        assert not list(differences(one.step(), other.step()))
    assert not list(differences(facts(one), facts(other)))


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(n, marks=pytest.mark.nightly) for n in range(3, 20))]
)
def test_random_rings_agree_in_float64(seed: int) -> None:
    """To 1e-9, from the same state at each step: what follows from rounding errors is the scenario's affair."""
    one = made(random_ring(seed), "cohort")
    for _ in range(7):
        other = one.fork("native")
        assert native_agents(other)
        assert not list(differences(one.step(), other.step()))
        assert not list(differences(facts(one), facts(other)))


def test_what_the_kernel_has_trained_torch_evaluates() -> None:
    scenario = load("ring-of-many").resolve("decoupled", {"agents": 8, "readouts": 2, "batch": 8})
    one, other = (Simulation(scenario, backend=backend) for backend in ("cohort", "native"))
    assert native_agents(other)
    found, expected = other.evaluate("train").agents, one.evaluate("train").agents
    for name, scores in expected.items():
        assert found[name] == pytest.approx(scores)


OBJECTIVES: list[Document] = [
    {"kind": "classification", "target": "label"},
    {"kind": "classification", "target": "label", "scale": 0.3},
    {"kind": "regression", "target": "aim"},
    {"kind": "regression", "target": "goal", "scale": 2.0},
    {"kind": "classification", "target": "codes"},  # three of four classes
    {"kind": "classification", "target": "segments", "scale": 0.25},
    {"kind": "coding", "target": "label"},  # torch differentiates it
]


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    "objective", OBJECTIVES, ids=lambda one: f"{one['kind']}-{one['target']}-{one.get('weight', 1)}"
)
def test_objectives_agree(objective: Document) -> None:
    """With targets that some environments lack, and in some steps all."""
    agree(ring(3, agent={"network": MLP, "objective": objective}, env=Play(gaps=0.4)), 6)


def parameters(simulation: Simulation) -> Tensor:
    found = [p for agent in simulation.agents.values() for p in agent.parameters.values()]
    return torch.cat([p.detach().flatten().double() for p in found])


RING = ring(4, agent={"network": MLP}, channel={"link": {"delay": 1}, "gradient": {"kind": "linear"}})


def test_reading_gradients_changes_no_bit_and_they_are_those_of_torch() -> None:
    """Their norms are metrics; the kernel keeps no gradients that nobody reads."""
    watched = RING | {"telemetry": {"period": 2}}
    one, other = (made(watched, backend) for backend in ("native", "cohort"))
    quiet = made(RING, "native")
    rows = []
    for simulation in (one, other):
        history = simulation.history
        simulation.run(5)
        rows.append({row[:4]: row.value for row in history if row.metric == "gradient_norm"})
    quiet.run(5)
    assert torch.equal(parameters(one), parameters(quiet))
    assert len(rows[0]) >= 8
    assert rows[0].keys() == rows[1].keys()
    for place, norm in rows[0].items():
        assert math.isclose(norm, rows[1][place], rel_tol=1e-9)


@pytest.mark.parametrize("value", [float("nan"), 1e200])
def test_a_divergence_gives_the_same_line_and_nothing_moves(value: float) -> None:
    lines = []
    for backend in ("cohort", "native"):
        simulation = made(RING, backend)
        simulation.run(4)
        numbers = list(simulation.agents["n2"].parameters.values())
        for p in (numbers[0], numbers[-1]):
            p.data.fill_(value)
        before = parameters(simulation)
        with pytest.raises(DivergenceError) as caught:
            simulation.run(1)
        lines.append(str(caught.value))
        assert torch.equal(before.nan_to_num(7.0), parameters(simulation).nan_to_num(7.0))
    assert lines[0] == lines[1]


def test_the_same_bits_with_any_number_of_threads_and_networks() -> None:
    """Each is computed as if it were alone."""
    found = []
    for count, threads in ((4, 1), (4, 3), (2, 3)):
        agents = {
            f"n{i}": {"observes": ["x"], "network": MLP, "objective": OBJECTIVES[0]} for i in range(count)
        }
        with made(
            builders.document(agents, []), "native", dtype=torch.float32, threads=threads
        ) as simulation:
            simulation.run(4)
            assert len(native_agents(simulation)) == 1
            found.append([p.clone() for n in ("n0", "n1") for p in simulation.agents[n].parameters.values()])
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def windows(**channel: Any) -> Document:
    """A ring whose agents learn from windows of three ticks."""
    return ring(4, agent={"network": {**MLP, "norm": "batch"}, "clock": {"unroll": 3}}, channel=channel)


LOCAL = ring(4, agent={"network": MLP}, channel={"gradient": {"kind": "local", "target": "label"}})
WAYS: dict[str, Document] = {
    "locked": ring(4, agent={"network": MLP}, channel={"coupling": "locked", "link": {"delay": 1}}),
    "scaled": ring(4, agent={"network": MLP}, channel={"gradient": {"kind": "linear", "scale": 0.5}}),
    "windows": windows(gradient={"kind": "linear"}, link={"delay": 1}),
    "locked windows": windows(coupling="locked", link={"delay": 1}),
    "sweep": LOCAL | {"training": {**LOCAL["training"], "sweep": True}},
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", WAYS)
def test_every_way_back_through_the_network_agrees(name: str) -> None:
    """Once a window or several times, from its own objective and from others, with factors that differ."""
    agree(WAYS[name], 9)
