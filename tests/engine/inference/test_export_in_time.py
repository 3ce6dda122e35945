"""Export: a system that runs for ever, as one torch module that is handed its own state again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from tests.engine.scenes import scenario_of

Document = dict[str, Any]
GOAL = {"kind": "classification", "target": "odd_so_far"}
LEVELS: dict[str, Document] = {
    "a": {"observes": ["image"], "network": {"kind": "lstm", "size": 5, "hidden": [6], "norm": "batch"}},
    "b": {"network": {"kind": "gru", "size": 4, "cell_norm": "layer"}, "clock": {"period": 2, "phase": -1}},
    "c": {"objective": GOAL, "network": {"kind": "mlp", "hidden": [6]}, "clock": {"period": 3, "phase": 1}},
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
    "mean": (levels(), [{**CHAIN[0], "read": "mean", "link": {"delay": 3}}, CHAIN[1]], 6),
    "concat": (levels(), [{**CHAIN[0], "read": "concat", "link": {"delay": 3}}, CHAIN[1]], 6),
    "aged": (levels(b={"observes": ["age"]}, c={"observes": ["age"]}), every(CHAIN, link={"delay": 7}), 6),
    "aligned": (levels(c={"observes": ["image"], "align": True}), every(CHAIN, link={"delay": 2}), 6),
    "mutual": (levels(a={"align": True}, b={"align": True}, c={"align": True}), RING, 6),
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
    agents = {**agents, "d": {"objective": GOAL, "network": {"kind": "mlp", "hidden": []}}}
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
