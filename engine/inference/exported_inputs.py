"""The inputs of an exported module: names of its arguments, of the entries of its state, and of its parameters."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

STEPS = "steps"
"""Entry of the state: how many steps have been taken, int64 []."""
_OF_GRAPHS = frozenset(("self", "torch", "device", "inf", "nan"))
"""Words that the code of a torch.fx graph has a use for."""
TAKEN = 0
"""The key of that entry as an input: others are names of signals, and `Earlier`."""


def argument_names(signals: Iterable[str], *, state: bool) -> dict[str, str]:
    """Return the argument of each signal: what is no letter or digit in its name becomes `_`.

    Args:
        state: Whether the module has an argument `state` too.
    """
    words: dict[str, str] = {}
    for name in signals:
        word = re.sub(r"\W", "_", name)
        if not word.isidentifier() or keyword.iskeyword(word) or word in _OF_GRAPHS:
            word = f"_{word}"
        while word in words.values() or (state and word == "state"):
            word += "_"
        words[name] = word
    return words


def attribute_name(name: str) -> str:
    """Return a dotted name no part of which every torch module has already, as for a port called `type`."""
    return ".".join(f"{word}_" if hasattr(nn.Module, word) else word for word in name.split("."))


@dataclass(frozen=True)
class Earlier:
    """What was made at a step before a round: an entry of its state.

    Attributes:
        name: Of the channel that carries it, or of an agent and the place of what it observes.
    """

    name: str
    step: int

    @property
    def entry(self) -> str:
        return f"{self.name}@{self.step}"
