"""Masks: where something holds among the rows of a stack, (member, environment).

A mask that is the same in all rows is `ALL` or `NONE`: the host knows it, it costs no tensor operation, and `mask is ALL` tests
for it. Any other holds a tensor of bool, and what the host knows of that without a look at the device: a look waits for the
device, and is refused while CUDA records.

`ALL` and `NONE` are the only objects of their kinds, also in a state that has been loaded, and an operation that holds in all rows or
in none by construction returns them: `x & NONE` is `NONE`. A tensor that happens to be all True is not `ALL`. So there are two tests:

- `is ALL` or `is NONE` tests what is known from how a mask was made, costs nothing, and only skips work: a mask that holds nowhere, unknown
  to the host, gives the same result in more work.
- `anywhere` and `everywhere` look at the rows, and are used where the answer changes a result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic

import torch
from torch import Tensor


class Rows:
    """What a `Mask` is of, unless it says otherwise: rows, (member, environment)."""


class Members:
    """What a `Mask[Members]` is of: the members of a stack, [N]. mypy keeps the two apart; they are one class at run time."""


if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Of = TypeVar("Of", default=Rows)
else:  # a default needs Python 3.13
    from typing import TypeVar

    Of = TypeVar("Of")


class Mask(Generic[Of]):
    """Where something holds: in all rows (`ALL`), in none (`NONE`), or where a tensor says; it does not change.

    Masks are combined by `&`, `|` and `~`. A mask has no truth value: test `is ALL`, or ask for `anywhere` or `everywhere`.

    Attributes:
        known_anywhere: Whether it holds in any row, as far as the host knows without a look at the device; None: a look would
            show it.
        plain: True, False or the tensor, [rows] bool or [ticks, rows]: what is saved, sent and returned to users.
    """

    __slots__ = ("_everywhere", "known_anywhere", "plain")

    def __init__(self, plain: bool | Tensor, known_anywhere: bool | None = None) -> None:
        uniform = None if isinstance(plain, Tensor) else plain
        self.plain = plain
        self.known_anywhere = known_anywhere if uniform is None else uniform
        self._everywhere = uniform

    @staticmethod
    def of(where: bool | Tensor, anywhere: bool | None = None) -> Mask[Any]:
        """Return the mask of True, False or a tensor of bool, used as it is; `anywhere`: whether that holds in any row, if the host knows."""
        if isinstance(where, Tensor):
            return Mask(where, anywhere)
        return ALL if where else NONE

    @property
    def anywhere(self) -> bool:
        """Whether it holds in any row; of a tensor of which that is not known, by one look at the device."""
        if self.known_anywhere is None:
            assert isinstance(self.plain, Tensor)
            self.known_anywhere = bool(self.plain.any())
        return self.known_anywhere

    @property
    def everywhere(self) -> bool:
        """Whether it holds in all rows; of a tensor, by one look at the device."""
        if self._everywhere is None:
            assert isinstance(self.plain, Tensor)
            self._everywhere = bool(self.plain.all())
        return self._everywhere

    def __and__(self, other: Mask[Of]) -> Mask[Of]:
        if self is NONE or other is ALL or other is self:
            return self
        if not isinstance(self.plain, Tensor) or not isinstance(other.plain, Tensor):
            return other
        nowhere = self.known_anywhere is False or other.known_anywhere is False
        return Mask(torch.logical_and(self.plain, other.plain), False if nowhere else None)

    def __or__(self, other: Mask[Of]) -> Mask[Of]:
        if self is ALL or other is NONE:
            return self
        if not isinstance(self.plain, Tensor) or not isinstance(other.plain, Tensor):
            return other
        first, second = self.known_anywhere, other.known_anywhere
        anywhere = True if first or second else None if first is None else second
        return Mask(torch.logical_or(self.plain, other.plain), anywhere)

    def __invert__(self) -> Mask[Of]:
        if isinstance(self.plain, Tensor):
            return Mask(torch.logical_not(self.plain))
        return NONE if self.plain else ALL

    def where(self, value: Tensor, other: Tensor) -> Tensor:
        """Return `value` [rows, …], or [ticks, rows, …] as the mask, where it holds, and `other` elsewhere."""
        rows = self.plain
        if not isinstance(rows, Tensor):
            return value if rows else other
        return torch.where(rows.view(*rows.shape, *([1] * (value.dim() - rows.dim()))), value, other)

    def zero_elsewhere(self, value: Tensor) -> Tensor:
        """Return `value`, as in `where`, and zeros elsewhere: put, never multiplied (NaN x 0 is NaN)."""
        return value if self is ALL else self.where(value, torch.zeros_like(value))

    def map(self, change: Callable[[Tensor], Tensor]) -> Mask[Any]:
        """Return the mask with its tensor, if it has one, changed: its rows repeated, selected or put in another order."""
        return Mask(change(self.plain)) if isinstance(self.plain, Tensor) else self

    def tensor(self, rows: int, device: torch.device | str) -> Tensor:
        """Return it as a tensor, [rows] bool, on a device; its own, if it has one, which must not be changed."""
        return (
            self.plain if isinstance(self.plain, Tensor) else torch.full((rows,), self.plain, device=device)
        )

    def __bool__(self) -> bool:
        raise TypeError("a mask has no truth value; test `is ALL`, or use its `anywhere` or `everywhere`")

    def __reduce__(self) -> Any:
        if isinstance(self.plain, Tensor):
            return Mask, (self.plain, self.known_anywhere)
        return "ALL" if self.plain else "NONE"


ALL: Mask[Any] = Mask(True)
NONE: Mask[Any] = Mask(False)


def simplified(mask: Mask[Of]) -> Mask[Of]:
    """Return a mask, as `ALL` if it holds in all rows, by a look at them."""
    return ALL if mask.everywhere else mask
