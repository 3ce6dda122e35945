"""Forks and checkpoints: what a copy needs, leaves alone and keeps; what is wrong with a checkpoint."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from torch import Tensor

from antiphon import RunError, Scenario, Simulation
from tests.contracts.twins import differences, facts
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.envs.adaptors import parallel_worlds
from tests.envs.adaptors.test_gymnasium import Count


class Saved(Count):
    """The same with a state."""

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "limit": self.limit, "random": self.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.limit = state["count"], state["limit"]
        self.np_random.bit_generator.state = state["random"]


def chain(coupling: str = "locked", width: int = 5) -> Scenario:
    """a -> b, in windows of four ticks."""
    own = {"network": {"kind": "mlp", "hidden": [width]}, "clock": {"unroll": 4}}
    agents = {"a": {"observes": ["image"], **own}, "b": {"objective": CLASSIFY, **own}}
    channel = {"from": "a", "to": "b", "size": 4, "coupling": coupling, "link": {"delay": 1}}
    optimiser = {"kind": "adam", "lr": 0.01}
    return scenario_of(agents, [channel], {"hold": 2}, batch=4, steps=50, optimiser=optimiser)


def holds_graph(tensor: Tensor) -> bool:
    try:
        return not tensor.is_leaf
    except (
        RuntimeError
    ):  # a parameter of a stack's member, a view of one that has changed since: of another test
        return False


def with_graphs(others: list[Tensor]) -> list[Tensor]:
    """The tensors that hold a graph, but for others, which other tests have left."""
    gc.collect()
    known = {id(each) for each in others}
    tensors = (each for each in gc.get_objects() if isinstance(each, Tensor) and id(each) not in known)
    return [each for each in tensors if holds_graph(each)]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "coupling", ["decoupled", *(pytest.param(c, marks=pytest.mark.nightly) for c in ("locked", "delayed"))]
)
def test_no_graph_outlives_its_window_and_what_is_kept_does_not_grow(coupling: str) -> None:
    before, sizes = with_graphs([]), []
    simulation = Simulation(chain(coupling))
    for step in range(1, 25):
        simulation.step()
        if step in (12, 24):
            assert not with_graphs(before), step
        if step % 4 == 0:
            sizes.append(len(simulation.channels["a->b"].messages))
        elif step == 6:
            assert with_graphs(before)
    assert len(set(sizes[2:])) == 1


# --- data safety ---------------------------------------------------------------------------------------------


def test_a_checkpoint_replaces_a_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    run = Simulation(chain())
    path = run.save(tmp_path / "saved")
    run.run(2)
    run.save(path)
    assert Simulation.load(path).now == 2
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="already exists and is not a checkpoint"):
        run.save(mine)
    assert (mine / "thesis.txt").read_text() == "x"


# --- what is refused -------------------------------------------------------------------------------------


Document_compatibility = dict[str, Any]


def document() -> Document_compatibility:
    agents: Document_compatibility = {name: {"network": {"kind": "mlp", "hidden": [5]}} for name in "abc"}
    agents["a"]["observes"] = ["image"]
    agents["c"]["objective"] = CLASSIFY
    return {
        "scenario": "restored",
        "env": {"id": "antiphon/Digits-v0"},
        "agents": agents,
        "channels": [{"from": "a", "to": "b", "size": 4}, {"from": "b", "to": "c", "size": 4}],
        "training": {"batch": 4, "optimiser": {"kind": "adam", "lr": 0.01}},
    }


def scenario(change: Callable[[Document_compatibility], Any] = lambda d: None) -> Scenario:
    found = document()
    change(found)
    return Scenario.model_validate(found)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    run = Simulation(scenario())
    run.run(3)
    return run.save(tmp_path / "point")


def replace_c(d: Document_compatibility) -> None:
    d["agents"]["d"] = d["agents"].pop("c")
    d["channels"][1]["to"] = "d"


OTHERS: dict[str, tuple[Callable[[Document_compatibility], Any], str]] = {
    "an agent of another name": (replace_c, "channels.b->d: nothing in the state, there in the scenario"),
    "a wider network": (
        lambda d: d["agents"]["b"].update(network={"kind": "mlp", "hidden": [6]}),
        r"agents.b.parameters.0.weight: \[5, 4\] of float32 in the state, \[6, 4\] of float32 in the scenario",
    ),
    "another batch": (
        lambda d: d["training"].update(batch=8),
        r"signals.image: \[4, 1, 8, 8\] of float32 in the state, \[8, 1, 8, 8\]",
    ),
    "another coupling": (
        lambda d: d["channels"][0].update(coupling="locked"),
        "synthetic gradients.a->b: there in the state, nothing in the scenario",
    ),
    "one more channel": (
        lambda d: d["channels"].append({"from": "a", "to": "c", "size": 4}),
        "channels.a->c: nothing in the state, there in the scenario",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_scenario_names_the_first_difference(other: str, saved: Path) -> None:
    change, expected = OTHERS[other]
    with pytest.raises(RunError, match=expected) as caught:
        Simulation.load(saved, scenario(change))
    line = str(caught.value)
    assert line.startswith(f"{saved}: ")
    assert line.endswith("load the state into the scenario that it was saved from")
    assert "\n" not in line
    assert "is damaged" not in line
    assert "delete" not in line


def test_a_state_that_is_refused_changes_nothing(saved: Path) -> None:
    ours, twin = (Simulation(scenario(OTHERS["one more channel"][0]), seed=1) for _ in range(2))
    with pytest.raises(RunError, match=r"channels.a->c: nothing in the state, there in the scenario"):
        ours.running.load_state_dict(Simulation.load(saved).running.state_dict())
    assert (ours.now, ours.seed) == (0, 1)
    for each in (ours, twin):
        each.run(3)
    assert not list(differences(facts(ours), facts(twin), tolerance=0.0))


# --- worlds with a state ---------------------------------------------------------------------------------


STATELESS = """\
scenario: pole
env: {id: gymnasium/CartPole-v1, vectorization_mode: sync}
agents:
  eye: {observes: [observation]}
  player: {objective: reinforce, acts: true, clock: {unroll: 2}}
channels:
  - {from: eye, to: player, size: 2, gradient: linear}
training: {batch: 2, steps: 20}
"""
STATEFUL = (
    STATELESS.replace(
        "CartPole-v1, vectorization_mode: sync", "antiphon-test/Saved-v0, max_episode_steps: 2"
    ).replace("[observation]", "[count, bits]"),
    STATELESS.replace(
        "id: gymnasium/CartPole-v1, vectorization_mode: sync", "id: pettingzoo/saved_worlds_of_a_test"
    )
    .replace("[observation]", "[high.place]")
    .replace(
        "objective: reinforce, acts: true",
        "objective: {kind: regression, target: reward}, observes: [low.observation]",
    ),
)


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worlds under names of documents."""
    gymnasium.register("antiphon-test/Saved-v0", entry_point=Saved)
    monkeypatch.setitem(sys.modules, "saved_worlds_of_a_test", parallel_worlds)
    monkeypatch.setattr(parallel_worlds, "parallel_env", parallel_worlds.SavedMines)
    yield
    del gymnasium.registry["antiphon-test/Saved-v0"]


@pytest.mark.long
@pytest.mark.parametrize("text", STATEFUL)
def test_a_world_with_a_state_goes_on_to_the_same_bits(text: str, tmp_path: Path) -> None:
    scenario = Scenario.from_yaml(text)
    simulation = Simulation(scenario)
    simulation.run(steps=7)
    runs = (simulation, simulation.fork(), Simulation.load(simulation.save(tmp_path / "saved")))
    for run in runs:
        run.run(steps=13)
        assert not list(differences(facts(simulation), facts(run), tolerance=0.0))
        run.close()
