"""Hyperparameters that differ within a stack: each member computes what its single run computes, also once they change."""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import Any

import pytest
import torch

from antiphon import Population, Scenario, Simulation, load
from antiphon.engine.state.changes import changed
from antiphon.engine.state.hyperparameters import OF_AGENTS, OF_CHANNELS, differences_of, values_of
from tests.contracts.builders import GOAL, LABEL, OWN, Document, document, ring
from tests.contracts.library import resolved
from tests.contracts.twins import differences, facts
from tests.engine.acting import ONE, Stage
from tests.engine.numbers import all_parameters, equal, one_line
from tests.engine.scenes import ENDS, gradient, scenario_of
from tests.kit.running import stack_sizes
from tests.kit.tiers import sampled

MEMBERS = 8
STEPS = 7
TOLERANCE = 1e-10
ADAM: Document = {"kind": "adam", "lr": 0.01, "weight_decay": 0.1, "clip": 0.3}
ADAMW: Document = {**ADAM, "kind": "adamw", "schedule": {"kind": "linear"}}
SGD: Document = {"kind": "sgd", "lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "clip": 0.3}
TORCHS: Document = {"kind": "RMSprop", "lr": 0.01, "clip": 0.3}
LINK: Document = {"delay": 1, "drop": 0.4, "noise": 0.2}
INPUT: Document = {"kind": "linear", "context": ["held"], "optimiser": SGD}
SG = gradient(kind="mlp", hidden=[4], scale=0.7, discount=0.8, clip=0.05, optimiser=ADAMW)
ACTOR: Document = {"network": {"kind": "mlp", "hidden": [5], "norm": "none"}, "acts": True}


def policy(kind: str, *, channel: Document, **keys: Any) -> Scenario:
    """One that acts on what it sees and on what another tells it; with several rewards, and a weight of the whole."""
    rewards = {"reward": 1.0, "reward.m": -0.5}
    objective = {"kind": kind, "reward": rewards, "scale": 0.7, "discount": 0.9, **keys}
    agents = {
        "m": {**ACTOR, "observes": ["view"], "clock": {"unroll": 4}, "objective": objective},
        "s": {**ACTOR, "acts": False, "observes": ["place"], "clock": {"unroll": 4}},
    }
    channels = [{"from": "s", "to": "m", "size": 2, **channel}]
    env = Stage(ONE, rewards=("m",))
    return scenario_of(agents, channels, env, steps=20, optimiser={"kind": "adam", "lr": 0.01, "clip": 0.5})


@cache
def scene(name: str) -> Scenario:
    """A scenario by name."""
    several = {"objective": [LABEL, {**GOAL, "scale": 0.5}]}
    agent = {**OWN, "clock": {"unroll": 2}, "learn": 0.7}
    lossy = {"link": LINK, "input": INPUT, **SG}
    told = gradient(kind="critic", discount=0.7)
    drawn: dict[str, Any] = {
        "decoupled": ring(
            2,
            agent={**agent, "objective": {**LABEL, "scale": 0.6}, "optimiser": ADAM},
            channel=lossy,
            env=ENDS,
        ),
        "sgd": ring(
            2, agent={**agent, "learn": True}, channel={**SG, "coupling": "decoupled"}, optimiser=SGD
        ),
        "torch": ring(2, optimiser=TORCHS),
        "critic": ring(2, channel=told, optimiser=SGD),
        "locked": document(
            {"a": {**OWN, "optimiser": ADAM}, "b": {**OWN, "observes": ["y"], **several}},
            [{"from": "a", "to": "b", "size": 3, "coupling": "locked"}],
        ),
        "state": ring(
            2,
            agent={"network": {"kind": "gru", "size": 4}, "clock": {"unroll": 2}},
            channel={"coupling": "detached"},
            state=gradient(trace=0.5, horizon=2, clip=0.1, discount=0.8, scale=0.7),
        ),
    }
    if name in drawn:
        return Scenario.model_validate(drawn[name])
    if name == "feudal":
        small = {
            "room": 5,
            "limit": 9,
            "period": 2,
            "goals": 2,
            "unroll": 4,
            "width": 6,
            "batch": 4,
            "steps": 20,
        }
        return load("feudal-keydoor").resolve(None, small)
    if name == "cartpole-prior":
        return resolved(name, {"steps": 20})
    local = {"gradient": {"kind": "local_policy"}}
    decoupled, locked = {"coupling": "decoupled"}, {"coupling": "locked"}
    return {
        "ppo": lambda: policy("ppo", channel=decoupled, entropy=0.05, epochs=2, minibatches=3, clip=0.1),
        "a2c": lambda: policy("a2c", channel=local, entropy=0.05, trace=0.8, value=0.3, normalise="none"),
        "reinforce": lambda: policy("reinforce", channel=locked, entropy=0.05),
        "q": lambda: policy("q", channel=locked, trace=0.8, epsilon=0.2, explore=0),
    }[name]()


SCENES = (
    "decoupled",
    "sgd",
    "torch",
    "critic",
    "locked",
    "state",
    "ppo",
    "a2c",
    "reinforce",
    "q",
    "feudal",
    "cartpole-prior",
)


@cache
def numbers(name: str) -> dict[str, tuple[str, float]]:
    """The hyperparameters of a scene that can vary, by what `Simulation.set` calls them: the name in the list, and the value."""
    scenario = scene(name)
    with Simulation(scenario, dtype=torch.float64) as simulation:
        system = simulation.running.system
    found: dict[str, tuple[str, float]] = {}
    predicting = (
        channel for channel in system.channels.values() if channel.synthetic_gradient.model is not None
    )
    for part, known in chain(
        ((agent, OF_AGENTS) for agent in system.agents.values()),
        ((channel, OF_CHANNELS) for channel in predicting),
    ):
        for (key, one), value in zip(known.items(), values_of(part), strict=True):
            own = (
                ("*", *dir(scenario.agents[part.name].objective)) if one.path[0] == "objective" else one.path
            )
            if one.path[1:] and one.path[1] not in own:
                continue  # the kind does not have it
            each = {key: value}
            if isinstance(value, tuple):
                names = part.goal.rewards.names if key == "reward.*" else range(len(value))
                each = {key.replace("*", str(n)): own for n, own in zip(names, value, strict=True)}
            found |= {f"{part.name}.{k}": (key, v) for k, v in each.items() if v not in (None, *one.apart)}
    return found


@cache
def member(name: str, index: int) -> Scenario:
    """The scenario of a member: all hyperparameters have values of its own."""
    varied = [(key, value * (1 - 0.07 * index)) for key, (_, value) in numbers(name).items()]
    return changed(scene(name), varied)


def close(one: Simulation, other: Simulation) -> None:
    found = list(differences(facts(one), facts(other), tolerance=TOLERANCE))
    assert not found, found[:8]


@pytest.mark.parametrize("name", sampled(SCENES, 3))
def test_members_with_other_numbers_compute_what_their_single_runs_do(name: str) -> None:
    scenarios = [member(name, index) for index in range(MEMBERS)]
    with_seeds = Population(scenarios, [3 + index // 2 for index in range(MEMBERS)], dtype=torch.float64)
    assert with_seeds.sequential_reason is None
    with_seeds.run(STEPS)
    for index in (0, 3, 7):
        with Simulation(scenarios[index], seed=3 + index // 2, dtype=torch.float64) as alone:
            alone.run(STEPS)
            close(alone, with_seeds.simulations[index])
    with_seeds.close()


def test_every_hyperparameter_is_in_some_scene() -> None:
    names = ("decoupled", "locked", "ppo", "q")
    assert {key for name in names for key, _ in numbers(name).values()} == {*OF_AGENTS, *OF_CHANNELS}


@pytest.mark.parametrize("name", ["decoupled", "ppo"])
def test_equal_numbers_are_the_bits_of_seeds(name: str) -> None:
    """Also of numbers that differ between agents of one scenario."""
    (agent, channel) = (
        next(key for key in numbers(name) if ("->" in key) is there) for there in (False, True)
    )
    scenario = changed(scene(name), [(agent, 0.004), (channel, 0.2)])
    same = [scenario.with_training(steps=scenario.training.steps) for _ in range(3)]
    each = [Population(given, [3, 4, 5], dtype=torch.float64) for given in (scenario, same)]
    for seeds in each:
        seeds.run(STEPS)
    for one, other in zip(*(seeds.simulations for seeds in each), strict=True):
        assert not list(differences(facts(one), facts(other), tolerance=0.0))


@pytest.mark.long
@pytest.mark.parametrize("name", ["decoupled", "torch", "ppo"])
def test_a_member_changes_in_place_as_its_single_run_does(name: str) -> None:
    """From one number to another, from equal to different numbers, and the other way; others stay as they are."""
    seeds = Population([member(name, 0), member(name, 0), member(name, 1)], [3, 4, 3], dtype=torch.float64)
    alone = [Simulation(member(name, n), seed=s, dtype=torch.float64) for n, s in ((0, 3), (0, 4), (1, 3))]
    new = differences_of(member(name, 0), member(name, 2))
    for step in range(3):
        for each in (*alone, seeds):
            each.run(3)
        for simulation in (alone[1], seeds.simulations[1]) if step < 2 else ():
            simulation.running.set(new if step == 0 else new[:1], f"change {step}")
        for simulation in (alone[2], seeds.simulations[2]) if step == 1 else ():
            key = next(iter(numbers(name)))
            simulation.set(key, numbers(name)[key][1])
    for one, other in zip(alone, seeds.simulations, strict=True):
        close(one, other)
        assert (one.changes, one.scenario.agents, one.events) == (
            other.changes,
            other.scenario.agents,
            other.events,
        )
    with seeds.simulations[1].fork() as fork:
        assert not list(differences(facts(seeds.simulations[1]), facts(fork), tolerance=0.0))
    others = Population([member(name, 0), member(name, 0), member(name, 1)], [3, 4, 3], dtype=torch.float64)
    for one, other in zip(seeds.simulations, others.simulations, strict=True):
        other.running.load_state_dict(one.running.state_dict())
        assert other.changes == one.changes
    for each in (seeds, others):
        each.run(2)
    for one, other in zip(seeds.simulations, others.simulations, strict=True):
        assert equal(all_parameters(one), all_parameters(other))


def test_differences_are_what_set_takes() -> None:
    for name in ("decoupled", "locked", "ppo"):
        found = differences_of(scene(name), member(name, 1))
        assert {key for key, _ in found} == numbers(name).keys()
        assert not differences_of(changed(scene(name), found), member(name, 1))
    one, other = (scene("state").with_training(optimiser={"lr": rate}) for rate in (0.1, 0.2))
    assert differences_of(one, other) == [
        *((f"n{i}.learning_rate", 0.2) for i in range(2)),
        *((f"n{i}->n{i}:state.learning_rate", 0.2) for i in range(2)),
    ]


STRUCTURE = r"; this is structure, which cannot vary within a population; vary it in the `grid` of a study, or run separate "
REFUSED: dict[str, tuple[Any, str]] = {
    "batch": (
        {"batch": 8},
        r"^training\.batch: 4 and 8: this is structure, which cannot vary within a population; vary it",
    ),
    "kind": (
        {"agent": {"optimiser": {"kind": "sgd"}}},
        r"^agents\.n0\.optimiser\.kind: 'adam' and 'sgd': this is structure",
    ),
    "schedule": (
        {"agent": {"optimiser": {"schedule": "linear"}}},
        r"^agents\.n0\.optimiser\.schedule: null and ",
    ),
    "of torch": (
        {"agent": {"optimiser": {"kind": "Adam", "weight_decay": 0.1}}},
        r"optimiser\.kind: 'adam' and 'Adam'",
    ),
    "clip": (
        {"agent": {"optimiser": {"clip": 1.0}}},
        r"n0\.optimiser\.clip: null and 1\.0: n0\.optimiser\.clip varies only above 0; begin above 0$",
    ),
    "noise": (
        {"channel": {"link": {"delay": 1, "noise": 0.1}}},
        r"channels\[n0->n1\]\.link\.noise: 0\.0 and 0\.1: n0->n1\.noise varies only above 0; begin above 0$",
    ),
    "learn": (
        {"agent": {"learn": 0.5}},
        r"agents\.n0\.learn: true and 0\.5: n0\.p_update varies only between 0 and 1; begin between 0 and 1$",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_structure_is_refused(name: str) -> None:
    keys, why = REFUSED[name]
    one, other = (Scenario.model_validate(ring(2, **own)) for own in ({}, keys))
    with one_line(why):
        Population([one, other], [0, 1])


def test_of_several_seeds_only_hyperparameters_are_set() -> None:
    seeds = Population(Scenario.model_validate(ring(2)), [0, 1])
    for key, value in {
        "n0.learn": False,
        "n0.schedule": "linear",
        "n0->n1.bits": 2,
        "n0.optimiser.clip": 1.0,
    }.items():
        with one_line(
            f"set: .*{key.rpartition('.')[2]}.* cannot change in place, and this simulation is one of"
        ):
            seeds.simulations[0].set(key, value)
    assert seeds.simulations[0].changes == []
    with one_line("seeds: got"):
        Population([scene("torch")] * 2, [0, 0])


@pytest.mark.parametrize(("rates", "sizes"), [((0.1, 0.1), [4]), ((0.1, 0.2), [4]), ((0.1, None), [2, 2])])
def test_agents_are_one_stack_whose_numbers_are_equal_in_every_member(
    rates: tuple[float, float | None], sizes: list[int]
) -> None:
    """None: of two agents, only one has another rate in the second member."""
    scenario = Scenario.model_validate(ring(2))
    each = [
        changed(scenario, [("n*.learning_rate" if rate else "n0.learning_rate", rate or 0.3)])
        for rate in rates
    ]
    seeds = Population(each, [0, 1])
    assert stack_sizes(seeds.simulations[0]) == sizes
    seeds.run(2)
