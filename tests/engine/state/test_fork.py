"""Forks and checkpoints: a copy goes on to the same bits, wherever in a window, an episode or a link it was taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.envs import from_tensors
from antiphon.errors import RunError
from antiphon.scenarios import Scenario

Document = dict[str, Any]
SMALL = {"kind": "mlp", "hidden": [5]}
GOAL = {"kind": "classification", "target": "label"}


def document(channels: list[Document], env: Document | None = None, **agents: Document) -> Document:
    """Three agents; a sees the picture, c is told the label."""
    base: Document = {"a": {"observes": ["image"]}, "b": {}, "c": {"objective": GOAL}}
    return {
        "scenario": "fork",
        "env": {"id": "antiphon/Digits-v0", **(env or {})},
        "agents": {name: {"network": SMALL, **base[name], **agents.get(name, {})} for name in base},
        "channels": channels,
        "training": {"batch": 4, "steps": 50, "optimiser": {"kind": "adam", "lr": 0.01}},
    }


def chain(env: Document | None = None, agents: dict[str, Document] | None = None, **channel: Any) -> Document:
    """a -> b -> c, all channels alike."""
    channels = [{"from": s, "to": r, "size": 4, **channel} for s, r in ("ab", "bc")]
    return document(channels, env, **(agents or {}))


def unrolled(unroll: int | str, period: int = 1) -> dict[str, Document]:
    return {name: {"clock": {"unroll": unroll, "period": period}} for name in "abc"}


CYCLE = [
    {"from": s, "to": r, "size": 4, "norm": "layer", "link": {"delay": 1}}
    for s, r in ("ab", "bc", "ca", "ba")
]
CONTEXT = {"kind": "mlp", "hidden": [6], "context": ["label"]}
ALIGNED = {"b": {"align": True}, "c": {"align": True}}
CASES: dict[str, Document] = {
    "windows of 4 ticks": chain(agents=unrolled(4), gradient=CONTEXT),
    "locked windows of 4 ticks": chain(agents=unrolled(4), coupling="locked"),
    "locked group of unequal clocks": chain(
        agents={"a": {"clock": {"period": 2}}, "b": {"clock": {"period": 3, "phase": -1}}}, coupling="locked"
    ),
    "episode, locked cycle": document(
        [{**c, "coupling": "locked"} for c in CYCLE], {"hold": 6, "episode": "example"}, **unrolled("episode")
    ),
    "episode, decoupled cycle": document(CYCLE, {"hold": 6, "episode": "example"}, **unrolled("episode")),
    "held example": document(CYCLE, {"hold": 6}),
    "long links": chain(link={"delay": 3}, gradient=CONTEXT),
    "lossy links": chain(link={"delay": 2, "drop": 0.5}, agents=unrolled(3), gradient=CONTEXT),
    "lossy links, episodes": chain({"hold": 3, "episode": "example"}, link={"delay": 1, "drop": 0.5}),
    "tapes that wait": chain(coupling="delayed", link={"delay": 2}, agents=unrolled(2)),
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
    "aligned": chain(link={"delay": 2}, agents=ALIGNED),
    "aligned, locked": chain(
        link={"delay": 2},
        coupling="locked",
        agents=unrolled(4) | {"b": {"clock": {"unroll": 4}, "align": True}},
    ),
    "other clocks": chain(
        agents={"b": {"clock": {"period": 3, "phase": -1, "unroll": 2}}, "c": {"clock": {"period": 2}}}
    ),
    "momentum and schedule": chain(agents={"b": {"optimiser": {"kind": "sgd", "lr": 0.1, "momentum": 0.9}}}),
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number of a state, by its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        yield f"{path}#", len(value)
        for i, item in enumerate(value):
            yield from leaves(item, f"{path}/{i}")
    else:
        yield path, value


def state(simulation: Simulation) -> dict[str, Any]:
    return dict(leaves(checkpoint.copy_tree(simulation.state_dict())))


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for place, value in ours.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, theirs[place]), place
        else:
            assert value == theirs[place], place


def make(case: str) -> Simulation:
    return Simulation(Scenario.model_validate(CASES[case]), seed=5)


@pytest.mark.parametrize("case", CASES)
def test_loaded_and_forked_runs_go_on_to_the_same_bits(case: str, tmp_path: Path) -> None:
    unbroken = make(case)
    run = make(case)
    ends: list[tuple[Simulation, str]] = []
    for step in range(14):
        if step in (1, 2, 5, 9, 13):
            before = state(run)
            ends.append((run.fork(), f"fork at {step}"))
            ends.append((Simulation.load(run.save(tmp_path / f"{step}")), f"load at {step}"))
            assert_equal(state(run), before)
        run.step()
        unbroken.step()
    expected = state(unbroken)
    assert_equal(state(run), expected)
    for simulation, _ in ends:
        simulation.run(14 - simulation.now)
        assert_equal(state(simulation), expected)


def test_a_fork_leaves_its_parent_alone() -> None:
    parent = make("held example")
    parent.run(4)
    before = state(parent)
    twin = parent.fork()
    twin.run(10)
    assert_equal(state(parent), before)
    assert any(
        not torch.equal(p, twin.agents["a"].parameters[k]) for k, p in parent.agents["a"].parameters.items()
    )


def test_a_fork_of_a_fork_in_mid_window_is_whole() -> None:
    run = make("locked windows of 4 ticks")
    run.run(6)
    twin = run.fork().fork()
    run.run(6)
    twin.run(6)
    assert_equal(state(twin), state(run))


def test_a_scenario_of_python_objects_is_loaded_with_it(tmp_path: Path) -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    env = from_tensors(x=x, label=(x[:, 0] > 0).long())
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
    )
    agents = {"a": {"observes": ["x"], "network": net, "objective": GOAL, "clock": {"unroll": 3}}}
    scenario = Scenario.model_validate(
        {"scenario": "own", "env": env, "agents": agents, "training": {"batch": 4}}
    )
    run = Simulation(scenario)
    run.run(4)
    path = run.save(tmp_path / "saved")
    with pytest.raises(RunError, match=r"holds Python objects; load it with scenario=") as caught:
        Simulation.load(path)
    assert "\n" not in str(caught.value)
    loaded = Simulation.load(path, scenario)
    run.run(5)
    loaded.run(5)
    assert_equal(state(loaded), state(run))


class Walkers(VectorEnv[Any, Any, Any]):
    """Independent walks that end at different times: what no stream of examples does."""

    def __init__(self, count: int) -> None:
        self.num_envs = count
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = Box(-100.0, 100.0, (2,), np.float32)
        self.single_action_space = Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self.at = np.zeros((count, 2), np.float32)
        self.clock = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.at, self.clock = np.zeros((self.num_envs, 2), np.float32), 0
        return self.at.copy(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.clock += 1
        lanes = np.arange(self.num_envs)
        self.at += np.stack([np.sin(self.clock + lanes), np.cos(self.clock * lanes)], 1).astype(np.float32)
        ended = self.clock % (lanes + 2) == 0
        last = self.at.copy()
        self.at[ended] = 0
        info = {"final_obs": list(last), "_final_obs": ended} if ended.any() else {}
        return self.at.copy(), last[:, 0], ended, np.zeros_like(ended), info

    def state_dict(self) -> dict[str, Any]:
        return {"at": torch.from_numpy(self.at.copy()), "clock": self.clock}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        self.at, self.clock = found["at"].numpy().copy(), found["clock"]


def walking(unroll: int) -> Simulation:
    goal = {"kind": "regression", "target": "reward"}
    agents = {
        "a": {"observes": ["observation"], "network": SMALL, "clock": {"period": 3, "unroll": unroll}},
        "b": {"network": SMALL, "objective": goal, "clock": {"unroll": unroll}},
    }
    channels = [
        {"from": "a", "to": "b", "size": 3, "gradient": {"context": ["reward"]}},
        {"from": "b", "to": "b", "size": 3, "link": {"delay": 3}},
    ]
    scenario = {"scenario": "walk", "env": Walkers(4), "agents": agents, "channels": channels}
    return Simulation(Scenario.model_validate({**scenario, "training": {"batch": 4}}))


@pytest.mark.parametrize("unroll", [1, 4])
def test_episodes_that_end_apart_survive_fork_and_checkpoint(unroll: int, tmp_path: Path) -> None:
    unbroken = walking(unroll)
    unbroken.run(20)
    for early in range(1, 13):
        run = walking(unroll)
        run.run(early)
        before = state(run)
        twin = run.fork()
        twin.run(20 - early)
        assert_equal(state(run), before)  # the environment too: one serves one simulation
        loaded = Simulation.load(run.save(tmp_path / f"{early}"), walking(unroll).scenario)
        loaded.run(20 - early)
        run.run(20 - early)
        for simulation in (run, twin, loaded):
            assert_equal(state(simulation), state(unbroken))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


DAMAGE: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "no tensors": ("state.safetensors", Path.unlink, "no checkpoint there"),
    "no manifest": ("state.json", Path.unlink, "neither a checkpoint nor a run with one"),
    "half the tensors": ("state.safetensors", truncate, "damaged"),
    "half the manifest": ("state.json", truncate, "damaged"),
    "noise for tensors": ("state.safetensors", lambda p: p.write_bytes(b"\xff" * 99), "damaged"),
    "noise for a manifest": ("state.json", lambda p: p.write_bytes(b"\xff\x00"), "damaged"),
    "a list for a manifest": ("state.json", lambda p: p.write_text("[1]"), "damaged"),
    "newer": ("state.json", edit(format=99), "newer than 1; use a newer antiphon"),
    "no state": ("state.json", edit(state={}), "damaged"),
    "no such dtype": ("state.json", edit(dtype="floaty"), "damaged"),
    "no seed": (
        "state.json",
        lambda p: p.write_text('{"format": 1, "scenario": null, "state": {}}'),
        "damaged",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_one_clear_line(damage: str, tmp_path: Path) -> None:
    path = make("held example").save(tmp_path / "saved")
    file, act, expected = DAMAGE[damage]
    act(path / file)
    with pytest.raises(RunError) as caught:
        Simulation.load(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value).removeprefix(str(path))  # the path has the word of this test's name
    assert "\n" not in str(caught.value)


def test_tensors_of_another_run_are_refused(tmp_path: Path) -> None:
    one = make("held example").save(tmp_path / "one")
    other = Scenario.model_validate(
        chain(agents={n: {"network": {"kind": "mlp", "hidden": [7]}} for n in "abc"})
    )
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
