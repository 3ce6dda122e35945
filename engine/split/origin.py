"""The model that parts were cut out of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["Origin"]


@dataclass(frozen=True, eq=False)
class Origin:
    """A model as it was when it was split; copies of a part share it.

    Attributes:
        model: The model.
        untied: Groups of parameters, as (agent, key), that the model shares and the parts do not.
    """

    model: nn.Module
    untied: Sequence[Sequence[tuple[str, str]]]

    def __deepcopy__(self, memo: dict[int, Any]) -> Origin:
        return self
