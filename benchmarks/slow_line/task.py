"""What is trained: a GPT of 8 blocks on windows of 64 characters of a text, and what it is judged by."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.agents.models import GPT
from antiphon.envs import text as texts

BLOCKS, WIDTH, HEADS = 8, 96, 4
LENGTH, BATCH = 64, 16
"""Characters of a window, and windows of a step, of all machines together."""
_HELD_OUT, _AT_ONCE = 384, 64
"""Windows of a split, evenly spaced, and how many are evaluated at a time."""


def text_name() -> str:
    """Return the text that is read: *Moby-Dick* where `ANTIPHON_DATA` names local copies, else the embedded one."""
    return "moby_dick" if os.environ.get("ANTIPHON_DATA") else texts.EMBEDDED


def new_model(seed: int) -> GPT:
    torch.manual_seed(seed)
    return GPT(texts.load(text_name()).classes, LENGTH, blocks=BLOCKS, width=WIDTH, heads=HEADS)


def _codes(split: str) -> Tensor:
    return torch.from_numpy(texts.load(text_name()).splits[split]).long()


class Windows:
    """So many windows a batch, which begin anywhere in the train split."""

    def __init__(self, count: int, seed: int) -> None:
        self._codes, self._count = _codes("train"), count
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch's characters [count, LENGTH], and those that follow each."""
        last = len(self._codes) - LENGTH - 1
        begins = torch.randint(last, (self._count, 1), generator=self._generator)
        places = begins + torch.arange(LENGTH)
        return self._codes[places], self._codes[places + 1]


def mean_state(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the model's parameters: each the mean over the processes that train it."""
    names = {name for state in states for name in state}
    return {name: torch.stack([state[name] for state in states if name in state]).mean(0) for name in names}


def save(state: Mapping[str, Tensor], path: str) -> None:
    """Write parameters to a file that is there as a whole or not at all."""
    torch.save({name: value.detach() for name, value in state.items()}, f"{path}.part")
    os.replace(f"{path}.part", path)


@torch.no_grad()
def bits(state: dict[str, Tensor]) -> float:
    """Return the bits per character of the validation text that a model with these parameters needs."""
    model, codes = new_model(0), _codes("validation")
    model.load_state_dict(state)
    chosen = sorted({*torch.linspace(0, (len(codes) - 1) // LENGTH - 1, _HELD_OUT).long().tolist()})
    total = 0.0
    for start in range(0, len(chosen), _AT_ONCE):
        places = torch.tensor(chosen[start : start + _AT_ONCE])[:, None] * LENGTH + torch.arange(LENGTH)
        logits = model(codes[places]).flatten(0, 1)
        total += F.cross_entropy(logits, codes[places + 1].flatten(), reduction="sum").item()
    return total / (len(chosen) * LENGTH) / math.log(2)
