"""Environments of the user's own sequences: each is an episode, synchronous in all environments."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from antiphon.base.errors import require
from antiphon.envs.base import SeededEnv, Values, check_split
from antiphon.envs.data import ColumnOptions, Part, Source, assembled, signals_of, tensor_of
from antiphon.envs.signal import Description
from antiphon.envs.stream import Table, shuffled


def from_sequences(
    *,
    test: float | Mapping[str, Any] = 0.2,
    validation: float | Mapping[str, Any] = 0.1,
    training_only: Iterable[str] | None = None,
    classes: Mapping[str, int] | None = None,
    **sequences: Any,
) -> Source:
    """Make an environment from sequences whose lengths may differ; each is an episode.

    Values are converted as by `from_tensors`. A signal has a value per step, or one per sequence: a target of a sequence
    counts at its last step. If sequences that run side by side have different lengths, the shorter ones are padded with
    zeros, and padding is not counted by any objective.

    Args:
        test: Share of the sequences used for testing, or the test sequences: data under the same names.
        validation: Share of the sequences used for validation, or the validation sequences.
        training_only: Names that no agent may observe; by default signals with a value per sequence.
        classes: Number of classes by name; by default the largest value plus one.
        sequences: By signal, a list of tensors or arrays `[steps, …]`, one for each sequence; `_name`, a list of bool
            `[steps]` or of the shape of the values, leaves out steps or sites of a target `name`, as in `from_tensors`.

    Returns:
        The `env` of an `antiphon.Scenario`. Shares are taken by a fixed permutation of the sequences.

    Raises:
        DataError: Numbers or lengths of sequences disagree, or an error of `from_tensors`.
    """
    settings: dict[str, Any] = {"training_only": training_only, "classes": classes}
    options = ColumnOptions(**settings)
    joined, splits, parts = assembled(_packed, "from_sequences", (sequences, test, validation))
    lengths = torch.cat([part.lengths for part in parts])
    sequence_columns = parts[0].sequence_columns
    hidden = [name for name in joined if name in sequence_columns and name[0] != "_"]
    signals, columns, divisors = signals_of(joined, options, "from_sequences", hidden)
    longest, even = int(lengths.max()), bool((lengths == lengths[0]).all())
    description = Description(
        signals=signals,
        episode_steps=longest if even else None,
        longest_episode=None if even else longest,
        pads=not even,
        sequence_steps=math.gcd(*lengths.tolist()),
        at_ends=tuple(name for name in sequence_columns if name in signals and signals[name].training_only),
        example_counts={name: len(rows) for name, rows in splits.items()},
    )
    steps = {"lengths": lengths, "starts": lengths.cumsum(0) - lengths}
    table = Table(columns=columns, splits=splits, divisors=divisors, others=steps)
    stream = partial(SequenceStream, table=table, description=description, per_sequence=sequence_columns)
    return Source(description, stream)


@dataclass
class _Packed(Part):
    """Columns of sequences laid end to end; `sequence_columns` have a row per sequence, the others one per step."""

    lengths: Tensor
    sequence_columns: frozenset[str]


def _packed(sequences: Mapping[str, Any], where: str) -> _Packed:
    values = {name: [tensor_of(value) for value in listed] for name, listed in sequences.items()}
    counts = ", ".join(f"{name} {len(listed)}" for name, listed in values.items())
    disagree = f"numbers of sequences disagree: {counts or 'none'}; pass as many of each, at least one"
    require(len({len(listed) for listed in values.values()}) == 1, where, disagree)
    sequence_columns = frozenset(
        name for name, listed in values.items() if not any(value.dim() for value in listed)
    )
    steps = [name for name in values if name not in sequence_columns]
    lacks = "no signal has a value per step; pass one, such as x=[…] of tensors [steps, …]"
    require(bool(steps), where, lacks)
    lengths = [len(value) for value in values[steps[0]]]
    for name in steps:
        unequal = f"{name} has sequences of other lengths than {steps[0]}, or an empty one; make them equal"
        require([len(value) for value in values[name]] == lengths and min(lengths) > 0, where, unequal)
    columns = {
        name: torch.stack(listed) if name in sequence_columns else torch.cat(listed)
        for name, listed in values.items()
    }
    return _Packed(columns, len(lengths), torch.tensor(lengths), sequence_columns)


class SequenceStream(SeededEnv):
    """Sequences as episodes: one per environment side by side, then the next ones.

    Description:
        Every sequence is an episode. The train split is shown in epochs, each in its own order; other splits in the order
        of the data. Environments without a sequence, at the end of an epoch, and environments whose sequence ends before
        the longest one beside it, are padded with zeros, which are class 0.
    Observation space:
        The requested signals that are not training-only; the others are in `info`. For each signal `info` has the mask
        `_name`, bool `[batch]`, false in padding; of a training-only signal with a value per sequence, also before the
        sequence's last step.
    Episode end:
        With the last step of the longest of the present sequences, in all environments at once.
    """

    def __init__(
        self,
        num_envs: int,
        table: Table,
        description: Description,
        *,
        per_sequence: Collection[str],
        split: str = "train",
        **settings: Any,
    ) -> None:
        super().__init__(num_envs, description, Discrete(1), **settings)
        check_split(split, self.splits)
        self.split = split
        self._table, self._per_sequence = table.to(self.device, self.dtype), per_sequence
        self._per_epoch = -(-len(table.splits[split]) // num_envs)
        self._ends = [0]
        """Steps from the first to the start of each epoch, for the epochs counted so far."""
        self._ends_of: int | None = None  # the seed of which they are
        self._rows = self._steps = torch.empty(0)
        """Indices in the table and lengths of the present sequences, [batch] int64; length 0 without a sequence."""
        self._length = 0

    _place = ("episode", "tick")

    @property
    def episode_length(self) -> int:
        return self._length

    @property
    def evaluation_steps(self) -> int:
        return self._epoch_steps(self._number // self._per_epoch)

    def epoch_at(self, step: int) -> Fraction:
        while self._ends[-1] <= step:
            self._count_epoch()
        epoch = bisect(self._ends, step) - 1
        begin, end = self._ends[epoch : epoch + 2]
        return epoch + Fraction(step - begin, end - begin)

    def step_at(self, epoch: Fraction) -> Fraction:
        full_epochs = int(epoch)
        while len(self._ends) <= full_epochs + 1:
            self._count_epoch()
        begin, end = self._ends[full_epochs : full_epochs + 2]
        return begin + (epoch - full_epochs) * (end - begin)

    def _count_epoch(self) -> None:
        self._ends.append(self._ends[-1] + self._epoch_steps(len(self._ends) - 1))

    def _epoch_steps(self, epoch: int) -> int:
        lengths = self._table.others["lengths"][self._order(epoch)]
        return int(torch.stack([batch.max() for batch in lengths.split(self.num_envs)]).sum())  # type: ignore[no-untyped-call]

    def _order(self, epoch: int) -> Tensor:
        """Return the order of the split's sequences in an epoch, by their number in the table."""
        rows = self._table.splits[self.split]
        if self.split != "train" or self._seed is None:
            return rows
        return shuffled(rows, self._seed, epoch)

    def _open(self) -> None:
        if self._ends_of != self._seed:
            self._ends, self._ends_of = [0], self._seed
        epoch, batch_index = divmod(self._number, self._per_epoch)
        rows = self._order(epoch)[batch_index * self.num_envs : (batch_index + 1) * self.num_envs]
        rest = self.num_envs - len(rows)
        self._rows = torch.cat([rows, rows[:1].expand(rest)])
        self._steps = torch.cat([self._table.others["lengths"][rows], rows.new_zeros(rest)])
        self._length = int(self._steps.max())

    def _values(self) -> Values:
        table = self._table
        at = table.others["starts"][self._rows] + (self._steps - 1).clamp(0, self._tick)
        values: dict[str, Tensor] = {}
        in_sequence = self._steps > self._tick
        for name in self.requested:
            is_per_sequence = name in self._per_sequence
            value = table.columns[name].index_select(0, self._rows if is_per_sequence else at)
            if name in table.divisors:
                value = value.to(self.dtype).div_(table.divisors[name])
            rows = in_sequence.view(-1, *(1 for _ in value.shape[1:]))
            values[name] = torch.where(rows, value, torch.zeros_like(value))
            mask = in_sequence
            if is_per_sequence and self.signals[name].training_only:
                mask = self._steps == self._tick + 1
            if (own_mask := table.columns.get(f"_{name}")) is not None:
                own_mask = own_mask[self._rows if is_per_sequence else at]
                mask = mask.view(-1, *(1 for _ in own_mask.shape[1:])) & own_mask
            values[f"_{name}"] = mask
        return self._divide(values)
