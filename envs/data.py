"""Environments of the user's own data: streams of examples from tensors or a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader

from antiphon.base.errors import require, suggest
from antiphon.base.spec import Sequence as IsSequence
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.datasets import SPLITS
from antiphon.envs.options import EnvOptions, Episode, HeldOptions, Sampling
from antiphon.envs.signal import Description, Signal
from antiphon.envs.stream import ExampleStream, Table
from antiphon.nets.layers import IGNORED
from antiphon.nets.random import generator, torch_seeded

_ROWS = 1024
"""Items of a data set that are collated at once."""


class ColumnOptions(EnvOptions):
    training_only: Annotated[tuple[str, ...], IsSequence] | None = None
    """Names that no agent may observe; none: the classes with a single axis (labels)."""
    classes: Mapping[str, Annotated[int, Field(ge=1)]] | None = None
    """Number of classes by name, such as a vocabulary size; none: the largest value plus one."""


class ExampleOptions(ColumnOptions, HeldOptions):
    """Options of your own examples."""


class Source:
    """Factory of environments of a data set: the `env` of a scenario written in Python.

    Args:
        description: Signals, hold and splits of every environment made from it.
        stream: Makes an environment from the batch; takes `split`, `device` and `dtype`.
    """

    def __init__(self, description: Description, stream: Callable[..., TorchVectorEnv]) -> None:
        self.description, self._stream = description, stream

    def make(
        self,
        *,
        batch: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        split: str = "train",
    ) -> TorchVectorEnv:
        """Return an environment of one split; those of one device and type share their data. ScenarioError without the split."""
        return self._stream(batch, split=split, device=device, dtype=dtype)


def from_tensors(
    *,
    test: float | Mapping[str, Any] = 0.2,
    validation: float | Mapping[str, Any] = 0.1,
    training_only: Iterable[str] | None = None,
    classes: Mapping[str, int] | None = None,
    hold: int = 1,
    episode: Episode = "stream",
    sampling: Sampling = "epochs",
    **tensors: Any,
) -> Source:
    """Make an environment from tensors or arrays whose first axis counts the examples.

    Floats are unchanged. Bytes with two axes or more are scaled to [0, 1]. Other whole numbers are classes, which are one-hot
    as network inputs. All values are copied. A target may be missing: its class is -100, or `_name` masks the target `name`. What
    is missing counts in no loss, metric or gradient; losses and metrics are averaged over the sites that an example has.

    Args:
        test: Share of the examples used for testing, or the test examples: tensors under the same names.
        validation: Share of the examples used for validation, or the validation examples.
        training_only: Names that no agent may observe; by default the classes with a single axis (labels).
        classes: Number of classes by name, such as a vocabulary size; by default the largest value plus one.
        hold: Number of steps for which each example is repeated.
        episode: stream (never ends) or example (each example is an episode).
        sampling: epochs (every example once, then again in another order) or with_replacement.
        tensors: `[examples, …]` each, under the names of the signals; `_name`, True where the target `name` counts, is
            `[examples]` or has the shape of `name`.

    Returns:
        The `env` of an `antiphon.Scenario`. Shares are taken by a fixed permutation of the examples.

    Raises:
        DataError: Lengths disagree, values are not finite, classes are negative or not below `classes`, or no examples are left
            for training.
        ScenarioError: An invalid hold or kind of episode.
    """
    settings: dict[str, Any] = {"training_only": training_only, "classes": classes}
    options = ExampleOptions(**settings, hold=hold, episode=episode, sampling=sampling)
    return _examples(_columns, "from_tensors", (tensors, test, validation), options)


def from_dataset(
    dataset: Any,
    names: Sequence[str] | None = None,
    *,
    test: float | Any = 0.2,
    validation: float | Any = 0.1,
    **options: Any,
) -> Source:
    """Make an environment from a data set of `torch.utils.data` or Hugging Face's `datasets`, by collating all of it once.

    Args:
        dataset: What a `DataLoader` takes: its items are tuples in the order of `names`, or dicts with these keys, of tensors,
            arrays or numbers.
        names: Names of an item's parts, and of the signals; None: its keys, or else image and label.
        test: Share of the examples used for testing, or the data set for testing.
        validation: Share of the examples used for validation, or the data set for validation.
        options: `training_only`, `classes`, `hold`, `episode` and `sampling`, see `from_tensors`.

    Raises:
        DataError: An item does not have the parts `names`, or an error of `from_tensors`.
        ScenarioError: See `from_tensors`.
    """

    def read(data: Any, where: str) -> Part:
        with torch_seeded(0):
            batches = [named_parts(batch, names, where) for batch in DataLoader(data, batch_size=_ROWS)]
        return _columns({name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}, where)

    return _examples(read, "from_dataset", (dataset, test, validation), ExampleOptions(**options))


def _examples(
    reader: Callable[[Any, str], Part], where: str, data: tuple[Any, Any, Any], options: ExampleOptions
) -> Source:
    """Return the source of the columns that `reader` makes of the data of each split: train, test and validation."""
    joined, splits, _ = assembled(reader, where, data)
    signals, columns, divisors = signals_of(joined, options, where)
    answers = (name for name, one in signals.items() if one.training_only and one.classes and not one.shape)
    description = options.described(signals, {name: len(rows) for name, rows in splits.items()})
    table = Table(columns=columns, splits=splits, divisors=divisors)
    stream = partial(ExampleStream, table=table, description=description, answer=next(answers, None))
    return Source(description, stream)


@dataclass
class Part:
    """The data of a split: columns by name, and how many examples they are."""

    columns: dict[str, Tensor]
    count: int


@torch.no_grad()
def tensor_of(value: Any) -> Tensor:
    """Return a copy of a tensor, or a tensor of what numpy reads."""
    if isinstance(value, Tensor):
        return value.clone(memory_format=torch.contiguous_format)
    return torch.tensor(np.asarray(value))


def _columns(data: Mapping[str, Any], where: str) -> Part:
    columns = {name: tensor_of(value) for name, value in data.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    counted = ", ".join(f"{name} {length}" for name, length in lengths.items())
    unequal = f"lengths disagree: {counted or 'no tensors'}; pass one row per example in each"
    require(len(set(lengths.values())) == 1, where, unequal)
    return Part(columns, next(iter(lengths.values())))


def named_parts(item: Any, names: Sequence[str] | None, where: str) -> dict[str, Tensor]:
    """Return the parts of a collated batch by name; DataError if it has other parts."""
    if not isinstance(item, Mapping):
        parts, order = item if isinstance(item, tuple | list) else [item], names or ("image", "label")
        wrong = f"{len(parts)} parts for the names {', '.join(order)}; pass names=(…)"
        require(len(parts) == len(order), where, wrong)
        item = dict(zip(order, parts, strict=True))
    for name in names or ():
        require(name in item, where, f"no '{name}'{suggest(name, item)}; pass names=(…)")
    # torch collates items that are lists of numbers to one tensor for each place in them
    return {
        name: torch.stack(list(value), 1) if isinstance(value := item[name], tuple | list) else value
        for name in names or item
    }


def assembled(
    reader: Callable[[Any, str], Any], where: str, data: tuple[Any, Any, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Any]]:
    """Return columns of all splits, the rows of each split, and the parts as they were read.

    `data` are the data of train, test and validation: a number is a share of the training data, taken by a fixed permutation.
    """
    held_out = {"validation": data[2], "test": data[1]}
    shares = {split: float(value) for split, value in held_out.items() if isinstance(value, Real)}
    parts = {"train": reader(data[0], where)}
    for split, value in held_out.items():
        if split not in shares:
            place = f"{where}: {split}"
            parts[split] = reader(value, place)
            mine, theirs = (
                {name: f"{one.dtype} {list(one.shape[1:])}" for name, one in part.columns.items()}
                for part in (parts[split], parts["train"])
            )
            require(mine == theirs, place, f"rows of {mine}, but {theirs} in train; make them equal")
    # Rows are gathered at every step, which from a strided view takes four times as long.
    columns = {
        name: torch.cat([part.columns[name] for part in parts.values()]) for name in parts["train"].columns
    }
    rows = _split_rows({split: part.count for split, part in parts.items()}, shares, where)
    return columns, rows, [*parts.values()]


def _split_rows(counts: Mapping[str, int], shares: Mapping[str, float], where: str) -> dict[str, Tensor]:
    """Return the rows of each split: shares of the training data, the others as they come."""
    count = counts["train"]
    for name, share in shares.items():
        line = f"must be a share of the examples, from 0 to below 1, or the {name} examples"
        require(0 <= share < 1, where, f"{name}: {share:g}; {line}")
    sizes = {name: max(1, round(share * count)) if share > 0 else 0 for name, share in shares.items()}
    remaining = count - sum(sizes.values())
    require(remaining > 0, where, f"{count} examples leave none for training; give more, or smaller shares")
    order = torch.randperm(count, generator=generator(0, "envs", "split"))
    given = torch.split(torch.arange(sum(counts.values())), [*counts.values()])
    parts = torch.split(order, [remaining, *sizes.values()])
    rows = dict(zip(counts, given, strict=True))
    rows |= {name: indices.sort().values for name, indices in zip(["train", *sizes], parts, strict=True)}
    return {name: rows[name] for name in SPLITS if len(rows[name])}


def is_whole(column: Tensor) -> bool:
    return not column.is_floating_point() and not column.is_complex() and column.dtype != torch.bool


def signals_of(
    columns: Mapping[str, Tensor], options: ColumnOptions, where: str, hidden: Iterable[str] | None = None
) -> tuple[dict[str, Signal], dict[str, Tensor], dict[str, float]]:
    """Return the signals of columns, the columns as stored with their masks, and the divisors of columns stored as integers.

    A column `_name` is the mask of the target `name`: bool, `[rows]` or `[rows, *sites]`. A training-only class of -100 has no target
    either. Where it is masked, a training-only column is zero.

    Args:
        options: Names of training-only columns and numbers of classes.
        hidden: The training-only columns if the options do not name them; None: the classes with a single axis (labels).
    """
    values = {name: column for name, column in columns.items() if not name.startswith("_")}
    if options.training_only is not None:
        hidden = options.training_only
    elif hidden is None:
        hidden = [name for name, column in values.items() if column.dim() == 1 and is_whole(column)]
    for key, given in (("training_only", hidden), ("classes", options.classes or ())):
        for name in given:
            require(name in values, where, f"{key}: no tensor '{name}'{suggest(name, values)}")
    masks = {
        name[1:]: _mask(name[1:], mask, values, where) for name, mask in columns.items() if name[0] == "_"
    }
    for name in hidden:
        if is_whole(values[name]) and not bool((present := values[name] != IGNORED).all()):
            masks[name] = present & _expanded(masks[name], present) if name in masks else present
    signals, stored, divisors = {}, {}, {}
    for name, column in values.items():
        if name in hidden and name in masks:
            classes = is_whole(column) and column.dtype != torch.uint8
            column = (column.long() if classes else column).masked_fill(~_expanded(masks[name], column), 0)
        count = (options.classes or {}).get(name)
        signals[name], stored[name] = _signal(name, column, count, name in hidden, where)
        if stored[name].dtype is torch.uint8:
            divisors[name] = 255.0
    for name, mask in masks.items():
        if name in hidden:
            # [rows, 1] without sites: the value is missing, where [rows] only says that it does not count
            mask = mask[:, None] if values[name].dim() == 1 else _expanded(mask, values[name])
        stored[f"_{name}"] = mask
    return signals, stored, divisors


def _signal(name: str, column: Tensor, count: int | None, hidden: bool, where: str) -> tuple[Signal, Tensor]:
    """Return the signal of a column, and the column as stored: bytes, classes or floats.

    `count`: number of classes, if given. `hidden`: no agent may observe it.
    """
    shape = tuple(column.shape[1:])
    kind: dict[str, Any] = {"shape": shape, "training_only": hidden}
    if column.dtype == torch.uint8 and column.dim() > 1 and count is None:
        return Signal(**kind, low=0.0, high=1.0), column
    if is_whole(column):
        column = column.long()
        least, most = (int(side) for side in column.aminmax()) if column.numel() else (0, 0)
        fix = f"number classes from 0, or pass floats; mask a target that is missing: _{name}"
        require(least >= 0, where, f"{name}: class {least}; {fix}")
        many = f"{name}: class {most} of {count}; pass classes={{'{name}': {most + 1}}} or more"
        require(count is None or most < count, where, many)
        return Signal(**kind, classes=most + 1 if count is None else count), column
    require(count is None, where, f"classes: '{name}' has {column.dtype}, and classes are whole numbers")
    column = column if column.is_floating_point() else column.float()
    finite = f"{name}: some of its values are not finite; replace or drop them, or mask a target: _{name}"
    require(bool(torch.isfinite(column).all()), where, finite)
    return Signal(**kind), column


def _mask(name: str, mask: Tensor, columns: Mapping[str, Tensor], where: str) -> Tensor:
    """Return the mask of a column as bool, [rows] or of the column's shape."""
    problem = f"_{name}: a name that begins with _ is the mask of a target, and there is no '{name}'"
    require(name in columns, where, f"{problem}{suggest(name, columns)}")
    shape, target = list(mask.shape), list(columns[name].shape)
    fits = f"_{name}: a mask of '{name}' is {target[:1]} or {target}, not {shape}"
    require(0 < len(shape) <= len(target) and shape == target[: len(shape)], where, fits)
    mask = mask.bool()
    return mask if mask.dim() == 1 else _expanded(mask, columns[name])


def _expanded(mask: Tensor, column: Tensor) -> Tensor:
    """Return a mask of a column's first axes as one of its shape."""
    return mask.view(*mask.shape, *[1] * (column.dim() - mask.dim())).expand(column.shape)
