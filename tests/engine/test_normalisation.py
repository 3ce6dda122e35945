"""Observations that enter networks normalised: the statistics, who keeps them, and what is refused (rule 45)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from antiphon import Scenario, ScenarioError, Simulation, envs
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
    assert (file({"observation": torch.from_numpy(given)}).numpy() == policy.act(given)).all()


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
            torch.export.load(file).module()({"observation": torch.from_numpy(given)}).numpy() == expected
        ).all()
    torch.testing.assert_close(*parameters, rtol=1e-9, atol=1e-9)


class Steered(Wild):
    """`Wild` with real actions, which are not scaled."""

    action_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), -float(np.square(action).sum()), False, False, {}


envs.register("normalisation/Steered-v0", Steered)
