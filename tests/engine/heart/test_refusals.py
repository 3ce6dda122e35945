"""What cannot be learned, in one line each: the change of a document, and the line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from antiphon import Scenario, ScenarioError, Simulation
from antiphon.envs import from_tensors
from tests.contracts.builders import LABEL, OWN, Document, document, levels, ring
from tests.contracts.documents import tied
from tests.contracts.sites import TOKENS, Head
from tests.engine.scenes import CLASSIFY, scenario_of

LENS: Document = {"kind": "lens", "network": Head, "of": "b0"}


def told(**gradient: Any) -> Document:
    return levels(channel={**TOKENS, "gradient": gradient})


def stand_in(*context: str) -> Document:
    return levels(channel={"input": {"kind": "linear", "context": list(context)}})


REFUSED: dict[str, tuple[Document, str]] = {
    "a stand-in told a label": (stand_in("label"), r"input.context.*label.*training-only"),
    "a stand-in told what comes back": (stand_in("returned"), r"input.context.*returned"),
    "unlocked without a stand-in": (levels(channel={"coupling": "unlocked"}), "input"),
    "tied agents that see different things": (
        ring(
            2,
            agent=[{"share": "g", "observes": ["x"]}, {"share": "g", "observes": ["y"]}],
            channel={"port": "p"},
        ),
        r"agents\.n1\.share: tied agents need equal inputs and ports",
    ),
    "a tie of two shapes": (
        tied(ring(), ["n0.0.weight", "n1.0.bias"]),
        r"share\[0\]\[1\]: 'n1.0.bias' has shape \[4\], 'n0.0.weight' has \[4, 8\]; tied",
    ),
    "a tie of what there is not": (
        tied(ring(), ["n0.0.weight", "n1.weight"]),
        r"share\[0\]\[1\]: agent 'n1' has no parameter 'weight'; did you mean '0.weight'",
    ),
    "a lens on nobody": (told(**{**LENS, "of": "d"}), r"gradient.*of: no agent 'd'"),
    "a lens on who has no objective": (
        told(**{**LENS, "of": "a1"}),
        r"agent 'a1' has no objective that a lens could read; name one that has",
    ),
    "a lens through a parameter that there is not": (
        told(**LENS, parameters={"out.weight": "b0.out.wight"}),
        r"agent 'b0' has no parameter 'out.wight'",
    ),
    "a lens through nothing": (told(kind="lens", of="b0"), r"network: .*lens needs layers from the message"),
    "a head by name": (
        told(kind="local", target="label", network="mlp"),
        r"network: must be a torch module or a factory, from Python",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_is_refused_in_one_line(name: str) -> None:
    scene, line = REFUSED[name]
    with pytest.raises(ScenarioError, match=line) as found:
        Simulation(Scenario.model_validate(scene))
    assert "\n" not in str(found.value)


class Bits(gymnasium.Env[Any, Any]):
    """Of which no output is an action."""

    observation_space = spaces.Box(0, 1, (2,))
    action_space: gymnasium.Space[Any] = spaces.MultiBinary(2)


@pytest.mark.parametrize(
    ("env", "line"),
    [
        (
            "CartPole-v1",
            "acts: the environment has 2 actions, and a regression of 'observation' gives 4 outputs; take a",
        ),
        (
            "Pendulum-v1",
            "acts: an action has the shape [1], and a regression of 'observation' gives 3 outputs; take a",
        ),
        (
            [Bits] * 8,
            "acts: the actions are MultiDiscrete([2 2]); learn them with a policy (a2c, ppo, reinforce), or",
        ),
    ],
)
def test_what_cannot_be_an_action_is_refused(env: Any, line: str) -> None:
    same = {"autoreset_mode": AutoresetMode.SAME_STEP}
    made = gymnasium.make_vec(env, 8, "sync", same) if isinstance(env, str) else SyncVectorEnv(env, **same)
    agent = {
        "observes": ["observation"],
        "acts": True,
        "objective": {"kind": "regression", "target": "observation"},
    }
    with pytest.raises(ScenarioError, match=re.escape(f"agents.player.{line}")):
        Simulation(scenario_of({"player": agent}, env=made))


def test_classes_that_the_type_cannot_tell_apart_are_refused() -> None:
    codes = torch.arange(10)
    codes[1] = 2**24 + 1
    agent = {"observes": ["code"], "categories": "index", "objective": CLASSIFY}
    env = from_tensors(code=codes, label=codes % 2, training_only=["label"])
    line = r"agents.a.categories: 'code' has 16,777,218 classes, and torch.float32 can distinguish only"
    with pytest.raises(ScenarioError, match=line):
        Simulation(scenario_of({"a": agent}, env=env))
    with Simulation(scenario_of({"a": agent}, env=env), dtype=torch.float64) as simulation:
        simulation.run(1)


def test_weights_that_cannot_be_had_are_refused(tmp_path: Path) -> None:
    def agent(width: int, **more: Any) -> Document:
        return {"a": {**OWN, "objective": LABEL, "network": {"kind": "mlp", "hidden": [width]}, **more}}

    run = Simulation(Scenario.model_validate(document(agent(6), []))).save(tmp_path / "run")
    for weights, width, expected in (
        (f"{tmp_path / 'nowhere'}:a", 6, "neither a checkpoint nor a run with one"),
        (f"{run}:z", 6, "has no agent 'z'"),
        (f"{run}:a", 5, r"'a' of .* has parameters 0.weight \(6, 4\), this agent needs \(5, 4\)"),
    ):
        with pytest.raises(ScenarioError, match=expected) as caught:
            Simulation(Scenario.model_validate(document(agent(width, parameters=weights), [])))
        assert str(caught.value).startswith("agents.a.parameters: ")
        assert "\n" not in str(caught.value)
