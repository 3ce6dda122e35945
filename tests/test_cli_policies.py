"""Agents that act, as a user runs them: the same bits again, many at once, and one line for what cannot be."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from antiphon import Scenario, Simulation
from antiphon.engine.runs.seeds import Seeds
from tests.commands import Commands

SMALL: dict[str, Any] = {"kind": "mlp", "hidden": [6], "norm": "none", "activation": "tanh"}
TEAM: dict[str, Any] = {
    "scenario": "team",
    "env": {"id": "antiphon/CartPole-v0"},
    "agents": {
        "sensor": {"observes": ["observation"], "network": SMALL, "clock": {"unroll": 4}},
        "motor": {
            "network": SMALL,
            "clock": {"unroll": 4},
            "acts": True,
            "objective": {
                "kind": "ppo",
                "reward": {"reward": 0.05},
                "epochs": 2,
                "minibatches": 2,
                "critic": {"observes": ["observation"], "network": {"hidden": [5], "norm": "none"}},
            },
        },
    },
    "channels": [
        {
            "from": "sensor",
            "to": "motor",
            "size": 2,
            "norm": "none",
            "gradient": {"kind": "linear", "context": ["observation"]},
        }
    ],
    "training": {"batch": 4, "steps": 24, "optimiser": {"kind": "adam", "lr": 0.003}},
    "telemetry": {"every": 4},
}
CREDITS: dict[str, dict[str, Any]] = {
    "decoupled": {},
    "locked": {"coupling": "locked"},
    "detached": {"coupling": "detached"},
    "local_policy": {"gradient": {"kind": "local_policy"}},
    "critic": {"gradient": {"kind": "sobolev", "hidden": [8], "norm": "layer"}},
}


def _team(credit: str = "decoupled", **objective: Any) -> dict[str, Any]:
    document = copy.deepcopy(TEAM)
    document["channels"][0] |= CREDITS[credit]
    document["agents"]["motor"]["objective"] |= objective
    return document


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)


def _written(document: dict[str, Any]) -> Path:
    Path("team.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return Path("team.yaml")


# --- the same bits again -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cohort", pytest.param("reference", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("credit", CREDITS)
def test_a_run_that_was_interrupted_is_the_run_that_was_not(
    folder: Path, cli: Commands, backend: str, credit: str
) -> None:
    path = _written(_team(credit))
    cli("run", path, f"--logdir runs --name whole --backend {backend}")
    cli("run", path, f"--logdir runs --name parts --backend {backend} --steps 10")
    cli("resume runs/parts --steps 24")
    assert "The runs are equal to the last bit." in cli("diff runs/whole runs/parts")


# --- many at once --------------------------------------------------------------------------------------------


def _parameters(simulation: Simulation) -> dict[str, torch.Tensor]:
    agents = simulation._system.agents.items()
    return {f"{name} {key}": p.detach() for name, a in agents for key, p in a.learner.parameters.items()}


@pytest.mark.parametrize("credit", CREDITS)
def test_a_population_is_one_program_and_each_of_it_is_a_run_of_its_own(credit: str) -> None:
    """64 pairs that balance poles: a stack of sensors, one of motors; each learns what it learns alone."""
    scenario = Scenario.model_validate(_team(credit))
    seeds = Seeds(scenario, range(64), dtype=torch.float64)
    assert seeds.sequential_reason is None
    seeds.run(steps=9)
    for seed in (0, 41, 63):
        with Simulation(scenario, seed=seed, dtype=torch.float64) as alone:
            alone.run(steps=9)
            found = _parameters(seeds.simulations[seed])
            torch.testing.assert_close(found, _parameters(alone), rtol=1e-9, atol=1e-9)
            each = (seeds.simulations[seed].world.figures(), alone.world.figures())
            assert each[0] == each[1]
    seeds.close()


# --- from Python -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize("credit", CREDITS)
def test_a_fork_goes_on_as_the_run_it_is_of(credit: str, backend: str) -> None:
    with Simulation(Scenario.model_validate(_team(credit)), backend=backend) as simulation:
        simulation.run(steps=6)
        with simulation.fork() as fork:
            simulation.run(steps=7)
            fork.run(steps=7)
            assert all(torch.equal(p, _parameters(simulation)[name]) for name, p in _parameters(fork).items())
            assert fork.world.figures() == simulation.world.figures()


@pytest.mark.parametrize("credit", CREDITS)
def test_both_engines_do_and_learn_the_same(credit: str) -> None:
    found = []
    for backend in ("reference", "cohort"):
        scenario = Scenario.model_validate(_team(credit))
        with Simulation(scenario, backend=backend, dtype=torch.float64) as simulation:
            simulation.run(steps=20)
            found.append((_parameters(simulation), simulation.world.figures()))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-7, atol=1e-8)
    assert found[0][1] == found[1][1]


def test_a_policy_is_exported_without_its_critic(folder: Path, cli: Commands) -> None:
    cli("run", _written(_team()), "--logdir runs --name team")
    with Simulation.resume("runs/team") as team:
        program = torch.export.load(team.export("team.pt2")).module()
        observation = torch.linspace(-0.1, 0.1, 8).view(1, 2, 4)
        outputs = team.compose(agents=["motor"])(observation=observation)
        assert outputs[0]["motor"].shape == (1, 2, 2)
        assert not any("critic" in name for name in program.state_dict())
        assert "critic.value.weight" in team.agents["motor"].parameters


def test_a_policy_is_taken_by_another_run_with_its_critic_or_without(folder: Path, cli: Commands) -> None:
    cli("run", _written(_team()), "--logdir runs --name team")
    same, headed = _team(), _team()
    same["agents"]["motor"]["weights"] = "runs/team:motor"
    del headed["agents"]["motor"]["objective"]["critic"]
    with Simulation.resume("runs/team") as team, Simulation(Scenario.model_validate(same)) as other:
        taken = {name: p for name, p in _parameters(team).items() if name.startswith("motor")}
        own = _parameters(other)
        assert "motor critic.0.weight" in taken
        assert all(torch.equal(p, own[name]) for name, p in taken.items())
    with Simulation(Scenario.model_validate(headed)) as other:
        found = other.load_weights("runs/team")
        assert found.left["motor"] == {
            "value.weight": "the run's agent has none",
            "value.bias": "the run's agent has none",
        }
        own = _parameters(other)
        assert all(torch.equal(p, own[name]) for name, p in taken.items() if "critic" not in name)
    headed["agents"]["motor"]["weights"] = "runs/team:motor"
    assert "parameters value.weight None, this agent needs" in cli.refused("run", _written(headed))


# --- what cannot be ------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], object]


def _goal(**keys: Any) -> Change:
    return lambda document: document["agents"]["motor"]["objective"].update(keys)


def _motor(**keys: Any) -> Change:
    return lambda document: document["agents"]["motor"].update(keys)


def _channel(**keys: Any) -> Change:
    return lambda document: document["channels"][0].update(keys)


WRONG: dict[str, tuple[Change, str]] = {
    "a kind that is none": (_goal(kind="pppo"), "did you mean 'ppo'?"),
    "a target": (
        _goal(target="position"),
        "agents.motor.objective.target: ppo learns from rewards and has no target",
    ),
    "a reward that is none": (_goal(reward={"rewrd": 1}), "no signal 'rewrd'; did you mean 'reward'?"),
    "a reward that is an observation": (_goal(reward="position"), "agents.motor.objective.reward: "),
    "a reward of words": (_goal(reward={"reward": "much"}), "agents.motor.objective.reward"),
    "a discount above 1": (
        _goal(discount=1.5),
        "agents.motor.objective.discount: must be at most 1, not 1.5",
    ),
    "a clip of nothing": (_goal(clip=0), "agents.motor.objective.clip: must be greater than 0, not 0"),
    "epochs that are no number": (
        _goal(epochs="many"),
        "agents.motor.objective.epochs: must be a whole number",
    ),
    "more minibatches than environments": (
        _goal(minibatches=9),
        "agents.motor.objective.minibatches: 9 minibatches",
    ),
    "a clip of a2c": (_goal(kind="a2c", clip=0.2), "agents.motor.objective: clip is not used by a2c"),
    "a critic of reinforce": (
        _goal(kind="reinforce"),
        "agents.motor.objective.critic: reinforce learns no value",
    ),
    "a critic of nothing": (_goal(critic={"observes": []}), "agents.motor.objective.critic.observes"),
    "a critic of outcomes": (_goal(critic={"observes": ["reward"]}), "'reward' is known only after the step"),
    "a critic with a state": (
        _goal(critic={"observes": ["observation"], "network": "gru"}),
        "agents.motor.objective.critic.network.kind: ",
    ),
    "a window of one tick": (_motor(clock={"unroll": 1}), "agents.motor.clock.unroll: "),
    "nobody acts": (_motor(acts=False), "agents.motor.objective: a policy (ppo) needs something to do"),
    "a part that is none": (
        _motor(acts="wheel"),
        "agents.motor.acts: 'wheel' is a part of a Dict of actions",
    ),
    "batch norm": (
        _motor(network={"kind": "mlp", "norm": "batch"}),
        "agents.motor.network.norm: batch norm has other",
    ),
    "batch norm of a critic": (
        _goal(critic={"observes": ["observation"], "network": {"hidden": [4], "norm": "batch"}}),
        "agents.motor.objective.critic.network.norm: batch norm has other",
    ),
    "two actors": (
        lambda document: document["agents"]["sensor"].update(acts=True, objective={"kind": "a2c"}),
        "acts already",
    ),
    "an unknown option": (_goal(lamda=0.9), "agents.motor.objective.lamda: unknown key 'lamda'"),
    "a goal without a reward": (
        _goal(goal={"channel": "sensor->motor", "signal": "observation"}),
        "agents.motor.objective.goal: ",
    ),
    "local_policy over a delay": (
        _channel(gradient={"kind": "local_policy"}, link={"delay": 1}),
        "channels[0].gradient.kind: local_policy needs what the receiver returns at the same step",
    ),
    "a world that is none": (
        lambda document: document["env"].update(id="antiphon/CartPol-v0"),
        "did you mean 'antiphon/CartPole-v0'",
    ),
    "a world's option that is none": (
        lambda document: document["env"].update(limits=100),
        "env.limits: unknown key; did you mean 'limit'?",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_one_line_that_names_the_place(name: str, folder: Path, cli: Commands) -> None:
    change, line = WRONG[name]
    document = _team()
    change(document)
    for command in ("run", "check"):
        words = [command, str(_written(document)), *(["--logdir", "runs"] if command == "run" else [])]
        assert cli.code(words) == 2 if command == "run" else cli.code(words) != 0
        printed = cli.out + cli.err
        assert line in printed, printed
        assert "Traceback" not in printed
        assert len(cli.err.splitlines()) <= 1 or command == "check"
    assert not Path("runs").exists()
