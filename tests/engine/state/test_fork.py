"""Forks and checkpoints: a copy goes on to the same bits, wherever in a window, an episode or a link it was taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.envs import from_tensors
from antiphon.errors import RunError
from antiphon.scenarios import Scenario
from tests.engine.numbers import assert_same_state, equal, kept, one_line, parameters
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.engine.walks import Walk, walking

Document = dict[str, Any]
SMALL = {"kind": "mlp", "hidden": [5]}


def document(channels: list[Document], env: Document | None = None, **agents: Document) -> Scenario:
    """Three agents; a sees the picture, c is told the label."""
    base: Document = {"a": {"observes": ["image"]}, "b": {}, "c": {"objective": CLASSIFY}}
    whole = {name: {"network": SMALL, **base[name], **agents.get(name, {})} for name in base}
    return scenario_of(whole, channels, env, batch=4, steps=50, optimiser={"kind": "adam", "lr": 0.01})


def chain(env: Document | None = None, agents: dict[str, Document] | None = None, **channel: Any) -> Scenario:
    """a -> b -> c, all channels alike."""
    channels = [{"from": s, "to": r, "size": 4, **channel} for s, r in ("ab", "bc")]
    return document(channels, env, **(agents or {}))


def unrolled(unroll: int | str, period: int = 1) -> dict[str, Document]:
    return {name: {"clock": {"unroll": unroll, "period": period}} for name in "abc"}


CYCLE = [
    {"from": s, "to": r, "size": 4, "norm": "layer", "link": {"delay": 1}}
    for s, r in ("ab", "bc", "ca", "ba")
]
CASES: dict[str, Scenario] = {
    "locked windows of 4 ticks": chain(agents=unrolled(4), coupling="locked"),
    "locked group of unequal clocks": chain(
        agents={"a": {"clock": {"period": 2}}, "b": {"clock": {"period": 3, "phase": -1}}}, coupling="locked"
    ),
    "episode, locked cycle": document(
        [{**c, "coupling": "locked"} for c in CYCLE], {"hold": 6, "episode": "example"}, **unrolled("episode")
    ),
    "held example": document(CYCLE, {"hold": 6}),
    "tied in two waves": document(
        [
            {"from": "a", "to": "b", "size": 4, "port": "p"},
            {"from": "b", "to": "c", "size": 4, "port": "p"},
            {"from": "b", "to": "a", "size": 4, "port": "p", "link": {"delay": 1}},
        ],
        a={"share": "g", "observes": ["left_half"], "clock": {"unroll": 3}},
        b={"share": "g", "observes": ["right_half"], "clock": {"unroll": 3}},
    ),
    "tapes that grow stale": document([{**c, "coupling": "delayed", "staleness": 3} for c in CYCLE]),
    "aligned, locked": chain(
        link={"delay": 2},
        coupling="locked",
        agents=unrolled(4) | {"b": {"clock": {"unroll": 4}, "align": True}},
    ),
    "momentum": chain(agents={"b": {"optimiser": {"kind": "sgd", "lr": 0.1, "momentum": 0.9}}}),
}
"""What tests/contracts, which try all couplings and links, try at random alone."""


def make(case: str) -> Simulation:
    return Simulation(CASES[case], seed=5)


@pytest.mark.parametrize("case", CASES)
def test_loaded_and_forked_runs_go_on_to_the_same_bits(case: str, tmp_path: Path) -> None:
    unbroken, run = make(case), make(case)
    ends: list[Simulation] = []
    for step in range(14):
        if step in (2, 5, 9):
            before = kept(run._state_dict())
            ends += [run.fork(), Simulation.load(run.save(tmp_path / f"{step}"))]
            assert_same_state(run, before)
        run.step()
        unbroken.step()
    for simulation in (run, *ends):
        simulation.run(14 - simulation.now)
        assert_same_state(simulation, unbroken)


def test_a_fork_leaves_its_parent_alone() -> None:
    parent = make("held example")
    parent.run(4)
    before = kept(parent._state_dict())
    twin = parent.fork()
    twin.run(10)
    assert_same_state(parent, before)
    assert not equal(parameters(parent, "a"), parameters(twin, "a"))


def test_a_fork_of_a_fork_in_mid_window_is_whole() -> None:
    run = make("locked windows of 4 ticks")
    run.run(6)
    twin = run.fork().fork()
    run.run(6)
    twin.run(6)
    assert_same_state(twin, run)


def test_a_scenario_of_python_objects_is_loaded_with_it(tmp_path: Path) -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    env = from_tensors(x=x, label=(x[:, 0] > 0).long())
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
    )
    agents = {"a": {"observes": ["x"], "network": net, "objective": CLASSIFY, "clock": {"unroll": 3}}}
    scenario = scenario_of(agents, env=env, batch=4)
    run = Simulation(scenario)
    run.run(4)
    path = run.save(tmp_path / "saved")
    with one_line(r"holds Python objects; load it with scenario=", RunError):
        Simulation.load(path)
    loaded = Simulation.load(path, scenario)
    run.run(5)
    loaded.run(5)
    assert_same_state(loaded, run)


@pytest.mark.parametrize("unroll", [1, 4])
def test_episodes_that_end_apart_survive_fork_and_checkpoint(unroll: int, tmp_path: Path) -> None:
    def start() -> Simulation:
        return Simulation(walking(Walk(4, ends=True), unroll=unroll, period=3))

    unbroken = start()
    unbroken.run(20)
    for early in (1, 2, 5, 7, 12):
        run = start()
        run.run(early)
        before = kept(run._state_dict())
        twin = run.fork()
        twin.run(20 - early)
        assert_same_state(run, before)  # the environment too: one serves one simulation
        loaded = Simulation.load(run.save(tmp_path / f"{early}"), start().scenario)
        loaded.run(20 - early)
        run.run(20 - early)
        for simulation in (run, twin, loaded):
            assert_same_state(simulation, unbroken)


def test_tensors_of_another_run_are_refused(tmp_path: Path) -> None:
    one = make("held example").save(tmp_path / "one")
    other = chain(agents={n: {"network": {"kind": "mlp", "hidden": [7]}} for n in "abc"})
    two = Simulation(other).save(tmp_path / "two")
    (two / "state.safetensors").replace(one / "state.safetensors")
    with pytest.raises(RunError, match=r"damaged|checksum"):
        Simulation.load(one)


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a checkpoint nor a run with one"):
        Simulation.load(tmp_path / "nowhere")


def test_a_checkpoint_replaces_a_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    run = make("held example")
    path = run.save(tmp_path / "saved")
    run.run(2)
    run.save(path)
    assert Simulation.load(path).now == 2
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="is there and no checkpoint"):
        run.save(mine)
    assert (mine / "thesis.txt").read_text() == "x"


def test_nothing_half_written_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make("held example")
    path = run.save(tmp_path / "saved")
    run.step()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(RunError, match=r"cannot be written \(No space left on device\)"):
            run.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]
    assert Simulation.load(path).now == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        run.save(tmp_path / "file" / "saved")


def test_the_newest_checkpoint_of_a_run_is_taken(tmp_path: Path) -> None:
    run = make("held example")
    for step in (2, 10):
        run.run(step - run.now)
        run.save(tmp_path / "checkpoints" / f"step-{step:09d}")
    assert Simulation.load(tmp_path).now == 10
