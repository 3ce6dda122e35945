"""Model files: what is read from a file, without antiphon, computes what the composed module does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from antiphon import Simulation
from antiphon.envs import from_sequences, from_tensors
from antiphon.errors import RunError, ScenarioError
from tests.engine.numbers import one_line, unchanged
from tests.engine.scenes import CLASSIFY, scenario_of

Document = dict[str, Any]
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
    conv = {"kind": "conv", "hidden": [3], "size": 3, "pool": ["max"], "norm": "batch"}
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


def symbols() -> Simulation:
    """A message of symbols and one of unit length, beside each other."""
    reader: Document = {"network": MLP, "objective": CLASSIFY}
    words = {"sample": {"kind": "gumbel", "vocabulary": 4, "size": 3}}
    place: Document = {"from": "a", "to": "b", "key": "place", "size": [2, 2], "norm": "unit"}
    return simulate({"a": EYE, "b": reader}, [{"from": "a", "to": "b", **words}, place])


SYSTEMS: dict[str, Callable[[], Simulation]] = {
    "pictures": pictures,
    "own": lambda: chain(network=Attention),
    "symbols": symbols,
}


@pytest.mark.long
@torch.no_grad()
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_file_computes_what_the_composed_module_does(name: str, tmp_path: Path) -> None:
    simulation = SYSTEMS[name]()
    with unchanged(simulation):
        path = simulation.export(tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == [path]
    module, loaded = simulation.compose(), torch.export.load(path).module()
    shape = simulation.world.env.signals["image"].shape
    for rows in (1, 7):
        image = torch.rand(rows, *shape, generator=torch.Generator().manual_seed(rows))
        found, expected = loaded(image=image), module(image=image)
        assert found.keys() == expected.keys()
        for agent, output in expected.items():
            torch.testing.assert_close(found[agent], output, rtol=1e-5, atol=1e-6)


def test_a_module_that_is_called_with_another_name_says_which_it_has() -> None:
    """Its copies too."""
    with SYSTEMS["symbols"]() as simulation:
        module = simulation.compose()
        image = torch.zeros(2, *simulation.world.env.signals["image"].shape)
    for callee in (module, copy.deepcopy(module)):
        with pytest.raises(
            ScenarioError, match=r"^compose: the module has no input 'imag'; did you mean 'image'\?$"
        ):
            callee(imag=image)


def remembering() -> Simulation:
    """Two networks with states, one of which has the name of their signal."""
    random = torch.Generator().manual_seed(0)
    label = torch.randint(2, (20,), generator=random)
    env = from_sequences(x=list(torch.randn(20, 4, 3, generator=random)), label=label)
    mind: Document = {
        "observes": ["x"],
        "network": {"kind": "gru", "hidden": [4]},
        "objective": {"kind": "classification", "target": "label"},
        "clock": {"unroll": "episode"},
    }
    return simulate({"a": mind, "x": {**mind, "network": {"kind": "lstm", "size": 3}}}, [], env, steps=2)


@pytest.mark.long
@torch.no_grad()
def test_the_state_that_a_file_returns_is_the_state_of_its_next_call(tmp_path: Path) -> None:
    simulation = remembering()
    path = simulation.export(tmp_path / "model.pt2")
    module, loaded = simulation.compose(), torch.export.load(path).module()
    rounds = torch.randn(3, module.steps_per_round, 4, 3)  # type: ignore[call-overload]
    _, begun = module(x=rounds[0], state=None)
    right = state = {key: torch.zeros_like(value) for key, value in begun.items()}
    for x in rounds:
        expected, right = module(x=x, state=right)
        found, state = loaded(x=x, state=state)
        torch.testing.assert_close((found, state), (expected, right))


@pytest.mark.long
@torch.no_grad()
def test_an_onnx_file_names_its_outputs_as_agents_and_next_states(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    simulation = remembering()
    file, module = onnx.load(simulation.export(tmp_path / "model.onnx")), simulation.compose()
    x, *states = [one.name for one in file.graph.input]
    assert x == "x"
    assert [one.name for one in file.graph.output] == ["a", "x_", *(f"next_{name}" for name in states)]
    rounds = torch.randn(3, module.steps_per_round, 4, 3)  # type: ignore[call-overload]
    _, right = module(x=rounds[0], state=None)
    right = {key: torch.zeros_like(value) for key, value in right.items()}
    given = {name: value.numpy() for name, value in zip(states, right.values(), strict=True)}
    for x in rounds:
        expected, right = module(x=x, state=right)
        found = ReferenceEvaluator(file).run(None, {"x": x.numpy(), **given})
        for value, wanted in zip(found, [*expected.values(), *right.values()], strict=True):
            torch.testing.assert_close(torch.from_numpy(value), wanted, rtol=1e-5, atol=1e-5)
        given = dict(zip(states, found[2:], strict=True))


@pytest.mark.long
def test_outputs_of_some_agents_and_names_that_collide(tmp_path: Path) -> None:
    numbers = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    env = from_tensors(**{"a-b": numbers, "a_b": numbers, "label": (numbers[:, 0] > 0).long()})
    reader = {"network": MLP, "objective": CLASSIFY}
    agents = {"a": {**reader, "observes": ["a-b"]}, "b": {**reader, "observes": ["a_b"]}}
    simulation = simulate(agents, [{**DELAYED, "link": {}}], env)
    rows = numbers[:5]
    expected = simulation.compose()(rows, rows)
    for asked in (None, ["b", "a", "b"]):
        found = torch.export.load(simulation.export(tmp_path / "model.pt2", asked)).module()(
            a_b=rows, a_b_=rows
        )
        assert list(found) == (["a", "b"] if asked is None else ["b", "a"])
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


# --- weights -----------------------------------------------------------------------------------------------


def test_weights_go_into_the_module_that_they_were_of(tmp_path: Path) -> None:
    simulation = chain(network=Attention)
    x = torch.rand(5, 4)
    expected = simulation.agents["b"].module(x)["objective"]
    whole = load_file(simulation.export(tmp_path / "weights.safetensors"))
    assert whole.keys() > {f"a.{name}" for name in simulation.agents["a"].parameters}
    fresh, prefix = Attention(4, 10), "b.module."
    fresh.load_state_dict({k.removeprefix(prefix): v for k, v in whole.items() if k.startswith(prefix)})
    assert int(fresh.norm.num_batches_tracked) == simulation.now  # running statistics too
    torch.testing.assert_close(fresh.eval()(x), expected)


# --- what is refused ---------------------------------------------------------------------------------------


class Choosy(nn.Module):
    """A module whose way depends on the numbers that it is given."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(-x if x.sum() > 0 else x)  # type: ignore[no-any-return]


@pytest.mark.long
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


class Counting(Choosy):
    """A module that reads the size of the batch as a Python integer."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x).reshape(len(x), -1)  # type: ignore[no-any-return]


def test_a_module_that_fixes_the_size_of_the_batch_gets_the_fix(tmp_path: Path) -> None:
    line = r"read the size of the batch as x\.shape\[0\], not as len\(x\) or int\(…\); weights alone"
    with pytest.raises(RunError, match=line):
        chain(network=Counting).export(tmp_path / "model.pt2")


@pytest.mark.parametrize("suffix", [".pt2", ".safetensors"])
def test_a_file_that_cannot_be_written_leaves_the_one_before(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("antiphon.base.files.os.fsync", full)
    path = tmp_path / f"model{suffix}"
    path.write_text("before")
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\); free disk space"):
        chain().export(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_exported_is_one_line(tmp_path: Path) -> None:
    simulation = chain()
    with pytest.raises(RunError, match=r"^export: 'model.pth' has no known suffix; use .pt2, .onnx, .safet"):
        simulation.export(tmp_path / "model.pth")
    with one_line("export: agents is empty; name one, or leave it out"):
        simulation.export(tmp_path / "model.pt2", [])
    for agents in ("b", 3):
        with one_line(f"export: agents={agents!r}; must be a list of names"):
            simulation.export(tmp_path / "model.pt2", agents=agents)  # type: ignore[arg-type]
    with one_line("export: no agent 'bb'; did you mean 'b'?"):
        simulation.export(tmp_path / "model.pt2", ["bb"])
    with one_line("compose: 'a' has no objective, so it has no output; known: b"):
        simulation.export(tmp_path / "model.pt2", ["a"])
    with pytest.raises(ScenarioError, match=r"^export: no agent 'bb'; did you mean 'b'\?$"):
        simulation.export(tmp_path / "w.safetensors", ["bb"])
    assert not list(tmp_path.iterdir())
