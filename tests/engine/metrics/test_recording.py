"""Recordings: raw tensors over time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import load
from tests.engine.numbers import all_parameters, equal, one_line


def eyes(**values: Any) -> Simulation:
    return Simulation(load("eyes").resolve(values={"width": 5, "size": 3, "batch": 4, **values}))


def test_it_keeps_copies_of_what_there_was_at_each_step() -> None:
    simulation = eyes()
    channel = simulation.channels["left->mind"].record(["message", "delta", "prediction"])
    weights = simulation.agents["mind"].record(["objective.weight"], every=2)
    messages, last = [], []
    for step in range(6):
        simulation.step()
        messages.append(simulation._system.channels["left->mind"].ledger.records[step].message.clone())
        last.append(simulation.agents["mind"].parameters["objective.weight"].data.clone())
    assert channel.steps["message"] == list(range(6))
    assert torch.equal(channel.stack("message"), torch.stack(messages))
    assert channel.stack("delta").shape == channel.stack("prediction").shape == (6, 4, 3)
    assert not bool(channel.stack("prediction")[0].any())
    assert bool(channel.stack("prediction")[5].any())
    assert weights.steps["objective.weight"] == [1, 3, 5]
    assert torch.equal(weights.stack("objective.weight"), torch.stack(last[1::2]))


def test_recording_changes_no_bit() -> None:
    watched, plain = eyes(), eyes()
    watched.channels["left->mind"].record(["message", "delta", "prediction"])
    watched.agents["mind"].record(["objective.weight"])
    watched.run(5)
    plain.run(5)
    assert equal(all_parameters(watched), all_parameters(plain))


def test_what_is_not_there_at_a_step_is_left_out() -> None:
    simulation = eyes(coupling="detached")
    channel = simulation.channels["left->mind"].record(["message", "delta", "prediction"])
    simulation.run(3)
    assert len(channel.values["message"]) == 3
    assert channel.values["delta"] == channel.values["prediction"] == []


@pytest.mark.parametrize(
    ("name", "quantity", "every", "expected"),
    [
        ("lft->mind", "message", 1, "no channel 'lft->mind'; did you mean 'left->mind'"),
        ("left->mind", "mesage", 1, "'left->mind' has no 'mesage'; did you mean 'message'"),
        ("mind", "objective", 1, "'mind' has no 'objective'; did you mean"),
        ("left->mind", "message", 0, "every is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_recorded_is_one_clear_line(
    name: str, quantity: str, every: int, expected: str
) -> None:
    with one_line(expected):
        simulation = eyes()
        (simulation.channels if "->" in name else simulation.agents)[name].record([quantity], every)
