"""The buffer of windows that an agent learns from again."""

from __future__ import annotations

import torch

from antiphon.agents.q_learning import ReplayBuffer


def test_a_window_that_taught_an_agent_nothing_takes_no_place_in_its_buffer() -> None:
    """A buffer without a window teaches nothing."""
    window = {"unseen": torch.zeros(2, 3, dtype=torch.bool), "inputs": torch.ones(2, 3, 1)}
    buffer = ReplayBuffer.like(window, 2)
    assert buffer.drawn(torch.arange(2), torch.tensor([0.0, 0.9]))["unseen"].all()
    for number, taught in enumerate(([True, True], [True, False], [True, True]), 1):
        buffer.add({**window, "inputs": torch.full((2, 3, 1), float(number))}, torch.tensor(taught))
    places = [
        buffer.drawn(torch.arange(2), torch.full((2,), share))["inputs"][0, :, 0] for share in (0.0, 0.9)
    ]
    assert torch.stack(places).tolist() == [[3, 1], [2, 3]]
