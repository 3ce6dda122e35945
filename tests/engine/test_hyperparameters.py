"""Hyperparameters that differ within a stack: each member computes what its single run computes, also once they change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch

from antiphon import Population, Scenario, Simulation, load
from tests.contracts.builders import GOAL, LABEL, OWN, Document, document, ring
from tests.contracts.library import resolved
from tests.contracts.twins import differences, facts
from tests.engine.acting import ONE, Stage
from tests.engine.scenes import ENDS, gradient, scenario_of
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
SG = gradient(kind="mlp", hidden=[4], scale=0.7, discount=0.8, optimiser=ADAMW)
ACTOR: Document = {"network": {"kind": "mlp", "hidden": [5], "norm": "none"}, "acts": True}


def policy(kind: str, *, channel: Document, **keys: Any) -> Scenario:
    """One that acts on what it sees and on what another tells it; with several rewards, and a weight of the whole."""
    rewards = {"reward": 1.0, "reward.m": -0.5}
    objective = {"kind": kind, "reward": rewards, "scale": 0.7, "discount": 0.9, **keys}
    agents = {
        "m": {**ACTOR, "observes": ["view"], "clock": {"unroll": 4}, "objective": objective},
        "s": {**ACTOR, "acts": False, "observes": ["place"], "clock": {"unroll": 4}},
    }
    channels = [{"from": "s", "to": "m", "size": 2, "gradient": "linear", **channel}]
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
            state=gradient(discount=0.8, scale=0.7),
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
    decoupled, locked = {"coupling": "decoupled"}, {"coupling": "locked"}
    return {
        "ppo": lambda: policy("ppo", channel=decoupled, entropy=0.05, epochs=2, minibatches=3, clip=0.1),
        "a2c": lambda: policy("a2c", channel=decoupled, entropy=0.05, trace=0.8, value=0.3, normalise="none"),
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


Place = tuple[str | int, ...]
OF_OBJECTIVES = ("scale", "discount", "trace", "entropy", "value", "clip", "epsilon")


def numbers_of(scenario: Scenario) -> dict[str, tuple[Place, Any]]:
    """The settings of a scenario that can vary, by what `Simulation.set` calls them: the place in it, and the value."""
    found: dict[str, tuple[Place, Any]] = {}

    def add(place: Place, spec: Any, keys: Mapping[str, str]) -> None:
        found.update(
            {f"{name}.{key}": ((*place, own), getattr(spec, own, None)) for key, own in keys.items()}
        )

    def trained(place: Place, spec: Any, prefix: str = "") -> None:
        keys = {"learning_rate": "lr", "optimiser.clip": "clip", "optimiser.weight_decay": "weight_decay"}
        add((*place, "optimiser"), spec.optimiser, {prefix + key: own for key, own in keys.items()})

    for name, agent in scenario.agents.items():
        place: Place = ("agents", name)
        trained(place, agent)
        add(place, agent, {"p_update": "learn"})
        for number, one in enumerate(agent.objectives.values() if agent.objective is None else ()):
            add((*place, "written_objective", number), one, {f"scale.{number}": "scale"})
        if agent.objective is not None:
            add((*place, "written_objective"), agent.objective, {key: key for key in OF_OBJECTIVES})
            for reward, weight in (agent.objective.reward or {}).items():
                found[f"{name}.reward.{reward}"] = (*place, "written_objective", "reward", reward), weight
    for number, channel in enumerate(scenario.channels):
        name, place = channel.name, ("channels", number)
        if channel.coupling.name in ("decoupled", "unlocked"):
            trained((*place, "gradient"), channel.gradient)
            add((*place, "gradient"), channel.gradient, {key: key for key in ("scale", "discount")})
            if channel.input is not None:
                trained((*place, "input"), channel.input, "input.")
            add((*place, "link"), channel.link, {key: key for key in ("drop", "noise")})
    numbers = {key: one for key, one in found.items() if isinstance(one[1], float | int)}
    return {key: one for key, one in numbers.items() if not isinstance(one[1], bool) and one[1]}


def put(part: Any, place: Place, value: object) -> Any:
    """A part of a scenario with another value at a place in it."""
    if not place:
        return value
    key, *rest = place
    if isinstance(part, tuple):
        return tuple(put(one, tuple(rest), value) if n == key else one for n, one in enumerate(part))
    if isinstance(part, Mapping):
        return {**part, key: put(part[key], tuple(rest), value)}
    return part.model_copy(update={key: put(getattr(part, str(key)), tuple(rest), value)})


def written_out(scenario: Scenario) -> Scenario:
    """A scenario in which agents and predictors have the optimisers that are those of `training` where they are left out."""
    training = scenario.training
    for name, agent in scenario.agents.items():
        scenario = put(scenario, ("agents", name, "optimiser"), agent.optimiser or training.optimiser)
    for number, channel in enumerate(scenario.channels):
        for key in ("gradient", "input"):
            if (spec := getattr(channel, key)) is not None:
                own = spec.optimiser or training.predictor or training.optimiser
                scenario = put(scenario, ("channels", number, key, "optimiser"), own)
    return scenario


@cache
def numbers(name: str) -> dict[str, tuple[Place, float]]:
    """The hyperparameters of a scene."""
    return numbers_of(written_out(scene(name)))


def changed(name: str, values: Mapping[str, float]) -> Scenario:
    """A scene with other hyperparameters."""
    scenario = written_out(scene(name))
    for key, value in values.items():
        scenario = put(scenario, numbers(name)[key][0], value)
    return scenario


@cache
def member(name: str, index: int) -> Scenario:
    """The scenario of a member: all hyperparameters have values of its own."""
    return changed(name, {key: value * (1 - 0.07 * index) for key, (_, value) in numbers(name).items()})


def close(one: Simulation, other: Simulation) -> None:
    found = list(differences(facts(one), facts(other), tolerance=TOLERANCE))
    assert not found, found[:8]


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", sampled(SCENES, 3, "nightly"))
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
