"""Model files: what is read from a file, without antiphon, computes what the composed module does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from antiphon import Simulation
from antiphon.envs import from_sequences
from tests.engine.numbers import unchanged
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
        found, expected = loaded({"image": image}), module({"image": image})
        assert found.keys() == expected.keys()
        for agent, output in expected.items():
            torch.testing.assert_close(found[agent], output, rtol=1e-5, atol=1e-6)


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
def test_an_onnx_file_names_its_outputs_as_agents_and_next_states(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    simulation = remembering()
    file, module = onnx.load(simulation.export(tmp_path / "model.onnx")), simulation.compose()
    x, *states = [one.name for one in file.graph.input]
    assert x == "x"
    assert [one.name for one in file.graph.output] == ["a", "x_", *(f"next_{name}" for name in states)]
    rounds = torch.randn(3, module.steps_per_round, 4, 3)
    right = module.silence(4)
    given = {name: value.numpy() for name, value in zip(states, right.values(), strict=True)}
    for x in rounds:
        expected, right = module({"x": x}, right)
        found = ReferenceEvaluator(file).run(None, {"x": x.numpy(), **given})
        for value, wanted in zip(found, [*expected.values(), *right.values()], strict=True):
            torch.testing.assert_close(torch.from_numpy(value), wanted, rtol=1e-5, atol=1e-5)
        given = dict(zip(states, found[2:], strict=True))


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
