"""Parameters and buffers that are changed in place between two steps: what open windows have computed with them is computed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor

from antiphon.base.errors import RunError
from antiphon.nets.trained_parameters import TrainedParameters

_version = attrgetter("_version")


class InPlaceChanges:
    """Parameters and buffers that have been handed out, and whether one has been changed since the step before.

    Torch counts every change of a tensor in place, except through `.data`: such a change is seen between the access and
    the next step only. Without an access, nothing is compared.

    Args:
        open_window: Whether a window is open, which has used the present parameters.

    Attributes:
        watching: Whether anything has ever been handed out, so that there is something to compare.
    """

    watching = False

    def __init__(self, open_window: Callable[[], bool]) -> None:
        self._open_window = open_window
        self._held: dict[int, Tensor] = {}
        """All parameters that have been handed out, by identity."""
        self._count = 0
        """The sum of their versions."""
        self._fresh: dict[int, _Fresh] = {}
        """What has been handed out since the step before, by identity."""

    def watch(self, owner: str, model: TrainedParameters) -> None:
        """Watch parameters and buffers of `owner`, such as `agents['a']`, which are being handed out."""
        self.watching = True
        for p in model.parameters.values():
            if id(p) not in self._held:
                self._held[id(p)] = p
                self._count += p._version
        copied = self._open_window()
        for kind, tensors in (("parameters", model.parameters), ("buffers", model.buffers)):
            for name, tensor in tensors.items():
                if id(tensor) not in self._fresh:
                    values = tensor.data.clone() if copied else None
                    at = f"{owner}.{kind}['{name}']", tensor.data_ptr(), tensor._version
                    self._fresh[id(tensor)] = _Fresh(tensor, *at, values)

    def note(self) -> None:
        """Take the parameters as they are now, after a step, as unchanged."""
        self._count = sum(map(_version, self._held.values()))

    def taken(self) -> bool:
        """Return whether one has been changed, once for each change.

        Raises:
            RunError: One has other memory, which no stack or optimiser refers to.
        """
        fresh, self._fresh = list(self._fresh.values()), {}
        for watched in fresh:
            if watched.tensor.data_ptr() != watched.address:
                raise RunError(f"{watched.name} has other memory; change it in place: tensor.data.copy_(…)")
        count = self._count
        self.note()
        return count != self._count or any(watched.changed for watched in fresh)


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A tensor as it was when it was handed out: its address, its version, and where a window was open its values."""

    tensor: Tensor
    name: str
    address: int
    version: int
    values: Tensor | None

    @property
    def changed(self) -> bool:
        if self.tensor._version != self.version:
            return True
        return self.values is not None and not torch.equal(self.tensor, self.values)
