"""What enters networks and crosses channels: image layouts, normalised observations (rule 45), normed ports (rule 26), precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy

import antiphon
from antiphon import Scenario, Simulation, envs
from antiphon.envs import registry
from tests.contracts.builders import Play
from tests.kit.examined import norm_of
from tests.reference.backend import Chosen, reference

# --- image layouts ---------------------------------------------------------------------------------------


class Pictures(gymnasium.Env[Any, Any]):
    """Random pictures of a shape."""

    action_space = spaces.Discrete(2)

    def __init__(self, shape: tuple[int, ...], dtype: Any = np.uint8) -> None:
        self.observation_space = spaces.Box(0, 255, shape, dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        return self.observation_space.sample(), 1.0, self.count == 5, False, {}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    envs.register("Pictures", lambda height, *rest: Pictures((height, *rest)))
    yield
    registry._environments.pop("Pictures")
    registry._environments.pop("Shaped", None)


NETWORK = {"kind": "conv", "hidden": [3], "size": 3, "norm": "none"}


def acting(
    shape: tuple[int, ...], network: Any = NETWORK, backend: Chosen = "cohort", **objective: Any
) -> Simulation:
    registry._environments.pop("Shaped", None)
    envs.register("Shaped", lambda: Pictures(shape))
    mind = {"observes": ["observation"], "network": network, "acts": True, "clock": {"unroll": 4}}
    agents = {"a": mind | {"objective": {"kind": "ppo", "epochs": 1} | objective}}
    scenario = Scenario(scenario="s", env={"id": "Shaped"}, agents=agents, training={"batch": 4, "steps": 8})
    return Simulation(scenario, dtype=torch.float64, backend=backend)


def filters(run: Simulation) -> Tensor:
    return next(value for value in run.agents["a"].parameters.values() if value.dim() == 4)


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((12, 10, 3), 3),  # height, width, channels
        ((8, 8, 3), 3),
        ((8, 8, 12), 12),  # a board's planes
        ((4, 9, 9), 4),  # a stack of frames
        ((3, 12, 10), 3),
        ((9, 7), 1),  # grey
    ],
)
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_the_channels_of_a_world_are_found(shape: tuple[int, ...], channels: int, backend: Chosen) -> None:
    with acting(shape, backend=backend) as run:
        assert filters(run).shape == (3, channels, 3, 3)
        run.run(progress=False)
        assert run.agents["a"].parameters  # it learns, and acts


def data(pictures: Tensor, network: Any = NETWORK, backend: Chosen = "cohort") -> Simulation:
    env = envs.from_tensors(x=pictures, label=torch.arange(len(pictures)) % 2, test=0.2, validation=0)
    mind = {"observes": ["x"], "network": network, "objective": {"kind": "classification", "target": "label"}}
    scenario = Scenario(scenario="s", env=env, agents={"a": mind}, training={"batch": 4, "steps": 6})
    return Simulation(scenario, dtype=torch.float64, backend=backend)


def test_a_picture_is_convolved_over_height_and_width() -> None:
    pictures = torch.rand(40, 6, 5, 3, generator=torch.Generator().manual_seed(0))
    with data(pictures, NETWORK | {"channels": "last"}) as run:
        signals = {name: value.clone() for name, value in run.signals.items()}
        w, b, v, c = run.agents["a"].parameters.values()
        hidden = torch.relu(conv2d(signals["x"].permute(0, 3, 1, 2), w, b, padding=1))
        right = cross_entropy(hidden.flatten(1) @ v.T + c, signals["label"])
        assert float(run.step()["losses"]["a"]) == pytest.approx(right.item(), rel=1e-9)


# --- normalised observations -----------------------------------------------------------------------------


class Seen(Play):
    """`Play` that keeps what it showed."""

    def make(self, *, batch: int, **where: Any) -> Any:
        env = super().make(batch=batch, **where)
        shown = env._shown  # type: ignore[attr-defined]

        def noted() -> Any:
            found = shown()
            self.__dict__.setdefault("x", []).append(found[0]["x"])
            return found

        env._shown = noted
        return env


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_statistics_are_the_moments_of_what_ticks_have_observed(backend: Chosen) -> None:
    source = Seen()
    agents = {
        "a": {
            "observes": ["x"],
            "normalise": ["x"],
            "network": {"kind": "mlp", "hidden": []},
            "objective": {"kind": "regression", "target": "goal"},
            "clock": {"unroll": 3},
        }
    }
    scenario = Scenario(scenario="s", env=source, agents=agents, training={"batch": 5, "steps": 20})
    with Simulation(scenario, backend=backend, dtype=torch.float64) as simulation:
        agent = simulation.agents["a"]
        for steps, ticks in ((3, 3), (4, 7)):
            simulation.run(steps)
            x = torch.cat(source.__dict__["x"][:ticks])
            expected = torch.cat([torch.tensor([len(x)]).to(x), x.mean(0), x.var(0, correction=0)])
            torch.testing.assert_close(agent.buffers["observes.0"], expected)


# --- normed ports ----------------------------------------------------------------------------------------


ACTS = {"acts": True, "objective": "ppo", "clock": {"unroll": 4}}
DIGIT = {"objective": {"kind": "classification", "target": "label"}}


def pole(**channel: Any) -> Scenario:
    """A sensor that ticks more than once per example."""
    sensor = {"observes": ["observation"], "clock": {"unroll": 4}}
    return Scenario(
        scenario="pole",
        env="antiphon/CartPole-v0",
        agents={"sensor": sensor, "motor": ACTS},
        channels=[{"from": "sensor", "to": "motor", **channel}],
        training={"batch": 2, "steps": 400},
    )


@pytest.mark.parametrize(
    ("channel", "norm"),
    [
        ({"size": 1}, "none"),
        ({"size": 2}, "none"),
        ({"size": [1, 2]}, "none"),
        ({"size": 3}, "layer"),
        ({"size": 2, "norm": "layer"}, "layer"),
        ({"size": 1, "norm": "unit"}, "unit"),
        ({}, None),
    ],
)
def test_a_narrow_port_has_no_layer_norm_by_default(channel: dict[str, Any], norm: str | None) -> None:
    assert norm_of(pole(**channel)) == norm


def test_a_sender_that_ticks_once_per_example_keeps_batch_norm() -> None:
    agents = {"eye": {"observes": ["image"]}, "mind": DIGIT}
    channel = {"from": "eye", "to": "mind", "size": 1}
    scenario = Scenario(scenario="d", env="antiphon/Digits-v0", agents=agents, channels=[channel])
    assert norm_of(scenario) == "batch"


# --- bf16 ------------------------------------------------------------------------------------------------


DOCUMENT = """
scenario: precision
env: {{id: antiphon/Digits-v0}}
agents:
  a: {{observes: [left_half], network: {network}}}
  b: {{observes: [right_half], network: {network}}}
  c: {{network: {{kind: mlp, hidden: [8], norm: layer}}, objective: {{kind: classification, target: label}}}}
channels:
- {{from: a, to: c, size: 4, {channel}}}
- {{from: b, to: c, size: 4, {channel}}}
training: {{batch: 6, steps: 2, optimiser: {{kind: sgd, lr: 0.05}}, precision: {precision}}}
"""
NETWORKS = ("{kind: mlp, hidden: [8], norm: batch}", "{kind: conv, hidden: [4]}", "{kind: gru, hidden: [6]}")
CHANNELS = (
    "coupling: locked",
    "gradient: {kind: linear, context: [label]}",
    "gradient: {kind: mlp, hidden: [8]}",
    "gradient: {kind: local, target: label}",
    "gradient: {kind: sobolev, hidden: [8], context: [label]}",
    "coupling: unlocked, input: {kind: linear}, gradient: {kind: linear}",
)
CASES = [(NETWORKS[i % 3], channel) for i, channel in enumerate(CHANNELS)] + [(NETWORKS[1], CHANNELS[2])]
"""Every channel with one of the networks."""


def floats(found: Any) -> Iterator[Tensor]:
    """Yield the tensors of numbers in a state."""
    values = found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else ()
    for value in values:
        yield from floats(value)
    if isinstance(found, Tensor) and found.is_floating_point():
        yield found


def state_of(document: str, backend: Chosen = "cohort", steps: int = 2) -> dict[str, Any]:
    """Return the state after some steps: parameters, statistics, optimisers, messages."""
    scenario = antiphon.Scenario.from_yaml(document)
    with antiphon.Simulation(scenario, backend=backend) as simulation:
        for _ in range(steps):
            simulation.step()
        return simulation.running.backend.state_dict()


def numbers(state: dict[str, Any]) -> Tensor:
    """Return the parameters of agents and predictors, and their statistics, as one vector."""
    kept = [state[key] for key in ("learners", "predictors", "inputs")]
    return torch.cat([one.detach().flatten() for one in floats(kept)])


@pytest.mark.cases(1)
@pytest.mark.parametrize(("network", "channel"), CASES)
def test_what_is_kept_is_float32_and_the_backends_agree(network: str, channel: str) -> None:
    bf16, float32 = (
        DOCUMENT.format(network=network, channel=channel, precision=precision)
        for precision in ("bf16", "float32")
    )
    found = state_of(bf16)
    assert {tensor.dtype for tensor in floats(found)} == {torch.float32}
    moved, other, full = numbers(found), numbers(state_of(bf16, reference)), numbers(state_of(float32))
    way = (full - numbers(state_of(float32, steps=0))).norm()
    assert 0 < (moved - full).norm() < 0.1 * way  # a number of bfloat16 has 8 bits: 0.4 %
    assert (moved - other).norm() < 0.05 * way
