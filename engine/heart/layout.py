"""Layout of a stack's rows: which seed, member and environment each row is of, and which row of a signal it observes.

N members, B environments: row n * B + b is environment b of member n. A signal has B environments for each seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.nets import indexed
from antiphon.nets.mask import NONE, Mask, Members

_CPU = torch.device("cpu")


def name_in_seed(name: str, seed: int, seed_count: int) -> str:
    """Return the name of an agent or channel of a seed; of several seeds it is `name@seed`."""
    return name if seed_count == 1 else f"{name}@{seed}"


@dataclass(eq=False)
class Layout:
    """The order of a stack's rows, (seed, member of the seed, environment): signals and masks are repeated for them.

    Attributes:
        member_count: N, the members of all seeds; every seed has as many.
        batch: B, the environments of one seed.
        device: Of signals, which have the environments of all seeds, [seeds * B, …].
        has_member_axis: Whether parameters, also those of predictors, have a leading axis of members.
    """

    member_count: int = 1
    seed_count: int = 1
    batch: int = 0
    device: torch.device = _CPU
    has_member_axis: bool = False

    def __post_init__(self) -> None:
        self.members_per_seed = self.member_count // self.seed_count
        self._member_indices: dict[tuple[str, ...], Tensor | None] = {}
        """Gather index of `rows_by_name`, by the signals of the members; None: they are in order."""

    def seed_of(self, member: int) -> int:
        return member // self.members_per_seed

    def names_in_seeds(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name_in_seed(name, self.seed_of(n), self.seed_count) for n, name in enumerate(names))

    def members_of_seed(self, seed: int) -> slice:
        return slice(seed * self.members_per_seed, (seed + 1) * self.members_per_seed)

    def rows_of_member(self, member: int) -> slice:
        return slice(member * self.batch, (member + 1) * self.batch)

    def to_rows(self, signal: Tensor) -> Tensor:
        """Repeat a signal of all seeds, [seeds * B, …], for the rows of the stack, [N * B, …]."""
        if self.members_per_seed == 1:
            return signal
        by_seed = signal.view(self.seed_count, 1, self.batch, *signal.shape[1:])
        return by_seed.expand(-1, self.members_per_seed, *by_seed.shape[2:]).flatten(0, 2)

    def sum_by_member(self, rows: Tensor) -> Tensor:
        """Sum values [N * B] over each member's rows, [N]; with columns, [N * B, columns], they give [N, columns]."""
        return rows.view(self.member_count, self.batch, *rows.shape[1:]).sum(1)

    def members_in(self, mask: Mask) -> Mask[Members]:
        """Return the members that have a row in a mask of rows, [N] on the host."""
        return mask.map(lambda mask_rows: mask_rows.view(self.member_count, -1).any(1).cpu())

    def rows_by_name(self, names: tuple[str, ...], signal_named: Callable[[str], Tensor]) -> Tensor:
        """Return the signal of each member, by its name, [seeds * B, …], as rows, [N * B, …]."""
        distinct_names = list(dict.fromkeys(names))
        values = [signal_named(name) for name in distinct_names]
        if len(values) == 1:
            return self.to_rows(values[0])
        if names not in self._member_indices:
            signal_index = {name: i for i, name in enumerate(distinct_names)}
            indices = [signal_index[name] * self.seed_count + self.seed_of(n) for n, name in enumerate(names)]
            in_order = indices == list(range(len(values) * self.seed_count))
            self._member_indices[names] = None if in_order else torch.tensor(indices, device=values[0].device)
        return select_rows(torch.cat(values), self._member_indices[names], self.batch)

    def mask_by_name(self, names: tuple[str, ...], masks: Mapping[str, Mask]) -> Mask:
        """Return the mask of each member, by its name, [seeds * B], as a mask of rows; a name without one has `NONE`."""
        if all(masks.get(name, NONE) is NONE for name in names):
            return NONE
        row_count, device = self.seed_count * self.batch, self.device
        return Mask.of(self.rows_by_name(names, lambda name: masks.get(name, NONE).tensor(row_count, device)))

    def rows_of(self, members: Mask[Members]) -> Mask:
        return members.map(self.rows_from_members)

    def rows_from_members(self, values: Tensor) -> Tensor:
        """Repeat the values of members, [N], for their rows, [N * B]."""
        return values.to(self.device).repeat_interleave(self.batch)


def select_rows(rows: Tensor, index: Tensor | None, batch: int) -> Tensor:
    """Select the rows of the members at `index`, [len(index) * B, …]; None: all of them, unchanged."""
    if index is None:
        return rows
    return indexed.select(rows.reshape(-1, batch, *rows.shape[1:]), index).flatten(0, 1)


class SenderRows:
    """Selects the rows of a sender's port for each piece of a stack of channels that was divided.

    It first selects the rows of the whole stack, once, and each piece's from these. So where a sender sends over
    several channels of the stack, their gradients are summed in the same order as without the division.

    Args:
        sender_index: The index of each channel's sender, in the order of the whole stack; None: channel k has sender k.
        piece_index: The indices of a piece's channels in the whole stack, by piece.
        sender_count: N, the senders.
    """

    def __init__(
        self, sender_index: Tensor | None, piece_index: Mapping[str, Tensor], sender_count: int
    ) -> None:
        self.sender_index, self.piece_index, self.sender_count = sender_index, piece_index, sender_count
        self._selected: tuple[Tensor, Tensor] | None = None

    def rows(self, port: Tensor, piece_name: str) -> Tensor:
        """Return the rows of a piece: see `Channel.output_from_port`."""
        rows_of_one = port.shape[0] // self.sender_count
        if self._selected is None or self._selected[0] is not port:
            self._selected = port, select_rows(port, self.sender_index, rows_of_one)
        return select_rows(self._selected[1], self.piece_index[piece_name], rows_of_one)

    def free_graph(self) -> None:
        """Free the graph of the newest port, as a step of a part ends: only parts have divided stacks."""
        self._selected = None
