"""Every library scenario, in every variant: saved, loaded and gone on with to the same bits; composed as it ran."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario, catalogue

SMALL: dict[str, dict[str, Any]] = {
    "big-corporation": {"agents": 8, "readouts": 2, "hold": 3, "size": 3, "batch": 4},
    "cifar10-cnn": {"data": "shapes", "filters": 2, "predictor": 4, "batch": 4},
    "cifar10-mlp": {"data": "shapes", "depth": 3, "width": 6, "batch": 4},
    "corporation": {"agents": 6, "readouts": 2, "hold": 3, "width": 5, "size": 3, "batch": 4},
    "deep-mlp": {"depth": 5, "width": 6, "batch": 4},
    "digits-mlp": {"width": 6, "batch": 4},
    "eyes": {"width": 6, "size": 3, "batch": 4},
    "hyperplane": {"points": 4},
    "lossy": {"width": 6, "size": 3, "hold": 4, "delay": 1, "batch": 4},
    "mnist-cnn": {"filters": 2, "predictor": 4, "batch": 4},
    "mnist-mlp": {"width": 6, "batch": 4},
    "mnist-split": {"width": 6, "batch": 4},
    "pipelined": {"width": 6, "batch": 4},
    "sparse-updates": {"width": 6, "batch": 4, "p_update": 0.6},
    "unlocked": {"depth": 3, "width": 6, "units": 5, "batch": 4},
}
MORE: dict[str, list[dict[str, Any]]] = {
    "cifar10-cnn": [{"gradient": "sobolev_label"}],
    "corporation": [
        {"coupling": "delayed"},
        {"context": "adjacent"},
        {"context": "adjacent", "gradient": "local"},
        {"gradient": "mlp"},
        {"unroll": 2},
        {"unroll": "episode"},
        {"drop": 0.4, "delay": 2, "input": "mlp", "p_update": 0.6, "hold": 5},
        {"context": "adjacent", "gradient": "sobolev", "relay": "sobolev"},
    ],
    "digits-mlp": [
        {"coupling": "delayed"},
        {"delay": 1},
        {"coupling": "delayed", "delay": 2},
        {"gradient": "mlp", "context": []},
        {"gradient": "critic"},
        {"gradient": "sobolev", "delay": 1},
        {"gradient": "sobolev_label"},
        {"coupling": "locked", "feedback": "fa"},
        {"coupling": "locked", "feedback": "dfa"},
    ],
    "lossy": [{"noise": 0.5, "input": "linear"}],
    "mnist-cnn": [{"coupling": "delayed"}, {"gradient": "conv"}, {"gradient": "sobolev"}],
    "sparse-updates": [{"coupling": "locked", "depth": 3}],
    "unlocked": [{"gradient": "sobolev_label", "input": "linear"}],
}
"""Other mechanisms that a scenario's parameters reach."""
ALIKE = ("big-corporation", "cifar10-cnn", "cifar10-mlp", "deep-mlp", "mnist-split", "pipelined")
"""Scenarios that differ from others in data and size alone: interrupted once, not twice."""


def cases() -> Iterator[Any]:
    for name, template in catalogue().items():
        settings: list[dict[str, Any]] = [dict(template.variants[v]) for v in template.variants]
        for values in [*settings, *MORE.get(name, [])]:
            label = "-".join(f"{key}={value}" for key, value in values.items())
            yield pytest.param(name, values, id=f"{name}-{label or 'default'}")


CASES = list(cases())


def resolved(name: str, values: dict[str, Any]) -> Scenario:
    return catalogue()[name].resolve(values={**SMALL[name], **values})


@pytest.fixture(scope="module")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two dozen made-up pictures in MNIST's format."""
    folder = tmp_path_factory.mktemp("data") / "mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 48), ("t10k", 12)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        image_header = struct.pack(">BBBBIII", 0, 0, 8, 3, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(image_header + pixels.tobytes())
        label_header = struct.pack(">BBBBI", 0, 0, 8, 1, count)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(label_header + labels.tobytes())
    return folder.parent


@pytest.fixture(autouse=True)
def _data(idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_DATA", str(idx_folder))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number of a state, by its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        yield f"{path}#", len(value)
        for i, item in enumerate(value):
            yield from leaves(item, f"{path}/{i}")
    else:
        yield path, value


def assert_same(one: Simulation, other: Simulation) -> None:
    ours, theirs = dict(leaves(one.state_dict())), dict(leaves(other.state_dict()))
    assert ours.keys() == theirs.keys()
    for place, value in ours.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, theirs[place]), place
        else:
            assert value == theirs[place], place


def test_all_scenarios_of_the_library_are_tried() -> None:
    assert SMALL.keys() == catalogue().keys()


@pytest.mark.parametrize(("name", "values"), CASES)
def test_saved_loaded_and_gone_on_to_the_same_bits(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    unbroken = Simulation(resolved(name, values), seed=3)
    unbroken.run(8)
    for early in (4,) if name in ALIKE else (1, 4):
        first = Simulation(resolved(name, values), seed=3)
        first.run(early)
        loaded = Simulation.load(first.save(tmp_path / f"{early}"))
        twin = first.fork()
        for simulation in (first, loaded, twin):
            simulation.run(8 - early)
            assert_same(simulation, unbroken)


@pytest.mark.parametrize(("name", "values"), CASES)
def test_its_composition_is_made_of_torch_alone(name: str, values: dict[str, Any]) -> None:
    simulation = Simulation(resolved(name, values))
    simulation.run(3)
    module = simulation.compose()
    for part in module.modules():
        assert type(part).__module__.startswith("torch."), type(part)
    for node in module.graph.nodes:
        assert not str(getattr(node.target, "__module__", "")).startswith("antiphon")
    shown = [node.target for node in module.graph.nodes if node.op == "placeholder"]
    signals = simulation.world.moment.signals
    assert not any(simulation.world.env.signals[name].training_only for name in shown)
    outputs = module(**{name: signals[name] for name in shown})
    assert set(outputs) == set(simulation.scenario.readouts)
    assert all(output.shape == (4, 2 if name == "hyperplane" else 10) for output in outputs.values())
    assert isinstance(module, fx.GraphModule)
    assert isinstance(module, nn.Module)


def test_an_exported_composition_runs_in_a_process_without_antiphon(tmp_path: Path) -> None:
    simulation = Simulation(resolved("corporation", {"hold": 2}))
    simulation.run(3)
    module = simulation.compose()
    signals = simulation.world.moment.signals
    shown = [node.target for node in module.graph.nodes if node.op == "placeholder"]
    inputs = {key: signals[key] for key in shown}
    torch.export.save(torch.export.export(module, (), inputs), tmp_path / "system.pt2")
    torch.save(
        (inputs, {key: value.data for key, value in module(**inputs).items()}), tmp_path / "example.pt"
    )
    program = (
        "import sys, torch\n"
        f"inputs, expected = torch.load({str(tmp_path / 'example.pt')!r})\n"
        f"found = torch.export.load({str(tmp_path / 'system.pt2')!r}).module()(**inputs)\n"
        "assert all(torch.allclose(found[k], v, atol=1e-6) for k, v in expected.items())\n"
        "assert not any(m.partition('.')[0] == 'antiphon' for m in sys.modules)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
