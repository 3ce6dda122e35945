"""Model files: what is read from a file, without antiphon, computes what the composed module does."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file
from torch import Tensor, nn

from antiphon.engine.inference import model_files
from antiphon.engine.inference.export import observed
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.errors import RunError, ScenarioError
from tests.engine.numbers import assert_same_state, kept, one_line
from tests.engine.scenes import CLASSIFY, scenario_of

Document = dict[str, Any]
Tensors = dict[str, Tensor]
MLP = {"kind": "mlp", "hidden": [6]}
EYE: Document = {"observes": ["image"], "network": MLP}
DELAYED: Document = {"from": "a", "to": "b", "size": 4, "link": {"delay": 2}}


def simulate(
    agents: Mapping[str, Any], channels: list[Document], env: Any = None, steps: int = 6
) -> Simulation:
    simulation = Simulation(scenario_of(agents, channels, env, batch=5))
    simulation.run(steps)
    return simulation


def chain(**reader: Any) -> Simulation:
    return simulate({"a": EYE, "b": {"network": MLP, "objective": CLASSIFY, **reader}}, [DELAYED])


def pictures() -> Simulation:
    """Convolutions with batch norm, tied, into one reader."""
    conv = {"kind": "conv", "hidden": [3], "filter": 3, "pool": ["max"], "norm": "batch"}
    eye: Document = {"observes": ["image"], "network": conv, "share": "eye"}
    reader = {"network": {**MLP, "norm": "layer"}, "objective": CLASSIFY, "fan_in": "mean"}
    channels = [
        {"from": "a", "to": "c", "size": 4, "port": "p"},
        {"from": "b", "to": "c", "size": 4, "port": "p"},
    ]
    return simulate({"a": eye, "b": eye, "c": reader}, [dict(channel) for channel in channels])


class Attention(nn.Module):
    """A module of the user's own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(inputs)
        self.attention = nn.MultiheadAttention(inputs // 4, 1, batch_first=True)
        self.last = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.norm(x).unflatten(1, (4, -1))
        return self.last(self.attention(parts, parts, parts)[0].flatten(1))  # type: ignore[no-any-return]


def timescales() -> Simulation:
    """A slow recurrent agent that reads a fast one over a delay longer than its period."""
    agents = {
        "a": {"observes": ["image", "age"], "network": {"kind": "lstm", "size": 4}},
        "b": {
            "network": {"kind": "gru", "size": 3},
            "clock": {"period": 2, "phase": -1},
            "objective": {"kind": "classification", "target": "odd_so_far"},
        },
    }
    channels: list[Document] = [
        {"from": "a", "to": "b", "size": 2, "link": {"delay": 3}, "read": "mean"},
        {"from": "b", "to": "a", "size": 2, "link": {"delay": 1, "drop": 0.5}},
    ]
    return simulate(agents, channels, {"id": "antiphon/CountDigits-v0"})


def symbols() -> Simulation:
    """A message of symbols and one of unit length, beside each other."""
    reader: Document = {"network": MLP, "objective": CLASSIFY}
    words = {"symbols": {"vocabulary": 4, "length": 3}}
    place: Document = {"from": "a", "to": "b", "key": "place", "size": [2, 2], "norm": "unit"}
    return simulate({"a": EYE, "b": reader}, [{"from": "a", "to": "b", **words}, place])


SYSTEMS: dict[str, Callable[[], Simulation]] = {
    "delayed": chain,
    "pictures": pictures,
    "own": lambda: chain(network=Attention),
    "symbols": symbols,
    "in time": timescales,
}
ONNX = ("delayed", "in time")
"""Written as ONNX by day too, which takes seconds each."""


def opened(path: Path, outputs: list[str]) -> Callable[..., tuple[Tensors, Tensors]]:
    """Return a function of signals and state, from and to dicts, that runs a file."""
    if path.suffix == ".pt2":
        program = torch.export.load(path)
        (_, keywords), module = program.example_inputs, program.module()

        def run_program(signals: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
            found = module(**signals, **({"state": state} if "state" in keywords else {}))
            return found if isinstance(found, tuple) else (found, {})

        return run_program
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    names = [one.name for one in model.graph.output]
    assert names[: len(outputs)] == outputs

    def run_graph(signals: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        given = {name: value.numpy() for name, value in (*signals.items(), *state.items())}
        values = map(torch.from_numpy, map(np.asarray, ReferenceEvaluator(model).run(None, given)))
        found = dict(zip(names, values, strict=True))
        return (
            {name: found[name] for name in outputs},
            {name.removeprefix("next_"): found[name] for name in names if name not in outputs},
        )

    return run_graph


def silence(path: Path, rows: int) -> Tensors:
    """Return the state before the first call, as the file alone describes it."""
    if path.suffix == ".pt2":
        _, keywords = torch.export.load(path).example_inputs
        state = keywords.get("state", {})
        assert not any(value.any() for value in state.values())
        return {k: v.new_zeros(rows, *v.shape[1:]) if v.dim() else v for k, v in state.items()}
    found = {}
    for one in onnx.load(path).graph.input:
        if one.name.startswith("state_"):
            shape = [dim.dim_value or rows for dim in one.type.tensor_type.shape.dim]
            kind = torch.float32 if one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT else torch.int64
            found[one.name] = torch.zeros(shape, dtype=kind)
    return found


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        pytest.param(name, suffix, marks=() if suffix == ".pt2" or name in ONNX else (pytest.mark.nightly,))
        for name in SYSTEMS
        for suffix in (".pt2", ".onnx")
    ],
)
def test_a_file_computes_what_the_composed_module_does(name: str, suffix: str, tmp_path: Path) -> None:
    simulation = SYSTEMS[name]()
    before = kept(simulation.state_dict())
    path = simulation.export(tmp_path / f"model{suffix}")
    assert_same_state(simulation, before)
    assert list(tmp_path.iterdir()) == [path]
    module, readouts = simulation.compose(), list(simulation.scenario.readouts)
    run = opened(path, readouts)
    shape = simulation.system.description.signals["image"].shape
    stream = simulation.system.description.is_stream
    for rows in (1, 7):
        state, own = silence(path, rows), None
        for call in range(1 if stream else 4):
            draw = torch.Generator().manual_seed(10 * rows + call)
            steps = () if stream else (module.steps_per_round,)
            image = torch.rand(*steps, rows, *shape, generator=draw)
            found, state = run({"image": image}, state)
            expected, own = (module(image=image), None) if stream else module(image=image, state=own)
            assert found.keys() == expected.keys()
            for agent in readouts:
                torch.testing.assert_close(found[agent], expected[agent], rtol=1e-5, atol=1e-6)
        if own is not None:
            for value, wanted in zip(state.values(), own.values(), strict=True):
                torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)
            assert int(next(iter(state.values()))) == 4 * int(module.steps_per_round)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_file_names_nothing_of_antiphon(suffix: str, tmp_path: Path) -> None:
    path = timescales().export(tmp_path / f"model{suffix}")
    parts = [path.read_bytes()]
    if suffix == ".pt2":
        with zipfile.ZipFile(path) as archive:
            parts = [archive.read(name) for name in archive.namelist()]
    assert len(parts) > 5 or suffix == ".onnx"
    assert not any(b"antiphon" in part for part in parts)


def test_outputs_of_some_agents_and_names_that_collide(tmp_path: Path) -> None:
    numbers = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    env = from_tensors(**{"a-b": numbers, "b": numbers, "label": (numbers[:, 0] > 0).long()})
    reader = {"network": MLP, "objective": CLASSIFY}
    agents = {"a": {**reader, "observes": ["a-b"]}, "b": {**reader, "observes": ["b"]}}
    simulation = simulate(agents, [{**DELAYED, "link": {}}], env)
    assert observed(simulation.system) == ["a-b", "b"]
    for asked, names in ((None, ["a", "b_"]), (["b", "a", "b"], ["b_", "a"])):
        graph = onnx.load(simulation.export(tmp_path / "model.onnx", asked)).graph
        assert [one.name for one in graph.output] == names
        assert {one.name for one in graph.input} >= {"a_b"}
    model = onnx.load(tmp_path / "model.onnx")
    rows = numbers[:5]
    found = ReferenceEvaluator(model).run(None, {"a_b": rows.numpy(), "b": rows.numpy()})
    expected = simulation.compose(["b", "a"])(rows, rows)
    for value, name in zip(found, ("b", "a"), strict=True):
        np.testing.assert_allclose(value, expected[name].detach(), rtol=1e-5, atol=1e-6)


# --- one agent alone ---------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_an_agent_alone_takes_its_inputs_and_its_state(suffix: str, tmp_path: Path) -> None:
    simulation = timescales()
    path = simulation.agents["a"].export(tmp_path / f"a{suffix}")
    agent, module = simulation.system.agents["a"], simulation.agents["a"].module
    network = agent.learner.network
    x, zeros = torch.rand(3, *network.input_shape), torch.zeros(3, network.state_size)
    expected = module(x)
    after, _ = network(
        agent.learner.parameters, agent.learner.buffers, x, training=False, state=expected["state"]
    )
    if suffix == ".pt2":
        program = torch.export.load(path).module()
        first = program(x=x, state=zeros)
        second = program(x=x, state=first["state"])
    else:
        model = onnx.load(path)
        names = [one.name for one in model.graph.output]

        def run(state: Tensor) -> Tensors:
            values = ReferenceEvaluator(model).run(None, {"x": x.numpy(), "state": state.numpy()})
            found = dict(zip(names, map(torch.from_numpy, values), strict=True))
            return {**found, "state": found.pop("next_state")}

        first = run(zeros)
        second = run(first["state"])
    for found, wanted in ((first, expected), (second, {**after, "hidden": second["hidden"]})):
        assert found.keys() >= wanted.keys()
        for port, value in wanted.items():
            torch.testing.assert_close(found[port], value, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(first["state"], second["state"])


# --- weights -----------------------------------------------------------------------------------------------


def test_weights_go_into_the_module_that_they_were_of(tmp_path: Path) -> None:
    simulation = chain(network=Attention)
    x = torch.rand(5, 4)
    expected = simulation.agents["b"].module(x)["objective"]
    whole = load_file(simulation.export(tmp_path / "weights.safetensors"))
    own = load_file(simulation.agents["b"].export(tmp_path / "b.safetensors"))
    assert {name for name in whole if name.startswith("b.")} == {f"b.{name}" for name in own}
    assert whole.keys() > {f"a.{name}" for name in simulation.agents["a"].parameters}
    for weights, prefix in ((whole, "b.module."), (own, "module.")):
        fresh = Attention(4, 10)
        fresh.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        assert int(fresh.norm.num_batches_tracked) == simulation.now  # running statistics too
        torch.testing.assert_close(fresh.eval()(x), expected)


def test_weights_of_some_agents_and_of_tied_ones(tmp_path: Path) -> None:
    simulation = pictures()
    names = {k.split(".")[0] for k in load_file(simulation.export(tmp_path / "w.safetensors"))}
    assert names == {"a", "c"}
    found = load_file(simulation.export(tmp_path / "w.safetensors", ["b"]))
    assert {k.split(".")[0] for k in found} == {"a"}
    for name, value in simulation.agents["b"].parameters.items():
        assert torch.equal(found[f"a.{name}"], value)


# --- what is refused ---------------------------------------------------------------------------------------


class Choosy(nn.Module):
    """A module whose way depends on the numbers that it is given."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(-x if x.sum() > 0 else x)  # type: ignore[no-any-return]


def test_a_module_that_cannot_be_traced_is_one_line_and_leaves_the_file(tmp_path: Path) -> None:
    simulation = chain(network=Choosy)
    path = tmp_path / "model.pt2"
    path.write_text("before")
    with pytest.raises(
        RunError, match=r"^export: model.pt2: torch cannot trace the module \(.+\); weights .+$"
    ) as error:
        simulation.export(path)
    assert "\n" not in str(error.value)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".pt2", ".safetensors"])
def test_a_file_that_cannot_be_written_leaves_the_one_before(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object, path: Path, **_more: object) -> None:
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.export, "save", full)
    monkeypatch.setattr(model_files, "save_file", full)
    path = tmp_path / f"model{suffix}"
    path.write_text("before")
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\); choose another path"):
        chain().export(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_exported_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = chain()
    with pytest.raises(
        RunError, match=r"^export: 'model.pth' is of no known format; end it in .pt2, .onnx, .safet"
    ):
        simulation.export(tmp_path / "model.pth")
    with one_line("export: agents is empty; name one, or leave it out"):
        simulation.export(tmp_path / "model.pt2", [])
    for agents in ("b", 3):
        with one_line(f"export: agents: {agents!r}; must be a list of names"):
            simulation.export(tmp_path / "model.pt2", agents=agents)  # type: ignore[arg-type]
    with one_line("compose: no agent 'bb'; did you mean 'b'?"):
        simulation.export(tmp_path / "model.pt2", ["bb"])
    with one_line("compose: 'a' has no objective, so it has no output; known: b"):
        simulation.export(tmp_path / "model.onnx", ["a"])
    with pytest.raises(ScenarioError, match=r"^export: no agent 'bb'; did you mean 'b'\?$"):
        simulation.export(tmp_path / "w.safetensors", ["bb"])
    monkeypatch.setattr(model_files, "_ONNX_BYTES", 100)
    with pytest.raises(RunError, match=r"model.onnx would have 0.0 GiB, ONNX has less than 2; use .pt2"):
        simulation.export(tmp_path / "model.onnx")
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else known(name)
    )
    with pytest.raises(
        RunError, match=r"^export: model.onnx needs onnxscript: pip install 'antiphon\[onnx\]'$"
    ):
        simulation.export(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
