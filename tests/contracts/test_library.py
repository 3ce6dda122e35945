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
from tests.engine.numbers import leaves

SMALL: dict[str, dict[str, Any]] = {
    "big-corporation": {"agents": 8, "readouts": 2, "hold": 3, "size": 3, "batch": 4},
    "cartpole-team": {"width": 5, "units": 4, "unroll": 4, "batch": 4},
    "char-lm": {"hidden": 4, "units": 3, "batch": 4},
    "cifar10-cnn": {"data": "shapes", "filters": 2, "predictor": 4, "batch": 4},
    "cifar10-mlp": {"data": "shapes", "depth": 3, "width": 6, "batch": 4},
    "clockwork": {"hidden": 3, "size": 2, "units": 3, "unroll": 2, "batch": 4},
    "copy": {"bits": 2, "hidden": 4, "units": 3, "threshold": 5.0, "max_length": 3, "batch": 4},
    "corporation": {"agents": 6, "readouts": 2, "hold": 3, "width": 5, "size": 3, "batch": 4},
    "deep-mlp": {"depth": 5, "width": 6, "batch": 4},
    "digits-mlp": {"width": 6, "batch": 4},
    "eyes": {"width": 6, "size": 3, "batch": 4},
    "feudal-keydoor": {"width": 5, "period": 2, "goals": 2, "unroll": 4, "limit": 5, "batch": 4},
    "hyperplane": {"points": 4},
    "lossy": {"width": 6, "size": 3, "hold": 4, "delay": 1, "batch": 4},
    "mnist-cnn": {"filters": 2, "predictor": 4, "batch": 4},
    "mnist-mlp": {"width": 6, "batch": 4},
    "mnist-split": {"width": 6, "batch": 4},
    "pipelined": {"width": 6, "batch": 4},
    "referential-game": {"width": 6, "units": 5, "size": 4, "batch": 4},
    "referential-reward": {"width": 6, "units": 5, "size": 4, "batch": 4},
    "repeat-copy": {"bits": 2, "hidden": 4, "units": 3, "threshold": 5.0, "max_length": 3, "batch": 4},
    "ring-of-many": {"agents": 6, "readouts": 2, "hold": 5, "delay": 2, "width": 5, "size": 3, "batch": 4},
    "sparse-updates": {"width": 6, "batch": 4, "p_update": 0.6},
    "speaker-listener": {"width": 5, "units": 4, "unroll": 3, "batch": 4},
    "three-timescales": {"hidden": 4, "size": 2, "units": 3, "batch": 4},
    "two-timescales": {"T": 2, "hidden": 4, "size": 2, "units": 3, "batch": 4},
    "unlocked": {"depth": 3, "width": 6, "units": 5, "batch": 4},
}
MORE: dict[str, list[dict[str, Any]]] = {
    "char-lm": [{"trace": 1.0, "span": 2, "T": 2}, {"cell": "rnn"}, {"gradient": "sobolev_label", "T": 2}],
    "cifar10-cnn": [{"gradient": "sobolev_label"}],
    "clockwork": [
        {"read": "mean"},
        {"read": "last", "coupling": "delayed"},
        {"gradient": "sobolev", "delay": 3},
        {"unroll": 1, "cell": "leaky"},
    ],
    "copy": [
        {"trace": 0.5, "T": 2, "auxiliary": 0.5},
        {"cell": "gru", "cell_norm": "layer"},
        {"cell": "rnn", "cell_norm": "batch"},
        {"gradient": "sobolev", "trace": 1.0, "T": 1},
        {"gradient": "linear"},
    ],
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
    "three-timescales": [{"read": "mean"}, {"read": "concat"}, {"coupling": "delayed"}],
    "two-timescales": [
        {"coupling": "delayed"},
        {"memory_trace": 0.5, "memory_auxiliary": 1.0},
        {"memory_gradient": "sobolev", "cell": "gru", "cell_norm": "batch"},
        {"gradient": "critic", "cell": "leaky"},
    ],
    "unlocked": [{"gradient": "sobolev_label", "input": "linear"}],
}
"""Other mechanisms that a scenario's parameters reach."""
ACTING = ("cartpole-team", "feudal-keydoor", "speaker-listener")
"""Scenarios of agents that act in a world."""
TIMED = ("char-lm", "clockwork", "copy", "repeat-copy", "three-timescales", "two-timescales", *ACTING)
"""Scenarios of agents with a state or a world: they run for ever, and so do their compositions."""
ALIKE = (
    "big-corporation",
    "cifar10-cnn",
    "cifar10-mlp",
    "deep-mlp",
    "mnist-split",
    "pipelined",
    "ring-of-many",
)
"""Scenarios that differ from others in data and size alone: interrupted once, not twice."""

GPU = "cuda"


def cases() -> Iterator[Any]:
    """All variants; by day the first of each scenario, and two of its other mechanisms."""
    for name, template in catalogue().items():
        settings: list[dict[str, Any]] = [dict(template.variants[v]) for v in template.variants]
        for values in [*settings, *MORE.get(name, [])]:
            label = "-".join(f"{key}={value}" for key, value in values.items())
            marks = () if values in (settings[0], *MORE.get(name, [])[:2]) else (pytest.mark.nightly,)
            yield pytest.param(name, values, id=f"{name}-{label or 'default'}", marks=marks)


CASES = list(cases())
COMPOSED = [
    case
    for case in CASES
    if case.values[0] not in TIMED or not case.values[1] or {"cell", "read", "delay"} & set(case.values[1])
]
"""Whose composition is not that of another: how an agent with a state learns does not show in it."""
OUTPUTS = {"hyperplane": 2, "referential-game": 8, "referential-reward": 4}
"""Outputs of a readout that has not ten."""
WATCHED = [
    ("char-lm", {}),
    ("clockwork", {}),
    ("copy", {"trace": 0.5, "auxiliary": 0.5, "gradient": "sobolev"}),
    ("copy", {"coupling": "locked"}),
    ("three-timescales", {"read": "mean"}),
    ("two-timescales", {"coupling": "delayed"}),
    ("two-timescales", {"memory_trace": 0.5}),
]
"""Whom somebody watches."""


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


def assert_same(one: Simulation, other: Simulation, *, beside: str | None = None) -> None:
    """Hold two simulations to the same state, all of it but what is found `beside`; NaN is the same as NaN."""
    ours, theirs = (
        {
            place: value
            for place, value in leaves(each._state_dict())
            if not beside or not place.startswith(beside)
        }
        for each in (one, other)
    )
    assert ours.keys() == theirs.keys()
    for place, value in ours.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, theirs[place], rtol=0, atol=0, equal_nan=True, msg=place)
        else:
            assert value == theirs[place], place


def test_all_scenarios_of_the_library_are_tried() -> None:
    assert SMALL.keys() == catalogue().keys()


@pytest.mark.parametrize(("name", "values"), CASES)
def test_saved_loaded_and_gone_on_to_the_same_bits(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    steps = 13 if name in TIMED else 8
    unbroken = Simulation(resolved(name, values), seed=3)
    unbroken.run(steps)
    for early in (4,) if name in ALIKE else (1, 4) if name not in TIMED else (7,):
        first = Simulation(resolved(name, values), seed=3)
        first.run(early)
        loaded = Simulation.load(first.save(tmp_path / f"{early}"))
        twin = first.fork()
        for simulation in (first, loaded, twin):
            simulation.run(steps - early)
            assert_same(simulation, unbroken)


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "values"), CASES)
def test_a_gpu_learns_what_the_cpu_does(name: str, values: dict[str, Any]) -> None:
    """In float64, whose rounding alone differs between the devices."""
    both = [
        Simulation(resolved(name, values), seed=3, device=device, dtype=torch.float64)
        for device in ("cpu", GPU)
    ]
    before = learned(both[0])
    for simulation in both:
        simulation.run(42)
    host, device = map(learned, both)
    assert host.keys() == device.keys() == before.keys()
    assert any(not torch.equal(value, before[place]) for place, value in host.items())
    for place, value in host.items():
        assert torch.dist(device[place], value) <= 1e-6 * torch.dist(value, before[place]) + 1e-9, place


def learned(simulation: Simulation) -> dict[str, torch.Tensor]:
    """Copies of all parameters, on the CPU, by place."""
    system = simulation._system
    found = {name: agent.learner.parameters for name, agent in system.agents.items()}
    for name, channel in system.channels.items():
        if channel.predictor is not None:
            found[name] = channel.predictor.parameters
    return {
        f"{name}/{key}": value.detach().cpu().clone()
        for name, each in found.items()
        for key, value in each.items()
    }


@pytest.mark.parametrize(("name", "values"), WATCHED)
def test_whoever_looks_changes_no_bit(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    scenario = resolved(name, values)
    fields = {key: getattr(scenario, key) for key in type(scenario).model_fields}
    fields["telemetry"] = {"every": 1, "histograms": True}
    unseen = Simulation(scenario, seed=3)
    unseen.run(9)
    with Simulation(Scenario(**fields), seed=3, logdir=tmp_path / "run") as seen:
        for _ in (seen.step() for _ in range(9)):
            pass
        assert_same(seen, unseen, beside="/tally")


@pytest.mark.parametrize(("name", "values"), COMPOSED)
def test_its_composition_is_made_of_torch_alone(name: str, values: dict[str, Any]) -> None:
    simulation = Simulation(resolved(name, values))
    simulation.run(3)
    module = simulation.compose()
    for part in module.modules():
        assert type(part).__module__.startswith("torch."), type(part)
    for node in module.graph.nodes:
        assert not str(getattr(node.target, "__module__", "")).startswith("antiphon")
    shown = [node.target for node in module.graph.nodes if node.op == "placeholder"]
    if name in TIMED:
        _goes_on(simulation, module, [word for word in shown if word != "state"])
        return
    signals = simulation.world.step_signals.signals
    assert not any(simulation.world.env.signals[name].training_only for name in shown)
    outputs = module(**{name: signals[name] for name in shown})
    assert set(outputs) == set(simulation.scenario.readouts)
    assert all(output.shape == (4, OUTPUTS.get(name, 10)) for output in outputs.values())
    assert isinstance(module, fx.GraphModule)
    assert isinstance(module, nn.Module)


def _goes_on(simulation: Simulation, module: fx.GraphModule, shown: list[Any]) -> None:
    """Two calls with the state handed on say what one call says."""
    steps = module.steps_per_round
    assert isinstance(steps, int)
    signals = simulation.world.env.signals
    assert not any(signals[name].training_only for name in shown)
    rng = torch.Generator().manual_seed(0)
    given = {name: torch.rand(2 * steps, 4, *signals[name].shape, generator=rng) for name in shown}
    whole, after = module(**given)
    first, state = module(**{name: value[:steps] for name, value in given.items()})
    second, end = module(**{name: value[steps:] for name, value in given.items()}, state=state)
    assert set(whole) == set(simulation.scenario.readouts)
    for name in whole:
        assert torch.equal(torch.cat([first[name], second[name]]), whole[name])
    assert all(torch.equal(end[key], value) for key, value in after.items())


def test_an_exported_composition_runs_in_a_process_without_antiphon(tmp_path: Path) -> None:
    simulation = Simulation(resolved("corporation", {"hold": 2}))
    simulation.run(3)
    module = simulation.compose()
    signals = simulation.world.step_signals.signals
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
