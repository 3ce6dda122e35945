"""Golden run directories: small runs as this version of antiphon writes them, with the numbers that they must keep giving.

    python tests/golden/make.py

writes `tests/golden/<format of run directories>/`. Those of a format that has been released are not made again: they stand for
what people have on disk.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from antiphon import Scenario, Simulation, Template, load
from antiphon.base.files import FORMAT
from antiphon.distributed.settings import PartsSettings
from antiphon.engine.live_system import LiveSystem
from antiphon.envs import from_tensors
from antiphon.jobs.job import Job
from antiphon.jobs.studies.scoring import Scoring, add_scores
from antiphon.running.callbacks import Callback
from antiphon.running.loop import train_to_end
from antiphon.running.templates import Request

HERE = Path(__file__).resolve().parent
STEPS, STOP = 12, 7
"""Steps of a run, and after how many it was stopped."""

PAIR = """
scenario: pair
description: An eye and an ear, with a synthetic gradient, over a link that delays messages.
variants: {wide: {width: 3}}
parameters: {width: {default: 2}, batch: {default: 3}, steps: {default: 12}}
env: {id: antiphon/Digits-v0, sampling: with_replacement}
agents:
  eye: {observes: [right_half], network: {kind: mlp, hidden: [$width], norm: layer}}
  ear: {objective: {kind: classification, target: label}, network: {kind: mlp, hidden: [$width]}}
channels: [{from: eye, to: ear, size: 2, gradient: {kind: linear, context: [label]}, link: {delay: 1}}]
training: {batch: $batch, steps: $steps}
telemetry: {period: 3}
"""
CLOCKS = """
scenario: clocks
description: Recurrent agents at two rates, lossy links, a synthetic input, tied biases; in two parts.
env: {id: antiphon/CountDigits-v0, levels: 1, window: 4}
agents:
  low: {observes: [image], network: {kind: gru, size: 2, hidden: [2]}, clock: {unroll: 2}}
  high: {network: {kind: lstm, size: 2}, clock: {period: 2, phase: 1, unroll: 2}, objective: {kind: classification, target: odd}}
channels:
  - from: low
    to: high
    size: 2
    norm: layer
    gradient: {kind: linear}
    input: {kind: linear}
    link: {delay: [2, 1], drop: 0.3}
  - {from: low, to: low, key: state, gradient: {kind: linear}}
  - {from: high, to: high, key: state, coupling: detached}
training: {batch: 3, steps: 12, optimiser: {kind: sgd, lr: 0.05, momentum: 0.9}}
telemetry: {period: 3}
"""


def objects() -> Scenario:
    """A scenario of Python objects: tensors and a module."""
    x = torch.arange(24.0).view(8, 3).sin()
    module = torch.nn.Linear(2, 2)
    module.load_state_dict(
        {"weight": torch.tensor([[0.4, -0.3], [-0.2, 0.5]]), "bias": torch.tensor([0.1, -0.1])}
    )
    return Scenario(
        scenario="objects",
        env=from_tensors(x=x, label=(x[:, 0] > 0).long(), sampling="with_replacement"),
        agents={
            "eye": {"observes": ["x"], "network": {"kind": "mlp", "hidden": [2], "norm": "none"}},
            "ear": {
                "network": module,
                "objective": {"kind": "classification", "target": "label"},
            },
        },
        channels=[{"from": "eye", "to": "ear", "size": 2}],
        training={"batch": 4, "steps": STEPS},
        telemetry={"period": 3},
    )


def _requests() -> dict[str, Request]:
    """Return what is run, by name."""

    def request(name: str, template: Template, **settings: Any) -> Request:
        command = ("antiphon", "run", template.source, "--name", name)
        return Request(template=template, steps=STEPS, command=command, **settings)

    acting = {"width": 2, "batch": 4, "unroll": 4, "units": 2}
    pair, clocks = Template.from_yaml(PAIR, "pair.yaml"), Template.from_yaml(CLOCKS, "clocks.yaml")
    return {
        "pair": request("pair", pair, seed=3, variant="wide"),
        "clocks": request("clocks", clocks, division=PartsSettings(count=2)),
        "acting": request("acting", load("cartpole-team"), values=acting),
    }


class _Stop(Callback):
    def next_step(self, running: LiveSystem) -> float:
        return running.now + 1

    def step(self, running: LiveSystem) -> None:
        """Interrupt the run."""
        if running.now == STOP:
            os.kill(os.getpid(), signal.SIGINT)


def restored(run: Path) -> Simulation:
    """Return the simulation of a golden run at its newest checkpoint, to go on in its directory."""
    return Simulation.resume(run, objects() if run.name == "objects" else None)


def numbers(simulation: Simulation) -> dict[str, Any]:
    """Return the numbers of a simulation that are compared."""
    agents = {}
    for name, agent in simulation.agents.items():
        flat = torch.cat([p.detach().double().flatten() for p in agent.parameters.values()])
        agents[name] = [float(flat.sum()), float(flat.norm())]
    losses = {name: own["loss"] for name, own in simulation.evaluate("train").agents.items() if "loss" in own}
    return {"now": simulation.now, "agents": agents, "losses": losses}


def _resumed(run: Path, copy: Path) -> dict[str, Any]:
    """Return the numbers of a run at its newest checkpoint, and at its end."""
    shutil.copytree(run, copy / run.name)
    with restored(copy / run.name) as simulation:
        found = {"stopped": numbers(simulation)}
        simulation.run()
        found["done"] = numbers(simulation)
    return found


def _shorten(run: Path) -> None:
    """Keep one checkpoint, and one run's event file, whose name has no machine and no process in it."""
    for old in sorted((run / "checkpoints").iterdir())[:-1]:
        shutil.rmtree(old)
    for path in run.glob("events.out.tfevents.*"):
        if run.name == "pair":
            path.rename(path.with_name("events.out.tfevents.1700000000.golden"))
        else:
            path.unlink()


def make(folder: Path) -> Path:
    """Make the golden runs in a folder that is not there yet, and return it."""
    folder.mkdir(parents=True)
    os.chdir(folder)
    for name, request in _requests().items():
        train_to_end([Job(request, Path(name), checkpoint_every=STOP).begin()], [_Stop()])
    with Simulation(objects(), logdir="objects", checkpoint_every=4) as simulation:
        for _ in (simulation.step() for _ in range(STOP)):
            pass
    add_scores(Path("pair"), STOP, [Scoring("validation")])
    expected = {}
    for path in sorted(path for path in Path().iterdir() if path.is_dir()):
        _shorten(path)
        expected[path.name] = _resumed(path, Path(".copies"))
    shutil.rmtree(".copies")
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    os.chdir(HERE)
    return folder


if __name__ == "__main__":
    target = HERE / str(FORMAT)
    if target.exists():
        sys.exit(f"{target}: is there already; delete it only where its format has not been released")
    with tempfile.TemporaryDirectory() as elsewhere:  # what TensorBoard reads has the path of its run
        shutil.move(make(Path(elsewhere) / "golden"), target)
