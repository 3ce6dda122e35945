"""Environments of the user's own sequences: each is an episode, synchronous in all environments."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gymnasium.spaces import Discrete
from pydantic import Field
from torch import Tensor

from antiphon.base.errors import require
from antiphon.base.nearest_names import suggest
from antiphon.envs.base import SeededEnv, Values, check_split
from antiphon.envs.datasets.columns import read
from antiphon.envs.signal import Description
from antiphon.envs.sources.tensors import (
    ColumnOptions,
    Columns,
    FileOptions,
    Names,
    Source,
    Tensors,
    assembled,
    is_whole,
    signals_of,
)
from antiphon.envs.sources.values import (
    WIDE,
    TensorValue,
    join_values,
    read_value,
    refuse_packed,
    stack_values,
)
from antiphon.envs.stream import Table, shuffled
from antiphon.nets.isolation.own_context import in_own_context


@dataclass(frozen=True, kw_only=True)
class SequenceTable(Table):
    """Concatenated sequences: a column has a row per step, or a row per sequence; splits consist of sequences."""

    lengths: Tensor
    """Steps of each sequence, int64."""
    padded: Tensor
    """Steps of each sequence including padding to a multiple, int64."""
    starts: Tensor
    """The row of each sequence's first step, int64."""
    sequence_columns: frozenset[str]
    """Columns with a row per sequence."""


class SequenceOptions(ColumnOptions):
    """Options of your own sequences."""

    training_only: Names | None = None
    """Names that no agent may observe; none: signals with a value per sequence."""
    per_sequence: Names = ()
    """Names of signals with a value per sequence."""
    pad_to_multiple: int = Field(1, ge=1)
    """Sequences are padded to a multiple of this number of steps."""


@in_own_context
def from_sequences(
    *,
    test: float | Mapping[str, Any] = 0.2,
    validation: float | Mapping[str, Any] = 0.1,
    training_only: Iterable[str] | None = None,
    classes: Mapping[str, int] | None = None,
    per_sequence: Iterable[str] = (),
    pad_to_multiple: int = 1,
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
        per_sequence: Names of signals with a value per sequence, `[sequences, …]`, in addition to signals of single
            numbers, `[sequences]`.
        pad_to_multiple: Sequences are padded to a multiple of this number of steps, so that an agent with this period and
            phase -1 ticks at the end of each; a target of a sequence counts there.
        sequences: By signal, a list of tensors or arrays `[steps, …]`, one for each sequence; `_name`, a list of bool
            `[steps]` or of the shape of the values, leaves out steps or sites of a target `name`, as in `from_tensors`.

    Returns:
        The `env` of an `antiphon.Scenario`. Shares are taken by a fixed permutation of the sequences.

    Raises:
        DataError: Numbers or lengths of sequences disagree, a sequence is empty, or an error of `from_tensors`.
        ScenarioError: An invalid multiple.
    """
    names: dict[str, Any] = {"training_only": training_only, "per_sequence": per_sequence, "classes": classes}
    options = SequenceOptions(**names, pad_to_multiple=pad_to_multiple)
    return _source(_packed, "from_sequences", (sequences, test, validation), options)


class Sequences(Tensors):
    """Environments of the sequences in a file, which is read again only if it has changed: `antiphon/Sequences-v0`.

    The file has `lengths`, the steps of each sequence. Other columns have a row per step, with the sequences concatenated, or
    a row per sequence.
    """

    class Options(FileOptions, SequenceOptions):
        """Options of sequences in a file."""

    @staticmethod
    def read(options: Any) -> Source:
        """Read the files of some options without a cache."""
        return _source(_packed_file, str(options.file), options.data, options, named_in_state=True)


def _packed_file(file: str, where: str, per_sequence: Collection[str], classes: Collection[str]) -> _Packed:
    """Return the columns of a file, of which `lengths` says how many rows are a sequence."""
    del where  # the file's own name says where
    columns = {name: read_value(name, value, file).numbers for name, value in read(Path(file)).items()}
    require("lengths" in columns, file, "has no 'lengths', the steps of each sequence; save them too")
    lengths = columns.pop("lengths")
    lengths = lengths.long() if lengths.dtype in WIDE else lengths
    counts = lengths.dim() == 1 and is_whole(lengths) and bool((lengths > 0).all())
    require(counts, file, "lengths: must be whole numbers from 1, one for each sequence")
    steps, sequences = int(lengths.sum()), len(lengths)
    values_by_name: dict[str, Any] = {}
    sequence_columns = set(per_sequence)
    for name, column in columns.items():
        rows = len(column) if column.dim() else 0
        wrong = f"{name} has {rows} rows; save one per step ({steps}) or one per sequence ({sequences})"
        require(rows in (steps, sequences), file, wrong)
        if rows != steps:
            sequence_columns.add(name)
        values_by_name[name] = (
            column.unbind() if name in sequence_columns else torch.split(column, lengths.tolist())
        )
    return _packed(values_by_name, file, sequence_columns, classes)


def _source(
    reader: Callable[..., _Packed],
    where: str,
    data: tuple[Any, Any, Any],
    options: Any,
    *,
    named_in_state: bool = False,
) -> Source:
    """Return the source of the sequences that `reader` packs of the data of each split: train, test and validation."""
    reader = partial(reader, per_sequence=options.per_sequence, classes=options.classes or ())
    joined, splits, packed = assembled(reader, where, data)
    lengths, sequence_columns = (
        torch.cat([split_data.lengths for split_data in packed]),
        packed[0].sequence_columns,
    )
    for name in [name for name in joined if name.startswith("_") and name[1:] in joined]:
        rows = [
            f"with a value per {'sequence' if column_name in sequence_columns else 'step'}"
            for column_name in (name, name[1:])
        ]
        require(
            rows[0] == rows[1], where, f"{name}: a mask {rows[0]} for a signal {rows[1]}; make them alike"
        )
    signals, columns, divisors = signals_of(
        joined, options, [n for n in joined if n in sequence_columns], where
    )
    padded = -(-lengths // options.pad_to_multiple) * options.pad_to_multiple
    longest, even = int(padded.max()), bool((padded == padded[0]).all())
    description = Description(
        signals=signals,
        episode_steps=longest if even else None,
        longest_episode=None if even else longest,
        example_counts={name: len(rows) for name, rows in splits.items()},
    )
    table = SequenceTable(
        columns=columns,
        splits=splits,
        divisors=divisors,
        lengths=lengths,
        padded=padded,
        starts=lengths.cumsum(0) - lengths,
        sequence_columns=sequence_columns,
    )
    digest = (lambda: table.digest) if named_in_state else None
    return Source(table, description, partial(SequenceStream, digest=digest))


class _Packed(Columns):
    """Columns of sequences laid end to end; `sequence_columns` have a row per sequence, the others one per step."""

    def __init__(self, lengths: Tensor, sequence_columns: frozenset[str]) -> None:
        super().__init__()
        self.lengths, self.sequence_columns = lengths, sequence_columns

    @property
    def rows(self) -> int:
        return len(self.lengths)


def _packed(sequences: Any, where: str, per_sequence: Collection[str], classes: Collection[str]) -> _Packed:
    """Return the columns of sequences laid end to end."""
    mapping = f"{type(sequences).__name__}; pass a share of the sequences, or a mapping of sequences"
    require(isinstance(sequences, Mapping), where, mapping)
    require(len(sequences) > 0, where, "no sequences given; pass some, such as x=[…]")
    for name in per_sequence:
        require(name in sequences, where, f"per_sequence: no signal '{name}'{suggest(name, sequences)}")
    values_by_name = {
        name: _parts(name, values, where, name in classes) for name, values in sequences.items()
    }
    listed = ", ".join(f"{name} {len(parts)}" for name, parts in values_by_name.items())
    counts = {len(parts) for parts in values_by_name.values()}
    disagree = f"numbers of sequences disagree: {listed}; pass the same number of each, at least one"
    require(len(counts) == 1 and all(counts), where, disagree)
    single = {
        name for name, parts in values_by_name.items() if all(value.numbers.dim() == 0 for value in parts)
    }
    named = {*per_sequence, *(f"_{name}" for name in per_sequence)}
    sequence_columns = frozenset(name for name in values_by_name if name in single or name in named)
    steps = [name for name in values_by_name if name not in sequence_columns]
    require(
        bool(steps), where, "no signal has a value per step; pass one, such as x=[…] of tensors [steps, …]"
    )
    packed = _Packed(_lengths({name: values_by_name[name] for name in steps}, where), sequence_columns)
    if "lengths" in sequence_columns and all(is_whole(value.numbers) for value in values_by_name["lengths"]):
        _check_cut(steps[0], packed.lengths, values_by_name["lengths"], where)
    for name, parts in values_by_name.items():
        typed = [value.numbers for value in parts if not value.blank]
        shapes = {
            tuple(numbers.shape if name in sequence_columns else numbers.shape[1:]) for numbers in typed
        }
        kinds = {numbers.dtype for numbers in typed}
        differing = sorted(map(str, shapes if len(shapes) > 1 else kinds))
        ends = f"{''.join(differing[:1])} and some {''.join(differing[-1:])}"
        unequal = f"{name}: some values are {ends}; make them equal"
        require(len(shapes) < 2 and len(kinds) < 2, where, unequal)
        packed.add(name, (stack_values if name in sequence_columns else join_values)(name, parts, where))
    return packed


def _parts(name: str, sequences: Any, where: str, indices: bool) -> list[TensorValue]:
    """Return the values of each sequence: of a list one by one, of an array or table by its first axis."""
    refuse_packed(name, sequences, where)
    listed = f"{name}: {type(sequences).__name__}; pass a list of tensors, one per sequence"
    require(isinstance(sequences, Iterable) and getattr(sequences, "ndim", 1) > 0, where, listed)
    if hasattr(sequences, "ndim") and getattr(sequences, "dtype", None) != object:
        return read_value(name, sequences, where, indices=indices).unbind()
    return [
        read_value(f"{name}[{i}]", sequence, where, indices=indices) for i, sequence in enumerate(sequences)
    ]


def _lengths(values_by_name: Mapping[str, list[TensorValue]], where: str) -> Tensor:
    """Return the steps of each sequence, the same in all signals that have a value per step."""
    first, parts = next(iter(values_by_name.items()))
    for name, values in values_by_name.items():
        for index, (first_numbers, numbers) in enumerate(
            (a.numbers, b.numbers) for a, b in zip(parts, values, strict=True)
        ):
            empty = f"{name}[{index}]: {list(numbers.shape)}; a sequence needs at least one step"
            require(numbers.dim() > 0 and len(numbers) > 0, where, empty)
            named = "make them equal, or list signals with one value per sequence in per_sequence"
            unequal = f"{name}[{index}] has {len(numbers)} steps, but {first}[{index}] has {len(first_numbers)}; {named}"
            require(len(first_numbers) == len(numbers), where, unequal)
    return torch.tensor([len(value.numbers) for value in parts])


def _check_cut(name: str, steps: Tensor, lengths: list[TensorValue], where: str) -> None:
    """Raise DataError where `lengths` are others than the steps of the signal `name`: its padding would count."""
    for index, (count, length) in enumerate(zip(steps.tolist(), lengths, strict=True)):
        differ = f"lengths[{index}] is {int(length.numbers)}, but {name}[{index}] has {count} steps"
        cut = f"cut each to its length, {name}=[row[:n] for row, n in zip({name}, lengths)], and leave lengths out"
        require(count == int(length.numbers), where, f"{differ}; {cut}")


class SequenceStream(SeededEnv):
    """Sequences as episodes: one per environment side by side, then the next ones.

    Description:
        Every sequence is an episode. The train split is shown in epochs, each in its own order; other splits in the order
        of the data. Environments without a sequence, at the end of an epoch, and environments whose sequence ends before
        the longest one beside it, are padded with zeros, which are class 0.
    Action space:
        One action, without effect.
    Observation space:
        The requested signals that are not training-only; the others are in `info`. For each signal `info` has the mask
        `_name`, bool `[batch]`, false in padding; of a training-only signal with a value per sequence, also before the
        sequence's last step.
    Rewards:
        None: 0.0.
    Episode end:
        With the last step of the longest of the present sequences, in all environments at once.
    """

    def __init__(
        self,
        num_envs: int,
        table: SequenceTable,
        description: Description,
        *,
        split: str = "train",
        digest: Callable[[], str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(num_envs, description, Discrete(1), **settings)
        check_split(split, self.splits)
        self.split = split
        self._table, self._digest = table, digest
        self._ends = [0]
        """Steps from the first to the start of each epoch, for the epochs counted so far."""
        self._ends_of: int | None = None  # the seed of which they are
        self._rows = self._steps = self._padded = torch.empty(0)
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
        return epoch + Fraction(step - self._ends[epoch], self._ends[epoch + 1] - self._ends[epoch])

    def step_at(self, epoch: Fraction) -> Fraction:
        full_epochs = int(epoch)
        while len(self._ends) <= full_epochs + 1:
            self._count_epoch()
        return self._ends[full_epochs] + (epoch - full_epochs) * (
            self._ends[full_epochs + 1] - self._ends[full_epochs]
        )

    def _count_epoch(self) -> None:
        self._ends.append(self._ends[-1] + self._epoch_steps(len(self._ends) - 1))

    def _epoch_steps(self, epoch: int) -> int:
        longest = [
            lengths.max() for lengths in torch.split(self._table.padded[self._order(epoch)], self.num_envs)
        ]
        return int(torch.stack(longest).sum())

    @property
    def _per_epoch(self) -> int:
        return -(-len(self._table.splits[self.split]) // self.num_envs)

    def _order(self, epoch: int) -> Tensor:
        """Return the order of the split's sequences in an epoch, by their number in the table."""
        rows = self._table.splits[self.split]
        if self.split != "train" or self._seed is None:
            return rows
        return shuffled(rows, self._seed, epoch)

    def _open(self) -> None:
        """Look up the sequences of the present episode."""
        if self._ends_of != self._seed:
            self._ends, self._ends_of = [0], self._seed
        epoch, batch_index = divmod(self._number, self._per_epoch)
        rows = self._order(epoch)[batch_index * self.num_envs : (batch_index + 1) * self.num_envs]
        rest = self.num_envs - len(rows)
        self._rows = torch.cat([rows, rows[:1].expand(rest)])
        self._steps, self._padded = (
            torch.cat([lengths[rows], rows.new_zeros(rest)])
            for lengths in (self._table.lengths, self._table.padded)
        )
        self._length = int(self._padded.max())

    def _values(self) -> Values:
        table = self._table
        at = table.starts[self._rows] + (self._steps - 1).clamp(0, self._tick)
        values: dict[str, Tensor] = {}
        masks: dict[str, Tensor] = {}
        for name in self.requested:
            is_per_sequence = name in table.sequence_columns
            in_sequence = (self._padded if is_per_sequence else self._steps) > self._tick
            value = table.columns[name].index_select(0, self._rows if is_per_sequence else at)
            if name in table.divisors:
                value = value.to(self.dtype).div_(table.divisors[name])
            rows = in_sequence.view(-1, *(1 for _ in value.shape[1:]))
            values[name] = torch.where(rows, value, torch.zeros_like(value))
            mask = in_sequence
            if is_per_sequence and self.signals[name].training_only:
                mask = self._padded == self._tick + 1
            if (own_mask := table.columns.get(f"_{name}")) is not None:
                own_mask = own_mask[self._rows if is_per_sequence else at]
                mask = mask.view(-1, *(1 for _ in own_mask.shape[1:])) & own_mask
            masks[f"_{name}"] = mask
        observations, info = self._divide(values)
        return observations, {**info, **masks}
