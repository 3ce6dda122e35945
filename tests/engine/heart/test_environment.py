"""The environment as a simulation sees it: signals of each step, actions, classes, and statistics of finished episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor
from torch.nn.functional import one_hot

from antiphon import Simulation
from antiphon.envs import from_tensors
from antiphon.scenarios import Scenario
from antiphon.telemetry.history import History
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of
from tests.reference.backend import Chosen, reference


class Counters(VectorEnv[Any, Any, Any]):
    """Lanes that count up and start again after 2, 3, 4, … steps; the reward is the count.

    Args:
        count: Of lanes.
        mode: Where a lane starts again: in the step that ends its episode, or in one more, whose reward is 100.
    """

    def __init__(self, count: int, mode: AutoresetMode = AutoresetMode.SAME_STEP) -> None:
        self.num_envs = count
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = Box(0.0, 9.0, (1,), np.float32)
        self.single_action_space = Discrete(1)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.at = np.zeros((self.num_envs, 1), np.float32)
        self.over = np.zeros(self.num_envs, bool)
        return self.at.copy(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.at = np.where(self.over[:, None], 0, self.at + 1).astype(np.float32)
        reward = np.where(self.over, 100, self.at[:, 0]).astype(np.float32)
        ended = (reward == np.arange(self.num_envs) + 2) & ~self.over
        info: dict[str, Any] = {}
        if self.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP:
            self.over = ended
        elif ended.any():
            info = {"final_obs": list(self.at.copy()), "_final_obs": ended}
            self.at[ended] = 0
        return self.at.copy(), reward, ended, np.zeros_like(ended), info


def counting(make: Callable[[int], Counters], rows: int) -> Scenario:
    """An agent that sees the count and is to name the reward."""
    goal = {"kind": "regression", "target": "reward"}
    network = {"kind": "mlp", "hidden": [], "norm": "none"}
    agent = {"observes": ["observation"], "network": network, "objective": goal}
    return scenario_of({"a": agent}, env=lambda num_envs: make(num_envs), batch=rows, telemetry={"period": 1})


def test_what_is_known_after_the_step_completes_the_signals_of_that_step() -> None:
    """The loss of a step is on its reward, and the end of an episode shows the first count of the next."""
    with Simulation(counting(Counters, 3)) as simulation:
        seen, ended = [], []
        for _ in range(3):
            assert set(simulation.signals) == {"observation"}
            count = simulation.signals["observation"]
            own = {name: p.detach().clone() for name, p in simulation.agents["a"].parameters.items()}
            error = count @ own["objective.weight"].T + own["objective.bias"] - (count + 1)
            info = simulation.step()
            torch.testing.assert_close(info["losses"]["a"], error.square().mean())
            seen.append(simulation.signals["observation"].flatten().tolist())
            ended.append(torch.as_tensor(info["ended"]).expand(3).tolist())
    assert seen == [[1, 1, 1], [0, 2, 2], [1, 0, 3]]
    assert ended == [[False] * 3, [True, False, False], [False, True, False]]


# --- finished episodes ---------------------------------------------------------------------------------------


def rows(simulation: Simulation, steps: int) -> list[list[float]]:
    """Means of the newest episodes' returns and lengths, and how many have ended, from their first row on."""
    history = History()
    simulation.recorders.append(history)
    simulation.run(steps)
    names = ("episode_return", "episode_length", "episodes")
    return [history.of("", name)[1].tolist() if history.has("", name) else [] for name in names]


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_means_are_over_the_newest_finished_episode_of_each_environment(backend: Chosen) -> None:
    """Episodes of 2, 3, 4 and 5 steps, whose returns are 3, 6, 10 and 15; the first ends at step 2."""
    with Simulation(counting(Counters, 4), backend=backend) as simulation:
        returns, lengths, episodes = rows(simulation, 5)
    assert returns == [3.0, 4.5, pytest.approx(19 / 3), 8.5]
    assert lengths == [2, 2.5, 3, 3.5]
    assert episodes == [1, 2, 4, 5]


# --- categorical observations ----------------------------------------------------------------------------


COUNT, CLASSES = 60, 5
DRAW = torch.Generator().manual_seed(0)
WORD = torch.randint(CLASSES, (COUNT,), generator=DRAW)
GRID = torch.randint(CLASSES, (COUNT, 4, 6), generator=DRAW)
LABEL = (WORD + GRID[:, 0, 0]) % 3
WORD[0], GRID[0, 0, 0], LABEL[0] = CLASSES - 1, CLASSES - 1, 2

CODES: dict[str, Tensor] = {"word": WORD, "grid": GRID}
FLOATS: dict[str, dict[str, Tensor]] = {
    "one_hot": {
        "word": one_hot(WORD, CLASSES).float(),
        "grid": one_hot(GRID, CLASSES).movedim(-1, 1).float(),
    },
    "index": {"word": WORD.float(), "grid": GRID.float()},
}
BOTH: dict[str, Any] = {"observes": ["word", "grid"], "objective": CLASSIFY}
CONV: dict[str, Any] = {"kind": "conv", "hidden": [2], "size": 3}
SCENES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "mlp": ({"a": BOTH}, []),
    "conv": ({"a": {"observes": ["grid"], "network": CONV, "objective": CLASSIFY}}, []),
    "stacks": ({**{f"n{i}": BOTH for i in range(2)}, "m": {**BOTH, "observes": ["grid"]}}, []),
    "aligned": (
        {"a": {"observes": ["word"]}, "b": {**BOTH, "align": True}},
        [{"from": "a", "to": "b", "size": 3, "link": {"delay": 2}, "gradient": "linear"}],
    ),
}


def scene(name: str, categories: str, *, categorical: bool = True, **options: Any) -> Scenario:
    agents, channels = SCENES[name]
    common = {"network": {"kind": "mlp", "hidden": [6]}, "categories": categories}
    signals = CODES if categorical else FLOATS[categories]
    source = from_tensors(**signals, label=LABEL, training_only=["label"], **options)
    return scenario_of({k: {**common, **v} for k, v in agents.items()}, channels, source)


CASES = [(name, how) for name in SCENES for how in FLOATS if (name, how) != ("conv", "index")]


@pytest.mark.cases(2)
@pytest.mark.parametrize(("name", "categories"), CASES)
def test_a_run_is_that_of_floats(name: str, categories: str) -> None:
    found = []
    for categorical in (True, False):
        made = scene(name, categories, categorical=categorical, hold=2)
        with Simulation(made, dtype=torch.float64) as simulation:
            simulation.run(8)
            found.append(
                ({n: a.parameters for n, a in simulation.agents.items()}, simulation.evaluate().agents)
            )
    for agent, mine in found[0][0].items():
        for key, value in mine.items():
            torch.testing.assert_close(
                value, found[1][0][agent][key], atol=1e-8, rtol=0, msg=f"{agent}: {key}"
            )
    for agent, metrics in found[0][1].items():
        assert metrics == pytest.approx(found[1][1][agent], rel=1e-6), agent


@pytest.mark.parametrize("categories", FLOATS)
def test_a_composed_module_takes_the_classes_themselves(categories: str) -> None:
    with Simulation(scene("mlp", categories, episode="example")) as simulation:
        simulation.run(5)
        batch = next(iter(simulation.world.env.batches("test", COUNT)))
        right = simulation.compose()({name: batch[name] for name in CODES})["a"].argmax(1) == batch["label"]
        assert simulation.evaluate().agents["a"]["accuracy"] == pytest.approx(right.double().mean().item())


# --- evaluations -----------------------------------------------------------------------------------------


NAME = "eye->mind"
SIZE = 4


def pair(clock: dict[str, int] | None = None, mind: str = "right_half", **channel: Any) -> Simulation:
    """Two linear agents, each seeing half of a digit; the second knows its class."""
    agents = {
        "eye": {"observes": ["left_half"], "network": LINEAR_MAP, "clock": clock or {}},
        "mind": {"observes": [mind] if mind else [], "network": LINEAR_MAP, "objective": CLASSIFY},
    }
    usual = {"from": "eye", "to": "mind", "size": SIZE, "norm": "none", "gradient": {"context": ["label"]}}
    usual["input"] = {"context": ["right_half"]}
    return Simulation(scenario_of(agents, [{**usual, **channel}], batch=12))


def test_evaluation_over_perfect_links_does_without_synthetic_inputs() -> None:
    with pair(coupling="unlocked", link={"drop": 0.4}) as simulation:
        simulation.run(10)
        perfect, as_run = simulation.evaluate(), simulation.evaluate(links="as_run")
        model = simulation.channels[NAME].synthetic_input
        assert model is not None
        model.parameters["last.bias"].data.fill_(50.0)
        assert simulation.evaluate() == perfect
        assert simulation.evaluate(links="as_run").agents != as_run.agents


def test_the_most_probable_symbols_are_sent_where_nothing_is_sampled() -> None:
    words = {
        "sample": {"kind": "gumbel", "vocabulary": 3, "size": 2},
        "size": None,
        "norm": None,
        "input": None,
    }
    with pair(mind="", **words) as simulation:
        simulation.run(3)
        eye, mind = (simulation.agents[name].parameters for name in ("eye", "mind"))
        batch = next(iter(simulation.world.env.batches("test", 40)))
        logits = F.linear(batch["left_half"].flatten(1), eye["to_mind.weight"], eye["to_mind.bias"])
        likely = F.one_hot(logits.view(40, 2, 3).argmax(-1), 3).float().flatten(1)
        expected = F.linear(likely, mind["objective.weight"], mind["objective.bias"])
        found = simulation.compose()({"left_half": batch["left_half"]})["mind"]
        torch.testing.assert_close(found, expected.detach())
