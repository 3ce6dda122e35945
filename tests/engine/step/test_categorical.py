"""Categorical observations enter networks one-hot or by index: a run is that of the same observations given as floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import EnvironmentRollout
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_sequences, from_tensors
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.engine.scenes import CLASSIFY, scenario_of

COUNT, CLASSES = 60, 5
DRAW = torch.Generator().manual_seed(0)
WORD = torch.randint(CLASSES, (COUNT,), generator=DRAW)
GRID = torch.randint(CLASSES, (COUNT, 4, 6), generator=DRAW)
LABEL = (WORD + GRID[:, 0, 0]) % 3
WORD[0], GRID[0, 0, 0], LABEL[0] = CLASSES - 1, CLASSES - 1, 2

ONE_HOT = {"word": one_hot(WORD, CLASSES).float(), "grid": one_hot(GRID, CLASSES).movedim(-1, 1).float()}
RING = [{"from": "a", "to": "b", "size": 3, "link": {"delay": 1}}, {"from": "b", "to": "a", "size": 3}]
SCENES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "mlp": ({"a": {"observes": ["word", "grid"], "objective": CLASSIFY}}, []),
    "conv": (
        {
            "a": {
                "observes": ["grid"],
                "network": {"kind": "conv", "hidden": [2], "filter": 3},
                "objective": CLASSIFY,
            }
        },
        [],
    ),
    "lstm": (
        {"a": {"observes": ["word"], "network": {"kind": "lstm", "size": 3}, "objective": CLASSIFY}},
        [],
    ),
    "stacks": (
        {
            **{f"n{i}": {"observes": ["word"], "objective": CLASSIFY} for i in range(2)},
            **{f"m{i}": {"observes": ["grid"], "objective": CLASSIFY} for i in range(2)},
        },
        [],
    ),
    "aligned": (
        {
            "a": {"observes": ["word"]},
            "b": {"observes": ["word", "grid"], "align": True, "objective": CLASSIFY},
        },
        [{"from": "a", "to": "b", "size": 3, "link": {"delay": 2}}],
    ),
}


def scene(name: str, *, categorical: bool, categories: str = "one_hot", **options: Any) -> Scenario:
    agents, channels = SCENES[name]
    common = {"network": {"kind": "mlp", "hidden": [6]}, "categories": categories}
    floats = ONE_HOT if categories == "one_hot" else {"word": WORD.float(), "grid": GRID.float()}
    signals: dict[str, Tensor] = {"word": WORD, "grid": GRID} if categorical else floats
    source = from_tensors(**signals, label=LABEL, training_only=["label"], **options)
    return scenario_of({k: {**common, **v} for k, v in agents.items()}, channels, source)


BY_INDEX = [(name, "index") for name in SCENES if name != "conv"]


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize(("name", "categories"), [*((name, "one_hot") for name in SCENES), *BY_INDEX])
def test_a_run_is_that_of_floats(name: str, categories: str, backend: str) -> None:
    found = []
    for categorical in (True, False):
        made = scene(name, categorical=categorical, categories=categories, hold=2)
        with Simulation(made, backend=backend, dtype=torch.float64) as simulation:
            simulation.run(8)
            learners = {n: a.learner.parameters for n, a in simulation._system.agents.items()}
            found.append((learners, simulation.evaluate()))
    for (agent, mine), theirs in zip(found[0][0].items(), found[1][0].values(), strict=True):
        for key, value in mine.items():
            torch.testing.assert_close(value, theirs[key], atol=1e-8, rtol=0, msg=f"{agent}: {key}")
    assert found[0][1].agents.keys() == found[1][1].agents.keys()
    for agent, metrics in found[0][1].agents.items():
        assert metrics == pytest.approx(found[1][1].agents[agent], rel=1e-6), agent


def test_an_agent_of_either_kind_is_in_the_stack_of_its_kind() -> None:
    with Simulation(scene("stacks", categorical=True)) as simulation:
        assert sorted(sorted(stack.names) for stack in simulation.backend.stacked.system.agents.values()) == [
            ["m0", "m1"],
            ["n0", "n1"],
        ]


def test_agents_of_either_encoding_are_stacks_of_their_own() -> None:
    made = scene("stacks", categorical=True)
    by_index = {name: {"categories": "index"} for name in ("n1", "m0")}
    agents = {name: agent.model_copy(update=by_index.get(name, {})) for name, agent in made.agents.items()}
    with Simulation(made.model_copy(update={"agents": agents})) as simulation:
        assert len(simulation.backend.stacked.system.agents) == 4
        simulation.run(2)
        assert {
            name: len(a.learner.parameters["0.weight"][0]) for name, a in simulation._system.agents.items()
        } == {"m0": 24, "m1": 5 * 24, "n0": 5, "n1": 1}


class Lookup(nn.Module):
    """A table of the classes: what a linear map is of one-hot inputs."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(weight, freeze=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x[..., 0].long())


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_embedding_of_indices_learns_as_a_linear_map_of_one_hot(backend: str, dtype: torch.dtype) -> None:
    weight = torch.randn(CLASSES, 3, generator=torch.Generator().manual_seed(1))
    linear = nn.Linear(CLASSES, 3, bias=False)
    linear.weight.data = weight.T.clone()
    found = []
    for categories, network in (("index", Lookup(weight)), ("one_hot", linear)):
        agents = {
            name: {"observes": ["word"], "categories": categories, "network": network, "objective": CLASSIFY}
            for name in "ab"
        }
        env = from_tensors(word=WORD, label=LABEL, training_only=["label"])
        with Simulation(scenario_of(agents, env=env), backend=backend, dtype=dtype) as simulation:
            simulation.run(10)
            (learned,) = simulation._system.agents["b"].learner.parameters.values()
            found.append(learned if categories == "index" else learned.T)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
    assert (found[0] - weight).abs().max() > 1e-3


def test_classes_that_the_type_cannot_tell_apart_are_refused() -> None:
    codes = torch.arange(10)
    codes[1] = 2**24 + 1
    agent = {"observes": ["code"], "categories": "index", "objective": CLASSIFY}
    scenario = scenario_of(
        {"a": agent}, env=from_tensors(code=codes, label=codes % 2, training_only=["label"])
    )
    with pytest.raises(
        ScenarioError,
        match=r"agents.a.categories: 'code' has 16,777,218 classes, and torch.float32 tells no more than 16,777,217",
    ):
        Simulation(scenario)
    with Simulation(scenario, dtype=torch.float64) as simulation:
        simulation.run(1)


def test_a_round_keeps_earlier_observations_as_each_agent_reads_them() -> None:
    words = [torch.randint(CLASSES, (6,), generator=DRAW) for _ in range(20)]
    env = from_sequences(word=words, label=words, training_only=["label"])
    goal = {"objective": CLASSIFY, "observes": ["word"], "align": True}
    agents = {"a": {"observes": ["word"]}, "b": goal, "c": {**goal, "categories": "index"}}
    late = [{"from": "a", "to": name, "size": 3, "link": {"delay": 2}} for name in "bc"]
    with Simulation(scenario_of(agents, late, env), dtype=torch.float64) as simulation:
        simulation.run(5)
        others = env.make(batch=4, dtype=torch.float64, split="test")
        rollout = EnvironmentRollout(simulation._system, others, Links(), 0)
        shown: list[Tensor] = []
        outputs: dict[str, list[Tensor]] = {"b": [], "c": []}
        for _ in range(6):
            shown.append(rollout.world.step_signals.signals["word"])
            for part in rollout.step():
                if part.agent in outputs:
                    outputs[part.agent].append(part.ports[OBJECTIVE])
        found, state = simulation.compose()(word=torch.stack(shown))
    assert {"word@-2", "word@-2.index"} <= state.keys()
    for name, expected in outputs.items():
        torch.testing.assert_close(found[name], torch.stack(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("categories", ["one_hot", "index"])
@pytest.mark.parametrize("episode", ["stream", "example"])
def test_an_exported_module_takes_the_classes_themselves(
    episode: str, categories: str, tmp_path: Path
) -> None:
    with Simulation(scene("mlp", categorical=True, categories=categories, episode=episode)) as simulation:
        simulation.run(5)
        batch = next(iter(simulation.world.env.batches("test", 7)))
        observed = {name: batch[name] for name in ("word", "grid")}
        module = simulation.compose()
        loaded = torch.export.load(simulation.export(tmp_path / "system.pt2")).module()
    assert module(**observed)["a"].shape == (7, 3)
    assert torch.equal(loaded(**observed)["a"], module(**observed)["a"])


def test_images_of_classes_are_no_feature_map() -> None:
    source = from_tensors(image=torch.randint(9, (20, 1, 4, 4)), label=torch.arange(20) % 2)
    agent = {"observes": ["image"], "network": {"kind": "conv", "hidden": [2]}, "objective": CLASSIFY}
    with pytest.raises(
        ScenarioError, match=r"a conv network needs \[channels, height, width\] .* got \[9, 1"
    ):
        Simulation(scenario_of({"a": agent}, env=source))
