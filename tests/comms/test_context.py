"""Contexts are encoded in declared order: one-hot where categorical, flat where not."""

from __future__ import annotations

import torch

from antiphon.comms.model import ContextSpec, encode
from tests.some import some

LABEL = ContextSpec("label", (), 3)
POSITION = ContextSpec("position", (2, 2))
DIGITS = ContextSpec("digits", (2,), 3)


def test_encoding() -> None:
    signals = {
        "label": torch.tensor([2, 0]),
        "position": torch.tensor([[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]]),
    }
    columns = some(encode([LABEL, POSITION], signals, torch.float64))
    assert columns.dtype == torch.float64
    assert columns.tolist() == [[0, 0, 1, 1, 2, 3, 4], [1, 0, 0, 5, 6, 7, 8]]
    swapped = some(encode([POSITION, LABEL], signals, torch.float64))
    assert swapped.tolist()[0] == [1, 2, 3, 4, 0, 0, 1]


def test_each_component_of_a_categorical_signal_is_one_hot() -> None:
    columns = some(encode([DIGITS], {"digits": torch.tensor([[0, 2]])}, torch.float32))
    assert columns.tolist() == [[1, 0, 0, 0, 0, 1]]
    assert encode([], {}, torch.float32) is None
