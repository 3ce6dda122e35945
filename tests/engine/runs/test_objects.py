"""What is recorded of Python objects tells runs with other objects from runs with the same ones."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from antiphon.engine.compare.records import compare_settings
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.objects import object_digest
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario

X, LABEL = torch.arange(40.0).reshape(10, 4), torch.arange(10) % 2


def network(width: int) -> Callable[..., nn.Module]:
    def make(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))

    return make


def module(seed: int, activation: type[nn.Module] = nn.Tanh) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 3), activation())


class Scaled:
    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.itself = self

    def __call__(self, inputs: int, outputs: int) -> nn.Module:
        return nn.Linear(inputs, outputs)


def other(inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs, bias=False)


ALIKE: list[Callable[[], Any]] = [
    lambda: network(8),
    lambda: network(9),
    lambda: partial(network, 8),
    lambda: other,
    lambda: Scaled,
    lambda: Scaled(1.0),
    lambda: Scaled(2.0),
    lambda: module(0),
    lambda: module(1),
    lambda: module(0, nn.Sigmoid),
    lambda: from_tensors(x=X, label=LABEL),
    lambda: from_tensors(x=X + (X == 17), label=LABEL),
    lambda: from_tensors(x=X, label=LABEL, hold=2),
    lambda: X,
    lambda: X.double(),
    lambda: X.reshape(4, 10),
    lambda: X.bfloat16(),
    lambda: X.numpy() + 1,
    lambda: {"a", "b"},
]


def test_equal_objects_have_one_digest_and_others_another() -> None:
    once, again = ([object_digest(make()) for make in ALIKE] for _ in range(2))
    assert once == again
    assert None not in once
    assert len(set(once)) == len(ALIKE)


def test_what_cannot_be_looked_at_has_none() -> None:
    assert object_digest(torch.Generator()) is None
    assert object_digest(partial(network, threading.Lock())) is None


def test_digests_are_the_same_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        textwrap.dedent(
            """
            from antiphon.engine.runs.objects import object_digest

            WORDS = 3

            def make(inputs, outputs, kinds=frozenset("abc")):
                return WORDS if inputs in {"x", "y", "z"} else kinds

            print(object_digest(make), object_digest({"p", "q", "r"}))
            """
        )
    )
    found = {
        subprocess.run(
            [sys.executable, "own.py"], cwd=tmp_path, env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in "12"
    }  # fmt: skip
    assert len(found) == 1
    assert "None" not in found.pop()


def recorded(path: Path, width: int, first: float = 0.0, env: Any = None) -> RunDirectory:
    x = X.clone()
    x[0, 0] = first
    env = env or from_tensors(x=x, label=LABEL, training_only=["label"])
    agent = {
        "observes": ["x"],
        "network": network(width),
        "objective": {"kind": "classification", "target": "label"},
    }
    scenario = Scenario(scenario="own", env=env, agents={"a": agent}, training={"batch": 2, "steps": 2})
    with Simulation(scenario, logdir=path):
        pass
    return RunDirectory.open(path)


def test_runs_of_other_agents_and_other_data_differ_in_settings(tmp_path: Path) -> None:
    first, again = recorded(tmp_path / "a", 4), recorded(tmp_path / "b", 4)
    assert compare_settings(first, again) == []
    assert first.unknown == again.unknown == []
    (agent,) = compare_settings(first, recorded(tmp_path / "c", 5))
    assert (agent.part, agent.name, agent.key) == ("agents", "a", "network.sha256")
    (env,) = compare_settings(first, recorded(tmp_path / "d", 4, first=1.0))
    assert (env.part, env.key) == ("scenario", "env.sha256")


def test_what_was_not_recorded_is_named(tmp_path: Path) -> None:
    env = from_tensors(x=X, label=LABEL, training_only=["label"])
    object.__setattr__(env, "lock", threading.Lock())
    assert recorded(tmp_path / "a", 4, env=env).unknown == ["env"]
    run = recorded(tmp_path / "b", 4)
    (run.path / "scenario.yaml").write_text("# No document: env: a Python object\n")
    assert run.unknown == ["the whole scenario"]


def test_a_record_is_no_document(tmp_path: Path) -> None:
    text = recorded(tmp_path / "a", 4).document
    with pytest.raises(
        ScenarioError, match=r"record of a scenario with Python objects.*make the scenario in Python"
    ):
        Scenario.from_yaml(text, "scenario.yaml")
