"""Rows of a stack, (member, environment): masks of rows, and the rows of each member.

A mask that is the same everywhere is a Python bool, so that the common cases (every environment, none) cost no tensor
operation; any other is a tensor of rows, [B] or [N * B] bool. Where each holds is said where it is a field (message.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

RowMask = bool | Tensor
"""All rows, none, or a mask [rows] bool."""


def mask_or(a: RowMask, b: RowMask) -> RowMask:
    """Union of two masks."""
    if a is True or b is True:
        return True
    if a is False:
        return b
    return a if b is False else torch.logical_or(a, b)


def mask_not(a: RowMask) -> RowMask:
    """Complement of a mask."""
    return torch.logical_not(a) if isinstance(a, Tensor) else not a


def mask_and(a: RowMask, b: RowMask) -> RowMask:
    """Intersection of two masks."""
    if a is False or b is False:
        return False
    if a is True:
        return b
    return a if b is True else torch.logical_and(a, b)


def simplify(mask: RowMask) -> RowMask:
    """A mask tensor that holds everywhere as True."""
    return True if isinstance(mask, Tensor) and bool(mask.all()) else mask


def mask_fill_zero(mask: RowMask, value: Tensor) -> Tensor:
    """`value` [rows, …], or [ticks, rows, …] as the mask, where it holds and zeros elsewhere; filled, never multiplied (NaN x 0 is NaN)."""
    if mask is True:
        return value
    if mask is False:
        return torch.zeros_like(value)
    assert isinstance(mask, Tensor)
    return torch.where(
        mask.view(*mask.shape, *([1] * (value.dim() - mask.dim()))), value, torch.zeros_like(value)
    )


# --- members of a stack ------------------------------------------------------------------------------------

Members = Tensor | None
"""[N] or [K] bool, on the CPU: some members of a stack; None: all."""


def members_and(a: Members, b: Members) -> Members:
    """The members that are in both."""
    if a is None or b is None:
        return a if b is None else b
    return a & b


def label(name: str, seed: int, seeds: int) -> str:
    """Return the name of an agent or channel among those of so many seeds: of several, `name@seed`."""
    return name if seeds == 1 else f"{name}@{seed}"


class Layout:
    """Rows of a stack, (seed, member of the seed, environment), and which lanes of a signal they are; it does not change.

    A signal has the environments of all seeds, [seeds * B, …].

    Args:
        members: N, of all seeds; each has as many.
        seeds: Number of seeds.
        batch: B.
        device: Where signals are.
    """

    def __init__(
        self, members: int = 1, seeds: int = 1, batch: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self.members, self.seeds, self.batch, self.device = members, seeds, batch, device
        self.each = members // seeds
        """Members of one seed."""
        self._orders: dict[tuple[str, ...], Tensor | None] = {}
        """By the signals of all members: their places among distinct ones; None: as they are."""

    @staticmethod
    @lru_cache(maxsize=64)
    def alone(batch: int, device: torch.device) -> Layout:
        """Return that of a single agent or channel: one for all of them."""
        return Layout(batch=batch, device=device)

    def seed(self, member: int) -> int:
        """The seed of a member."""
        return member // self.each

    def places(self, seed: int) -> slice:
        """The members of a seed."""
        return slice(seed * self.each, (seed + 1) * self.each)

    def by_member(self, signal: Tensor) -> Tensor:
        """A signal of all seeds, [seeds * B, …], by member, [members, B, …]."""
        each = signal.view(self.seeds, 1, self.batch, *signal.shape[1:])
        return each.expand(-1, self.each, *each.shape[2:]).flatten(0, 1)

    def to_rows(self, signal: Tensor) -> Tensor:
        """A signal of all seeds for the members' rows, [members * B, …]."""
        return signal if self.each == 1 else self.by_member(signal).flatten(0, 1)

    def mask_to_rows(self, mask: RowMask) -> RowMask:
        """A mask of all seeds, [seeds * B] bool, for the members' rows."""
        return self.to_rows(mask) if isinstance(mask, Tensor) else mask

    def by_name(self, values: Tensor, names: tuple[str, ...], distinct: Sequence[str]) -> Tensor:
        """Each member's own out of several signals, [signals * seeds * B, …], as rows."""
        if names not in self._orders:
            place = {name: i for i, name in enumerate(distinct)}
            each = [place[name] * self.seeds + self.seed(n) for n, name in enumerate(names)]
            in_order = each == list(range(len(values) // self.batch))
            self._orders[names] = None if in_order else torch.tensor(each, device=values.device)
        return select_rows(values, self._orders[names], self.batch)

    def mask_by_name(self, masks: Mapping[str, RowMask], names: tuple[str, ...]) -> RowMask:
        """Each member's own out of several masks, [seeds * B] bool each, as one of the rows; a name without a mask: nowhere."""
        distinct = tuple(dict.fromkeys(names))
        known = {name: mask for name in distinct if isinstance(mask := masks.get(name, False), Tensor)}
        if not known:
            return False
        nowhere = torch.zeros_like(next(iter(known.values())))
        each = [known.get(name, nowhere) for name in distinct]
        return self.by_name(torch.cat(each), names, distinct)

    def rows_of(self, members: Tensor) -> Tensor:
        """A mask of members, [members] bool, as one of their rows."""
        return members.to(self.device).repeat_interleave(self.batch)


def select_rows(rows: Tensor, index: Tensor | None, batch: int) -> Tensor:
    """The rows of the members at `index`, [len(index) * B, …]; None: all of them, unchanged."""
    if index is None:
        return rows
    return rows.reshape(-1, batch, *rows.shape[1:]).index_select(0, index).flatten(0, 1)
