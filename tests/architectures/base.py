"""What a model of the tests is: its class, an example, the places where it may be cut, and its prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Architecture", "numbers", "tokens"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A model as its user would write it, and how to call it.

    Attributes:
        name: For test ids.
        make: Makes one of random parameters.
        inputs: By argument of `forward`, a function of (batch, seed).
        cuts: Sets of submodules before which it may be cut.
        output: The key or position of the prediction in what `forward` returns; None: it returns the prediction.
        classes: Of the prediction's last axis; None: it is real numbers.
        constants: Other keyword arguments of `forward`, that are no tensors.
        ties: Whether some cut lies between two uses of one parameter.
        dropout: Whether `make` takes a rate of dropout, 0 if left out.
    """

    name: str
    make: Callable[..., nn.Module]
    inputs: Mapping[str, Callable[[int, int], Tensor]]
    cuts: tuple[tuple[str, ...], ...]
    output: str | int | None = None
    classes: int | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)
    ties: bool = False
    dropout: bool = False

    def model(self, **options: Any) -> nn.Module:
        """Return the model of one fixed seed, whatever else draws random numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return self.make(**options)

    def example(self, batch: int, seed: int = 0) -> dict[str, Tensor]:
        """Return arguments of `forward`, [batch, …] each."""
        return {name: make(batch, seed + i) for i, (name, make) in enumerate(self.inputs.items())}

    def prediction(self, found: Any) -> Tensor:
        """Return the prediction in what the model has returned."""
        value: Tensor = found if self.output is None else found[self.output]
        return value

    def call(self, model: nn.Module, arguments: Mapping[str, Tensor]) -> Tensor:
        """Return the prediction of a model for arguments."""
        return self.prediction(model(**arguments, **self.constants))

    def __str__(self) -> str:
        return self.name


def numbers(*shape: int) -> Callable[[int, int], Tensor]:
    """Normal numbers, [batch, *shape], by (batch, seed)."""
    return lambda batch, seed: torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


def tokens(vocabulary: int, *shape: int) -> Callable[[int, int], Tensor]:
    """Whole numbers below `vocabulary`, [batch, *shape], by (batch, seed)."""

    def make(batch: int, seed: int) -> Tensor:
        drawn = torch.randint(vocabulary, (batch, *shape), generator=torch.Generator().manual_seed(seed))
        drawn.view(batch, -1)[0, 0] = vocabulary - 1  # so that a column of them has as many classes
        return drawn

    return make
