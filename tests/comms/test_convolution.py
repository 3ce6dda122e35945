"""Convolutional synthetic gradients: what they read, and that they stay where they look."""

from __future__ import annotations

import torch

from antiphon.comms import Example
from antiphon.comms.examples import ContextSpec
from tests.comms.made import DOUBLE, LABEL, SHAPE, SIZE, draw, make


def test_every_feature_is_a_channel_and_a_map_is_its_own() -> None:
    returned = ContextSpec("returned", SHAPE)
    own = make("conv", context=(LABEL, returned), trained=False)
    assert own.parameters["last.weight"].shape == (2, 2 + 3 + 2, 3, 3)
    with torch.no_grad():  # copy the first channel of what came back, and add 10 for the second class
        own.parameters["last.weight"][0, 5, 1, 1] = 1
        own.parameters["last.weight"][:, 3, 1, 1] = 10
    label = torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=DOUBLE)
    back = draw(2, SIZE, seed=1)
    said = own.predict(Example(draw(2, SIZE, seed=2), torch.cat([label, back], 1), None)).view(2, *SHAPE)
    maps = back.view(2, *SHAPE)
    torch.testing.assert_close(said[0, 0], maps[0, 0])
    torch.testing.assert_close(said[1, 0], maps[1, 0] + 10)
    assert torch.equal(said[1, 1], torch.full((3, 3), 10.0, dtype=DOUBLE))


def test_it_maps_what_it_sees_wherever_that_is() -> None:
    own = make("conv", shape=(1, 8, 8), context=(), hidden=(3,), norm="none")
    message = torch.zeros(1, 1, 8, 8, dtype=DOUBLE)
    message[0, 0, 3, 3] = 1
    here = own.predict(Example(message.flatten(1), None, None)).view(8, 8)
    there = own.predict(Example(message.roll(1, 3).flatten(1), None, None)).view(8, 8)
    torch.testing.assert_close(here[2:5, 2:5], there[2:5, 3:6])
    torch.testing.assert_close(here[:, 7], there[:, 7])  # two layers of 3 pixels see no further than 2
