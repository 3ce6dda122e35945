"""Observations that enter networks normalised: the statistics, who keeps them, and what is refused (rule 45)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from antiphon import Population, Scenario, ScenarioError, Simulation, envs
from antiphon.scenarios import Template
from tests.contracts.builders import Play
from tests.reference.backend import Chosen, reference

NORMAL = {"normalise": True}


class Wild(gymnasium.Env[Any, Any]):
    """Numbers of very different sizes; a choice is right by the sign of one of them."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float((self.seen[1] > 3e-4) == (action == 1))
        return self._seen(), reward, True, False, {}

    def _seen(self) -> Any:
        x = self.np_random.normal(size=3)
        self.seen = np.array([1e6, 3e-4 + 1e-4 * x[0], 5e4 * x[1], x[2]])
        return self.seen


class Masking(Wild):
    action_space = spaces.Discrete(4)


envs.register("normalisation/Wild-v0", Wild)
envs.register("normalisation/Masking-v0", Masking)


def wild(options: Any, **keys: Any) -> Scenario:
    observes = ["observation"] if options is None else {"observation": options}
    player = {
        "observes": observes,
        "acts": True,
        "objective": {"kind": "ppo"},
        "clock": {"unroll": 4},
        **keys,
    }
    return Scenario(
        scenario="wild",
        env={"id": "normalisation/Wild-v0"},
        agents={"player": player},
        training={"batch": 8, "steps": 200},
    )


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
def test_statistics_are_the_moments_of_the_windows_learned_from(backend: Chosen) -> None:
    source = Seen()
    agents = {
        "a": {
            "observes": {"x": {"normalize": True}},
            "network": {"kind": "mlp", "hidden": []},
            "objective": {"kind": "regression", "target": "goal"},
            "clock": {"unroll": 3},
        }
    }
    scenario = Scenario(scenario="s", env=source, agents=agents, training={"batch": 5, "steps": 20})
    with Simulation(scenario, backend=backend, dtype=torch.float64) as simulation:
        agent = simulation.agents["a"]
        for steps in (3, 6):
            simulation.run(3)
            x = torch.cat(source.__dict__["x"][:steps])
            expected = torch.cat([torch.tensor([len(x)]).to(x), x.mean(0), x.var(0, correction=0)])
            torch.testing.assert_close(agent.buffers["observes.0"], expected)
        simulation.run(1)  # within a window they stay as they are
        torch.testing.assert_close(agent.buffers["observes.0"], expected)


class Sick(Play):
    """`Play` whose first observations, and some later ones, are not finite in one of two components."""

    def make(self, *, batch: int, **where: Any) -> Any:
        env, step = super().make(batch=batch, **where), iter(range(1_000))
        shown = env._shown  # type: ignore[attr-defined]

        def broken() -> Any:
            found = shown()
            if next(step) in (0, 4):
                found[0]["x"][0, 0] = float("nan")
            return found

        env._shown = broken
        return env


@pytest.mark.long
def test_parameters_come_with_statistics_or_not_at_all(tmp_path: Path) -> None:
    for name, options in (("with", NORMAL), ("without", None)):
        with Simulation(wild(options), logdir=tmp_path / name) as simulation:
            simulation.run(steps=4, progress=False)
            if options:
                statistics = simulation.agents["player"].buffers["observes.0"]
    with Simulation(wild(NORMAL, parameters=f"{tmp_path / 'with'}:player")) as simulation:
        assert torch.equal(simulation.agents["player"].buffers["observes.0"], statistics)
    with pytest.raises(ScenarioError, match=r"give both the same normalised observations$"):
        Simulation(wild(NORMAL, parameters=f"{tmp_path / 'without'}:player"))


@pytest.mark.long
def test_numbers_of_wild_sizes_are_learned_from_and_exported(tmp_path: Path) -> None:
    with Simulation(wild(NORMAL)) as simulation:
        simulation.run(steps=160, progress=False)
        buffers = simulation.agents["player"].buffers
        before = {name: buffer.clone() for name, buffer in buffers.items()}
        returns = simulation.evaluate().return_
        assert all(torch.equal(before[name], buffer) for name, buffer in buffers.items())
        policy = simulation.policy()
        file = torch.export.load(simulation.export(tmp_path / "p.pt2", actions="greedy")).module()
    assert returns is not None
    assert returns > 0.9
    env, rows = Wild(), []
    for seed in range(40):
        rows.append(env.reset(seed=seed)[0])
    given = np.array(rows)
    expected = given[:, 1] > 3e-4
    assert (policy.act(given) == expected).mean() > 0.9
    assert (file(observation=torch.from_numpy(given)).numpy() == policy.act(given)).all()


@pytest.mark.long
def test_an_onnx_file_has_them_too(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    with Simulation(wild(NORMAL)) as simulation:
        simulation.run(steps=40, progress=False)
        file = simulation.export(tmp_path / "p.onnx", actions="greedy")
        given = np.array([Wild().reset(seed=seed)[0] for seed in range(20)])
        expected = simulation.policy().act(given)
    (found,) = ReferenceEvaluator(onnx.load(file)).run(None, {"observation": given})
    assert (found == expected).all()


def test_copies_of_a_population_have_the_statistics_of_their_parent() -> None:
    population = Population(wild(NORMAL), range(2))
    try:
        population.run(10)
        first, second = population.simulations
        assert not torch.equal(*(one.agents["player"].buffers["observes.0"] for one in (first, second)))
        population.exploit(1, 0)
        kept, copied = (one.agents["player"].buffers["observes.0"] for one in (first, second))
        assert torch.equal(kept, copied)
    finally:
        population.close()


@pytest.mark.parametrize(
    ("observes", "line"),
    [
        (
            {"observation": {"normalise": 1}},
            "agents.player.observes.observation.normalise: must be true or false, not 1",
        ),
        (
            {"observation": {"normalis": True}},
            "agents.player.observes.observation.normalis: unknown key 'normalis'; did you",
        ),
        ({"observation": True}, "agents.player.observes.observation: must be a mapping of keys, not true"),
        (3, "agents.player.observes: must be a list, not 3"),
    ],
)
def test_options_that_are_refused(observes: Any, line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        wild(None, observes=observes)
    assert str(caught.value).startswith(line)


def test_classes_and_unlike_ties_are_refused() -> None:
    agents: dict[str, Any] = {
        name: {"observes": {"codes": NORMAL}, "objective": {"kind": "regression", "target": "goal"}}
        for name in "ab"
    }
    with pytest.raises(
        ScenarioError, match=r"^agents\.a\.observes\.codes\.normalise: is one of 4 classes, which is not"
    ):
        Simulation(Scenario(scenario="s", env=Play(), agents=agents))
    for name, options in (("a", NORMAL), ("b", {})):
        agents[name] |= {"observes": {"x": options}, "share": "g"}
    with pytest.raises(
        ScenarioError, match=r"^agents\.b\.observes: tied agents need the same observations normalised"
    ):
        Simulation(Scenario(scenario="s", env=Play(), agents=agents))


def test_an_observation_of_no_numbers_is_refused() -> None:
    env = envs.from_tensors(x=torch.randn(20, 3), none=torch.zeros(20, 0), y=torch.randn(20, 1))
    goal = {"kind": "regression", "target": "y"}
    agents: dict[str, Any] = {"a": {"observes": {"x": {}, "none": NORMAL}, "objective": goal}}
    with pytest.raises(
        ScenarioError, match=r"^agents\.a\.observes\.none\.normalise: has no numbers, which is"
    ):
        Simulation(Scenario(scenario="s", env=env, agents=agents))


def test_options_are_written_and_read_again() -> None:
    scenario = wild(NORMAL)
    text = scenario.to_yaml()
    assert "observes: {observation: {normalise: true}}" in text
    assert Scenario.from_yaml(text) == scenario != wild({"normalize": False}) == wild(None)
    assert Scenario.from_graph(scenario.to_graph()) == scenario
    template = Template.from_yaml(text.replace("normalise", "normalize"))
    assert template.resolve() == scenario


class Coloured(Wild):
    """Images with the channels last, which have very different sizes."""

    observation_space = spaces.Box(-np.inf, np.inf, (6, 5, 3), np.float32)

    def _seen(self) -> Any:
        self.seen = self.np_random.normal(size=(4,))
        image = self.np_random.normal(size=(6, 5, 3)) * [1e4, 1.0, 1e-3]
        return image.astype(np.float32)


envs.register("normalisation/Coloured-v0", Coloured)


@pytest.mark.long
def test_images_are_normalised_before_their_channels_are_moved(tmp_path: Path) -> None:
    network = {"kind": "conv", "hidden": [2], "size": 3, "norm": "none"}
    critic = {"observes": {"observation": NORMAL}, "network": network}
    player = {
        "observes": {"observation": NORMAL},
        "acts": True,
        "network": network,
        "objective": {"kind": "ppo", "epochs": 2, "minibatches": 2, "critic": critic},
        "clock": {"unroll": 4},
    }
    scenario = Scenario(
        scenario="coloured",
        env={"id": "normalisation/Coloured-v0"},
        agents={"player": player},
        training={"batch": 4, "steps": 20},
    )
    given = np.stack([Coloured().reset(seed=seed)[0] for seed in range(8)])
    parameters = []
    for backend in ("cohort", reference):
        with Simulation(scenario, backend=backend, dtype=torch.float64) as simulation:
            simulation.run(8)
            agent = simulation.agents["player"]
            deviations = agent.buffers["observes.0"][-90:].sqrt().view(6, 5, 3).mean((0, 1))
            assert torch.allclose(
                deviations / torch.tensor([1e4, 1.0, 1e-3]), torch.ones(3).double(), rtol=0.2
            )
            parameters.append(torch.cat([p.flatten() for p in agent.parameters.values()]))
            expected = simulation.policy().act(given)
            file = simulation.export(tmp_path / f"{backend}.pt2", actions="greedy")
        assert (
            torch.export.load(file).module()(observation=torch.from_numpy(given)).numpy() == expected
        ).all()
    torch.testing.assert_close(*parameters, rtol=1e-9, atol=1e-9)


class Steered(Wild):
    """`Wild` with real actions, which are not scaled."""

    action_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), -float(np.square(action).sum()), False, False, {}


envs.register("normalisation/Steered-v0", Steered)


@pytest.mark.long
def test_zeros_before_an_aligned_agents_first_message_stay_zeros() -> None:
    """An agent without layers says its bias then, however far from 0 the mean of its observations is."""
    agents = {
        "sensor": {"observes": ["observation"], "network": {"hidden": [2]}, "clock": {"unroll": 4}},
        "motor": {
            "observes": {"observation": NORMAL},
            "align": True,
            "acts": True,
            "network": {"kind": "mlp", "hidden": [], "norm": "none"},
            "objective": {"kind": "regression", "target": "observation"},
            "clock": {"unroll": 4},
        },
    }
    scenario = Scenario(
        scenario="steered",
        env={"id": "normalisation/Steered-v0"},
        agents=agents,
        channels=[{"from": "sensor", "to": "motor", "size": 1, "link": {"delay": 2}}],
        training={"batch": 4, "steps": 20, "optimiser": {"kind": "adam", "lr": 0.1}},
    )
    shown = np.stack([Steered().reset(seed=seed)[0] for seed in range(5)])
    with Simulation(scenario, dtype=torch.float64) as simulation:
        simulation.run(12)
        motor, sensor = (simulation.agents[name] for name in ("motor", "sensor"))
        weight, bias = (motor.parameters[f"objective.{name}"].detach().numpy() for name in ("weight", "bias"))
        _, mean, variance = motor.buffers["observes.0"].tensor_split([1, 5])
        policy, composed, state = simulation.policy(), simulation.compose(), None
        for step, observation in enumerate(shown):
            expected = bias
            if step >= 2:
                then = torch.from_numpy(shown[step - 2])
                units = ((then - mean) / (variance + 1e-30).sqrt()).clamp(-10, 10).numpy()
                message = sensor.module(then[None])["to_motor"][0].detach().numpy()
                expected = bias + weight @ np.concatenate([units, message])
            outputs, state = composed(observation=torch.from_numpy(observation[None, None]), state=state)
            np.testing.assert_allclose(policy.act(observation[None])[0], expected, rtol=1e-7)
            np.testing.assert_allclose(outputs["motor"][0, 0].detach().numpy(), expected, rtol=1e-7)
