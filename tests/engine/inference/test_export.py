"""Export: a system as one torch module, in time too, and its files, compute what an evaluation over perfect links does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Simulation
from tests.engine.numbers import unchanged
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.tiers import sampled

Document = dict[str, Any]
GOAL = {"kind": "classification", "target": "label"}


def make(
    agents: dict[str, Document], channels: list[Document], env: Any = None, **options: Any
) -> Simulation:
    agents = {name: {"network": {"kind": "mlp", "hidden": [6]}, **agent} for name, agent in agents.items()}
    env = options if env is None else env
    scenario = scenario_of(agents, channels, env, batch=5, optimiser={"kind": "adam", "lr": 0.01})
    simulation = Simulation(scenario, dtype=torch.float64)
    simulation.run(6)
    return simulation


@torch.no_grad()
def assert_composed(simulation: Simulation) -> None:
    """Score the module by hand, a third of the split at a time, beside the evaluation of the whole."""
    module, env = simulation.compose(), simulation.world.env
    losses: dict[str, list[Tensor]] = {}
    for batch in env.batches("test", env.example_count("test") // 3):
        for name, output in module(batch).items():
            losses.setdefault(name, []).append(F.cross_entropy(output, batch["label"], reduction="none"))
    assert set(losses) == set(simulation.scenario.readouts)
    found = simulation.evaluate()
    for name, own in losses.items():
        loss = torch.cat(own)
        assert found.agents[name]["loss"] == pytest.approx(float(loss.mean()), abs=1e-12)
        assert float(loss.std()) > 1e-3  # outputs depend on what is shown


def chain(**channel: Any) -> list[Document]:
    return [{"from": s, "to": r, "size": 4, **channel} for s, r in ("ab", "bc")]


def line(**more: Document) -> dict[str, Document]:
    base: dict[str, Document] = {"a": {"observes": ["image"]}, "b": {}, "c": {"objective": GOAL}}
    return {name: {**base[name], **more.get(name, {})} for name in base}


def ways(*pairs: str) -> list[Document]:
    return [{"from": s, "to": r, "size": 4, "link": {"delay": 1}} for s, r in pairs]


SPOILT = {"drop": 0.3, "noise": 0.2, "bits": 3}
"""What perfect links leave out."""
SKIP = {"from": "a", "to": "c", "size": 3}
CYCLE = ways("ab", "bc", "ca", "ba", "cc")
CLOCKS = line(
    a={"clock": {"period": 4, "phase": 3}},
    b={"clock": {"period": 2}},
    c={"clock": {"period": 3, "phase": -1}},
)
LAST = line(c={"clock": {"period": 4, "phase": -1}})
MAPS: Document = {"kind": "conv", "hidden": [3], "size": 3, "pool": ["max"], "norm": "batch"}
MAPS_ON = {**MAPS, "norm": "layer", "pool": ["avg"]}
OF_MAPS: list[Document] = [
    {"from": "a", "to": "b", "link": {"delay": 1}},
    {"from": "b", "to": "c", "size": [2, 3, 3], "norm": "layer"},
]
SCENES: dict[str, tuple[dict[str, Document], list[Document], Document]] = {
    "a chain": (line(), chain(), {}),
    "delays, and links that spoil": (line(), chain(link={"delay": 2, **SPOILT}), {}),
    "a shorter way": (line(), [*chain(link={"delay": 2}), SKIP], {}),
    "an example that is held": (line(), CYCLE, {"hold": 6}),
    "an example that is an episode": (line(), CYCLE, {"hold": 6, "episode": "example"}),
    "clocks": (CLOCKS, chain(), {}),  # a at 3, b at 4, c at 5
    "a late tick": (LAST, chain(), {}),
    "a tick later than the example": (LAST, chain(), {"hold": 2, "episode": "example"}),
    "feature maps": (line(a={"network": MAPS}, b={"network": MAPS_ON}), OF_MAPS, {}),
}


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", SCENES)
def test_it_scores_what_an_evaluation_does(name: str) -> None:
    agents, channels, env = SCENES[name]
    assert_composed(make(agents, channels, **env))


# --- in time ---------------------------------------------------------------------------------------------


IN_TIME = {"kind": "classification", "target": "odd_so_far"}
LEVELS: dict[str, Document] = {
    "a": {"observes": ["image"], "network": {"kind": "lstm", "size": 5, "hidden": [6], "norm": "batch"}},
    "b": {"network": {"kind": "gru", "size": 4, "cell_norm": "layer"}, "clock": {"period": 2, "phase": -1}},
    "c": {
        "objective": IN_TIME,
        "network": {"kind": "mlp", "hidden": [6]},
        "clock": {"period": 3, "phase": 1},
    },
}
CHAIN: list[Document] = [{"from": "a", "to": "b", "size": 4}, {"from": "b", "to": "c", "size": 3}]
RING = [*CHAIN, {"from": "c", "to": "a", "size": 2, "link": {"delay": 1}}]


def levels(**more: Document) -> dict[str, Document]:
    return {name: {**spec, **more.get(name, {})} for name, spec in LEVELS.items()}


def every(channels: list[Document], **more: Any) -> list[Document]:
    return [{**channel, **more} for channel in channels]


CASES: dict[str, tuple[dict[str, Document], list[Document], int]] = {
    "chain": (levels(), CHAIN, 6),
    "ring": (levels(), RING, 6),
    "late": (levels(), every(CHAIN, link={"delay": 9}), 6),
    "concat": (levels(), [{**CHAIN[0], "read": "concat", "link": {"delay": 3}}, CHAIN[1]], 6),
    "aged": (levels(b={"observes": ["age"]}, c={"observes": ["age"]}), every(CHAIN, link={"delay": 7}), 6),
}


def simulate(agents: dict[str, Document], channels: list[Document], **how: Any) -> Simulation:
    env, adam = {"id": "antiphon/CountDigits-v0"}, {"kind": "adam", "lr": 0.01}
    scenario = scenario_of(agents, channels, env, batch=3, optimiser=adam, **how)
    return Simulation(scenario, dtype=torch.float64)


def rolled(
    agents: dict[str, Document], channels: list[Document], steps: int
) -> tuple[Simulation, Tensor, Tensor]:
    """Run a trained system that learns no more: it, what it was shown, [steps, batch, …], and c's outputs, [ticks, batch, …].

    `d` is told c's outputs: the message is computed as they are, with the same parameters.
    """
    agents = {**agents, "d": {"objective": IN_TIME, "network": {"kind": "mlp", "hidden": []}}}
    channels = [*channels, {"from": "c", "to": "d", "size": 5, "norm": "none"}]
    trained = simulate(agents, channels)
    trained.run(8)
    simulation = simulate(
        {name: {**agent, "learn": False} for name, agent in agents.items()}, channels, readout="c"
    )
    for name, agent in simulation.agents.items():
        source = trained.agents[name]
        for kept, learned in ((agent.parameters, source.parameters), (agent.buffers, source.buffers)):
            for key, value in kept.items():
                value.data.copy_(learned[key.replace("to_d", "objective") if name == "c" else key])
    shown, said = [], []
    for step in range(steps):
        shown.append(simulation.signals["image"])
        simulation.step()
        message = simulation.channels["c->d"].messages.get(step)
        said += [] if message is None else [message.value]
    return simulation, torch.stack(shown), torch.stack(said)


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_system_run_forward(name: str) -> None:
    agents, channels, length = CASES[name]
    steps = max(3 * length, 24) // length * length
    simulation, image, expected = rolled(agents, channels, steps)
    module = simulation.compose()
    assert module.steps_per_round == length
    said, state = [], None
    for shown in image.split(length):  # with its state it goes on where it was
        outputs, state = module({"image": shown}, state)
        assert set(outputs) == {"c"}
        said.append(outputs["c"])
    assert state is not None
    torch.testing.assert_close(torch.cat(said), expected, rtol=0, atol=1e-10)
    assert state["steps"].item() == len(image)
    assert all(value.shape[0] == 3 for key, value in state.items() if key != "steps")
    assert not torch.allclose(expected[0], expected[-1])
    with pytest.raises(ValueError, match="shorter"):
        module({"image": image[: length - 1]})


# --- files -----------------------------------------------------------------------------------------------


MLP = {"kind": "mlp", "hidden": [6]}
EYE: Document = {"observes": ["image"], "network": MLP}
DELAYED: Document = {"from": "a", "to": "b", "size": 4, "link": {"delay": 2}}


def simulation_of(
    agents: Mapping[str, Any], channels: list[Document], env: Any = None, steps: int = 6
) -> Simulation:
    simulation = Simulation(scenario_of(agents, channels, env, batch=5))
    simulation.run(steps)
    return simulation


def links(**reader: Any) -> Simulation:
    return simulation_of({"a": EYE, "b": {"network": MLP, "objective": CLASSIFY, **reader}}, [DELAYED])


def pictures() -> Simulation:
    """Convolutions with batch norm, tied, into one reader."""
    conv = {"kind": "conv", "hidden": [3], "size": 3, "pool": ["max"], "norm": "batch"}
    eye: Document = {"observes": ["image"], "network": conv, "share": "eye"}
    reader = {"network": {**MLP, "norm": "layer"}, "objective": CLASSIFY}
    channels = [
        {"from": "a", "to": "c", "size": 4, "port": "p"},
        {"from": "b", "to": "c", "size": 4, "port": "p"},
    ]
    return simulation_of({"a": eye, "b": eye, "c": reader}, [dict(channel) for channel in channels])


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
    return simulation_of({"a": EYE, "b": reader}, [{"from": "a", "to": "b", **words}, place])


SYSTEMS: dict[str, Callable[[], Simulation]] = {
    "own": lambda: links(network=Attention),
    "pictures": pictures,
    "symbols": symbols,
}


@pytest.mark.long
@torch.no_grad()
@pytest.mark.parametrize("name", sampled(SYSTEMS, len(SYSTEMS), "nightly"))
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
