"""Environments of the user's own data: streams of examples from tensors, arrays or a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from antiphon.envs.base import check_split
from antiphon.envs.options import check_hold
from antiphon.envs.signal import Description, Signal
from antiphon.envs.stream import ExampleStream, Table
from antiphon.errors import DataError, suggest
from antiphon.nets.random import generator

__all__ = ["Indexable", "Source", "from_dataset", "from_tensors"]


class Indexable(Protocol):
    """A data set with a length and items by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Source:
    """Factory of streams of a data set: the `env` of a scenario written in Python.

    Attributes:
        description: Signals, hold and splits of every stream made from it.
        table: The examples, and the rows of each split.
    """

    def __init__(self, table: Table, description: Description, answer: str | None) -> None:
        self.description = description
        self.table = table
        self._answer = answer
        self._placed: dict[tuple[str, torch.dtype], Table] = {}

    def make(
        self,
        *,
        batch: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        split: str = "train",
    ) -> ExampleStream:
        """Return a stream of the examples of one split; all streams of a device and type share their memory.

        Raises:
            ScenarioError: There is no such split, or the batch is no number of examples.
        """
        check_split(split, self.description.splits)
        key = str(device), dtype
        if key not in self._placed:
            self._placed[key] = self.table.to(device, dtype)
        return ExampleStream(
            batch,
            self._placed[key],
            self.description,
            answer=self._answer,
            split=split,
            device=device,
            dtype=dtype,
        )


def from_tensors(
    *,
    test: float = 0.2,
    validation: float = 0.1,
    training_only: Iterable[str] | None = None,
    hold: int = 1,
    episode: str = "stream",
    **tensors: Any,
) -> Source:
    """Make an environment of tensors or arrays whose first axis counts the examples.

    Floats are kept. Bytes with two axes or more are scaled to [0, 1]. Other whole numbers are classes.

    Args:
        test: Share of all examples that is kept for testing.
        validation: Share of all examples that is kept for validation.
        training_only: Names that no agent may observe; by default the classes with a single axis (labels).
        hold: Steps for which each example is repeated.
        episode: stream (never ends) or example (each example is an episode).
        tensors: `[examples, …]` each, under the names of the signals.

    Returns:
        The `env` of an `antiphon.Scenario`. The split is a fixed permutation of the examples.

    Raises:
        DataError: Lengths disagree, values are not finite, classes are negative, or nothing is left to train on.
        ScenarioError: A hold or kind of episode that cannot be.
    """
    return _source(
        tensors, test=test, validation=validation, training_only=training_only, hold=hold, episode=episode
    )


def from_dataset(
    dataset: Indexable,
    names: Sequence[str] = ("image", "label"),
    *,
    test: float = 0.2,
    validation: float = 0.1,
    training_only: Iterable[str] | None = None,
    hold: int = 1,
    episode: str = "stream",
) -> Source:
    """Make an environment of a data set, such as a `torch.utils.data.Dataset`, by reading all of it once.

    Args:
        dataset: Its items are tuples in the order of `names` or dicts that have those keys, of tensors, arrays,
            pictures or numbers.
        names: Names of an item's parts, and of the signals.
        test: As of `from_tensors`, like all that follow.
        validation: Share of all examples that is kept for validation.
        training_only: Names that no agent may observe.
        hold: Steps for which each example is shown.
        episode: stream or example.

    Raises:
        DataError: An item has other parts than `names` or than the item before, or as `from_tensors`.
        ScenarioError: As `from_tensors`.
    """
    if len(dataset) == 0:
        raise DataError("from_dataset: the data set is empty")
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    for index in range(len(dataset)):
        for name, value in zip(names, _parts(dataset[index], names, index), strict=True):
            parts[name].append(_tensor(name, value))
    columns = {}
    for name, values in parts.items():
        shapes = {tuple(value.shape) for value in values}
        if len(shapes) > 1:
            first, second, *_ = sorted(shapes)
            raise DataError(f"{name}: items of unequal shape {first} and {second}; make them equal")
        columns[name] = torch.stack(values)
    return _source(
        columns, test=test, validation=validation, training_only=training_only, hold=hold, episode=episode
    )


def _source(
    tensors: Mapping[str, Any],
    *,
    test: float,
    validation: float,
    training_only: Iterable[str] | None,
    hold: int,
    episode: str,
) -> Source:
    check_hold(hold, episode)
    if not tensors:
        raise DataError("from_tensors: no tensor given; name one, such as image=images")
    # Rows are gathered at every step, which from a strided view takes four times as long.
    columns = {name: _tensor(name, value).contiguous() for name, value in tensors.items()}
    count = _common_length(columns)
    hidden = _training_only(training_only, columns)
    signals, divisors = {}, {}
    for name, column in columns.items():
        columns[name], signals[name], divisor = _column(name, column, training_only=name in hidden)
        if divisor is not None:
            divisors[name] = divisor
    splits = _split(count, test, validation)
    answers = [name for name in hidden if signals[name].classes is not None and signals[name].shape == ()]
    description = Description(
        signals=signals,
        hold=hold,
        episode_steps=hold if episode == "example" else None,
        endless=episode == "stream",
        splits=tuple(splits),
        example_counts={name: len(rows) for name, rows in splits.items()},
        is_stream=True,
    )
    table = Table(columns=columns, splits=splits, divisors=divisors)
    return Source(table, description, answers[0] if answers else None)


def _parts(item: Any, names: Sequence[str], index: int) -> Sequence[Any]:
    """Return the parts of one item in the order of `names`."""
    if isinstance(item, Mapping):
        for name in names:
            if name not in item:
                raise DataError(f"dataset[{index}]: no '{name}'{suggest(name, item)}; pass names=(…)")
        return [item[name] for name in names]
    if not isinstance(item, Sequence) or len(item) != len(names):
        found = f"{len(item)} parts" if isinstance(item, Sequence) else type(item).__name__
        raise DataError(f"dataset[{index}]: {found} for the names {', '.join(names)}; pass names=(…)")
    return item


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise DataError(f"{name}: a tensor that requires a gradient; pass {name}.detach()")
        return value
    array = np.asarray(value)
    plain = array.flags.writeable and array.flags.c_contiguous  # torch accepts no other without a copy
    try:
        return torch.from_numpy(array if plain else array.copy())
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name}: {type(value).__name__} cannot become a tensor; pass numbers") from error


def _common_length(columns: Mapping[str, Tensor]) -> int:
    for name, column in columns.items():
        if column.dim() == 0:
            raise DataError(f"{name}: a single number; the first axis must count the examples")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"from_tensors: lengths disagree: {found}; pass one row per example in each")
    return next(iter(lengths.values()))


def _is_whole(column: Tensor) -> bool:
    return not column.is_floating_point() and not column.is_complex() and column.dtype != torch.bool


def _training_only(given: Iterable[str] | None, columns: Mapping[str, Tensor]) -> list[str]:
    if given is None:
        return [name for name, column in columns.items() if column.dim() == 1 and _is_whole(column)]
    wanted = [given] if isinstance(given, str) else list(given)
    for name in wanted:
        if name not in columns:
            raise DataError(f"training_only: no tensor '{name}'{suggest(name, columns)}")
    return [name for name in columns if name in wanted]


def _column(name: str, column: Tensor, *, training_only: bool) -> tuple[Tensor, Signal, float | None]:
    """Return a column's tensor, its signal, and the divisor of its bytes."""
    shape = tuple(column.shape[1:])
    if column.is_complex():
        raise DataError(f"{name}: complex numbers; pass real and imaginary part as two tensors")
    if column.dtype == torch.uint8 and column.dim() > 1:
        return column, Signal(shape=shape, training_only=training_only, low=0.0, high=1.0), 255.0
    if not _is_whole(column):
        floats = column if column.is_floating_point() else column.float()
        bad = int((~torch.isfinite(floats)).sum())
        if bad:
            raise DataError(f"{name}: {bad} of its values are not finite; replace or drop them")
        return floats, Signal(shape=shape, training_only=training_only), None
    classes = column.long()
    if classes.numel() and int(classes.min()) < 0:
        raise DataError(f"{name}: class {int(classes.min())}; classes are numbered from 0, floats are kept")
    count = int(classes.max()) + 1 if classes.numel() else 1
    return classes, Signal(shape=shape, classes=count, training_only=training_only), None


def _split(count: int, test: float, validation: float) -> dict[str, Tensor]:
    """Split the examples by a fixed permutation; splits without a share are left out."""
    shares = {"test": test, "validation": validation}
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise DataError(f"{name}: {share}; must be a share of the examples, from 0 to below 1")
    sizes = {name: max(1, round(share * count)) if share > 0 else 0 for name, share in shares.items()}
    left = count - sum(sizes.values())
    if left < 1:
        raise DataError(
            f"from_tensors: {count} examples leave none for training with test={test} and validation={validation}"
        )
    order = torch.randperm(count, generator=generator(0, "envs", "split"))
    first, second = left, left + sizes["validation"]
    parts = {"train": order[:first], "validation": order[first:second], "test": order[second:]}
    return {name: rows.sort().values for name, rows in parts.items() if len(rows)}
