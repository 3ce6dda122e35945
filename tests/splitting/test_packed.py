"""Models that pack sequences by their lengths: zeros, which a model is tried with, are no lengths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import antiphon
from antiphon import Simulation


class Packed(nn.Module):
    """An LSTM over the valid part of each sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 8, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.long().cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=6)[0]


class Model(nn.Module):
    """It and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.packed, self.head = Packed(), nn.Linear(8, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.packed(x, lengths).mean(1))


class Whole(Packed):
    """A model whose own forward packs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        found: Tensor = self.head(super().forward(x, lengths).mean(1))
        return found


def source(lengths: Tensor) -> Any:
    torch.manual_seed(0)
    signals = {"x": torch.randn(40, 6, 3), "lengths": lengths, "label": torch.arange(40) % 2}
    return antiphon.envs.from_tensors(**signals, training_only=["label"], test=0, validation=0)


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", [torch.int64, torch.float32])
@pytest.mark.parametrize("model", [Model, Whole])
def test_a_model_that_packs_is_split(
    kind: torch.dtype, model: type[nn.Module], capsys: pytest.CaptureFixture[str]
) -> None:
    env = source((torch.arange(40) % 4 + 3).to(kind))
    scenario = antiphon.split(model(), at=["head"], env=env, batch=8)
    with Simulation(scenario) as run:
        run.run(steps=3, progress=False)
        assert run.agents["part0"].updates == 3
    assert "Traceback" not in capsys.readouterr().err  # torch.fx prints one of each trial that fails
