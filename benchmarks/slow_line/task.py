"""What is trained: a GPT of 8 blocks on windows of 64 characters of a text, and what it is judged by."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import torch
from costs import Shape
from torch import Tensor
from torch.nn import functional as F

from antiphon.agents.models import GPT
from antiphon.envs.datasets import texts

STANDARD, HEADS = Shape(), 4
_HELD_OUT, _AT_ONCE = 384, 64
"""Windows of a split, evenly spaced, and how many are evaluated at a time."""


def text_name() -> str:
    """Return the text that is read: *Moby-Dick* where `ANTIPHON_DATA` names local copies, else the embedded one."""
    return "moby_dick" if os.environ.get("ANTIPHON_DATA") else texts.EMBEDDED


def new_model(seed: int, shape: Shape = STANDARD) -> GPT:
    """Return a model of a shape with its initial parameters."""
    torch.manual_seed(seed)
    classes = texts.load(text_name()).classes
    return GPT(classes, shape.length, blocks=shape.blocks, width=shape.width, heads=HEADS)


def _codes(split: str) -> Tensor:
    return torch.from_numpy(texts.load(text_name()).splits[split]).long()


class Windows:
    """Windows that begin anywhere in the train split.

    Args:
        count: Windows of a batch.
        seed: Of the places.
        length: Characters of a window.
    """

    def __init__(self, count: int, seed: int, length: int = STANDARD.length) -> None:
        self._codes, self._count, self._length = _codes("train"), count, length
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Return the next batch's characters [count, length], and those that follow each."""
        last = len(self._codes) - self._length - 1
        begins = torch.randint(last, (self._count, 1), generator=self._generator)
        places = begins + torch.arange(self._length)
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
def bits(state: dict[str, Tensor], split: str = "validation", shape: Shape = STANDARD) -> float:
    """Return the bits per character of a split's text that a model with these parameters needs."""
    model, codes, length = new_model(0, shape), _codes(split), shape.length
    model.load_state_dict(state)
    chosen = sorted({*torch.linspace(0, (len(codes) - 1) // length - 1, _HELD_OUT).long().tolist()})
    total = 0.0
    for start in range(0, len(chosen), _AT_ONCE):
        places = torch.tensor(chosen[start : start + _AT_ONCE])[:, None] * length + torch.arange(length)
        logits = model(codes[places]).flatten(0, 1)
        total += F.cross_entropy(logits, codes[places + 1].flatten(), reduction="sum").item()
    return total / (len(chosen) * length) / math.log(2)
