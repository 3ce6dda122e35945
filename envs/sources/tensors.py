"""Environments of the user's own data: streams of examples from tensors, a data set or a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor

from antiphon.base.errors import DataError, RunError, ScenarioError, ScenarioWarning, require, warn_caller
from antiphon.base.files import given_path
from antiphon.base.nearest_names import suggest
from antiphon.envs.base import TorchVectorEnv, check_split
from antiphon.envs.datasets.columns import read
from antiphon.envs.datasets.dataset_files import SPLITS, Identity, identity
from antiphon.envs.env_keys import EnvOptions, Episode, HeldOptions, Sampling
from antiphon.envs.shown_signals import ShownSource
from antiphon.envs.signal import Description, Signal, channel_axis
from antiphon.envs.sources.source_errors import reading
from antiphon.envs.sources.values import WIDE, TensorValue, join_values, read_column, read_value, stack_values
from antiphon.envs.stream import ExampleStream, Table
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.nets.layers import IGNORED
from antiphon.nets.random import generator

_COLOURS = (1, 3, 4)
"""Numbers of channels of pictures."""
_SIXTEEN_BITS = (torch.int16, torch.uint16)
_DEEP = "I;16"
"""Beginning of PIL's modes of 16-bit pictures."""


class Indexable(Protocol):
    """A data set with a length and indexing."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def _names(names: Any) -> Any:
    return (names,) if isinstance(names, str) else tuple(names) if isinstance(names, Iterable) else names


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
"""Names of signals; a single name needs no list."""


class ColumnOptions(EnvOptions):
    """Options of your own data."""

    training_only: Names | None = None
    """Names that no agent may observe; none: the classes with a single axis (labels), or with values of -100."""
    classes: Annotated[dict[str, Annotated[int, Field(ge=1)]] | None, BeforeValidator(_plain)] = None
    """Number of classes by name, such as a vocabulary size; none: the largest value plus one."""


class ExampleOptions(ColumnOptions, HeldOptions):
    """Options of your own examples."""


class Source(ShownSource):
    """Factory of environments of a data set: the `env` of a scenario written in Python.

    Args:
        table: The data.
        description: Signals, hold and splits of every environment made from it.
        stream: Makes an environment from the batch, the table on its device and the description; takes `split`, `device` and
            `dtype`.
    """

    def __init__(self, table: Table, description: Description, stream: Callable[..., TorchVectorEnv]) -> None:
        self.description = description
        self.table = table
        self._stream = stream
        self._placed: dict[tuple[str, torch.dtype], Table] = {}

    @in_own_context
    def make(
        self,
        *,
        batch: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        split: str = "train",
    ) -> TorchVectorEnv:
        """Return an environment of one split. Environments of one device and type share their data.

        Raises:
            ScenarioError: There is no such split.
            DataError: A value is too large for the type.
        """
        check_split(split, self.description.splits)
        key = str(device), dtype
        if key not in self._placed:
            placed = self.table.to(device, dtype)
            for name, column in placed.columns.items():
                fits = column.dtype == self.table.columns[name].dtype or bool(torch.isfinite(column).all())
                scale = f"{name}: some values are too large for {dtype}; scale them, or run in float64"
                require(fits, "env", scale)
            self._placed[key] = placed
        settings: dict[str, Any] = {"split": split, "device": device, "dtype": dtype}
        return self._stream(batch, self._placed[key], self.description, **settings)


@in_own_context
def from_tensors(
    *positional: Any,
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
    as network inputs. All values are copied. A target may be missing: its class is -100, `_name` masks the target `name`, or a masked array or `pandas.NA` has no value. What is missing counts in
    no loss, metric or gradient; losses and metrics are averaged over the sites that an example has.

    Args:
        positional: None: a tensor is given under its name.
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
        ScenarioError: A tensor without a name, or an invalid hold or kind of episode.
    """
    if positional:
        raise ScenarioError("from_tensors: name each tensor, as from_tensors(x=inputs, label=labels)")
    settings: dict[str, Any] = {"training_only": training_only, "classes": classes}
    options = ExampleOptions(**settings, hold=hold, episode=episode, sampling=sampling)
    reader = partial(columns_of, classes=options.classes or ())
    return _source(reader, "from_tensors", (tensors, test, validation), options)


@in_own_context
def from_dataset(
    dataset: Indexable,
    names: Sequence[str] | None = None,
    *,
    test: float | Indexable = 0.2,
    validation: float | Indexable = 0.1,
    **options: Any,
) -> Source:
    """Make an environment from a data set of `torch.utils.data` or Hugging Face's `datasets`, by reading all of it once.

    Args:
        dataset: Its items are tuples in the order of `names`, or dicts, named tuples or dataclasses with these keys or fields,
            of tensors, arrays, images or numbers.
        names: Names of an item's parts, and of the signals; None: its `column_names`, or else image and label.
        test: Share of the examples used for testing, or the data set for testing.
        validation: Share of the examples used for validation, or the data set for validation.
        options: `training_only`, `classes`, `hold`, `episode` and `sampling`, see `from_tensors`.

    Raises:
        DataError: The data set cannot be indexed, an item does not have the parts `names` or the form of the previous item,
            or an error of `from_tensors`.
        ScenarioError: See `from_tensors`.
    """
    parts: Any = part_names(names, "from_dataset") or getattr(dataset, "column_names", ("image", "label"))
    checked = ExampleOptions(**options)
    reader = partial(_items, names=parts, classes=checked.classes or ())
    return _source(reader, "from_dataset", (dataset, test, validation), checked)


def from_file(file: str | Path, **options: Any) -> Source:
    """Make an environment from a file; in scenario files it is `antiphon/Tensors-v0`.

    Args:
        file: A `.npz` or `.safetensors` file, whose arrays have a row per example.
        options: Options of `Tensors`.

    Raises:
        DataError: A file that is missing, damaged or of another type, or an error of `from_tensors`.
        ScenarioError: An invalid file name, or an error of `from_tensors`.
    """
    return Tensors(Tensors.Options(file=file, **options))


def _absolute(name: float | str | Path) -> float | str:
    if isinstance(name, float):
        return name
    try:
        return str(given_path(name, "file"))
    except RunError as error:
        raise ValueError(str(error)) from None


class FileOptions(EnvOptions):
    """Options of data in a file."""

    file: Annotated[str | Path, AfterValidator(_absolute)]
    """Name of a `.npz` (nothing is unpickled) or `.safetensors` file."""
    test: Annotated[float | str | Path, AfterValidator(_absolute)] = 0.2
    """Share of the examples used for testing, or the name of a file with the same arrays."""
    validation: Annotated[float | str | Path, AfterValidator(_absolute)] = 0.1
    """Share of the examples used for validation, or the name of a file with the same arrays."""

    @property
    def data(self) -> tuple[Any, Any, Any]:
        """Files of train, test and validation, or the shares of test and validation."""
        return self.file, self.test, self.validation


class Tensors(Source):
    """Environments of the data in a file, which is read again only if it has changed: see `from_file`."""

    class Options(FileOptions, ExampleOptions):
        """Options of examples in a file."""

    def __init__(self, options: FileOptions) -> None:
        files = [Path(data) for data in options.data if isinstance(data, str)]
        identities = identity(path for path in files if path.is_file())
        vars(self).update(vars(_read_once(type(self), options.model_dump_json(), identities)))  # type: ignore[arg-type]

    @staticmethod
    def read(options: Any) -> Source:
        """Read the files of some options without a cache."""

        def reader(path: str, where: str) -> Columns:
            del where  # the file's own name says where
            return columns_of(read(Path(path)), path, options.classes or (), read=read_value)

        return _source(reader, str(options.file), options.data, options, named_in_state=True)


@lru_cache(maxsize=8)
def _read_once(kind: type[Tensors], options: str, state: tuple[Identity, ...]) -> Source:
    """Read files while none of them changes (`state`)."""
    del state
    return kind.read(kind.Options(**json.loads(options)))


def _source(
    reader: Callable[[Any, str], Columns],
    where: str,
    data: tuple[Any, Any, Any],
    options: ExampleOptions,
    *,
    named_in_state: bool = False,
) -> Source:
    """Return the source of the columns that `reader` makes of the data of each split: train, test and validation."""
    joined, splits, _ = assembled(reader, where, data)
    labels = [name for name, column in joined.items() if column.dim() == 1 and is_whole(column)]
    signals, columns, divisors = signals_of(joined, options, labels, where)
    answers = [
        name
        for name, signal in signals.items()
        if signal.training_only and signal.classes and not signal.shape
    ]
    description = options.described(signals, {name: len(rows) for name, rows in splits.items()})
    table = Table(columns=columns, splits=splits, divisors=divisors)
    digest = (lambda: table.digest) if named_in_state else None
    return Source(
        table, description, partial(ExampleStream, answer=answers[0] if answers else None, digest=digest)
    )


class Columns(dict[str, Tensor]):
    """Columns of a split, by name."""

    def __init__(self, columns: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] = ()) -> None:
        super().__init__(columns)
        self.missing: dict[str, Tensor] = {}
        """True where a column has no value, bool of its shape, of the columns that lack some."""
        self.modes: dict[str, str] = {}
        """PIL's modes of the columns that are pictures."""

    def add(self, name: str, value: TensorValue) -> None:
        self[name] = value.numbers
        if value.missing is not None:
            self.missing[name] = value.missing
        if value.mode:
            self.modes[name] = value.mode

    def value(self, name: str) -> TensorValue:
        return TensorValue(self[name], self.missing.get(name), self.modes.get(name, ""))

    @property
    def rows(self) -> int:
        return len(next(iter(self.values()), ()))


def assembled(
    reader: Callable[[Any, str], Columns], where: str, data: tuple[Any, Any, Any]
) -> tuple[Columns, dict[str, Tensor], list[Any]]:
    """Return columns of all splits, the rows of each split, and the parts as they were read.

    `data` are the data of train, test and validation: a number is a share of the training data, taken by a fixed permutation.

    Raises:
        DataError: A split has other columns than `train`, or columns of another shape or type, a share is invalid, or no
            examples are left for training.
    """
    held_out = {"validation": data[2], "test": data[1]}
    shares = {split: float(share) for split, share in held_out.items() if isinstance(share, Real)}
    data_of_split = {"train": data[0]} | {
        split: value for split, value in held_out.items() if split not in shares
    }
    where_of = {split: where if split == "train" else f"{where}: {split}" for split in data_of_split}
    parts = {split: reader(value, where_of[split]) for split, value in data_of_split.items()}
    train = parts["train"]
    for split, split_columns in parts.items():
        names = f"it has {', '.join(split_columns)}, but train has {', '.join(train)}; use the same names"
        require(split_columns.keys() == train.keys(), where_of[split], names)
        for name, column in split_columns.items():
            mine, theirs = (f"{values.dtype} {list(values.shape[1:])}" for values in (column, train[name]))
            require(
                mine == theirs,
                where_of[split],
                f"{name} is {mine} per row, but {theirs} in train; make them equal",
            )
    # Rows are gathered at every step, which from a strided view takes four times as long.
    columns = Columns()
    for name in train:
        columns.add(
            name, join_values(name, [split_columns.value(name) for split_columns in parts.values()], where)
        )
    counts = {split: split_columns.rows for split, split_columns in parts.items()}
    return columns, _split_rows(counts, shares, where), [*parts.values()]


def _split_rows(counts: Mapping[str, int], shares: Mapping[str, float], where: str) -> dict[str, Tensor]:
    """Return the rows of each split: shares of the training data, the others as they come."""
    count = counts["train"]
    for name, share in shares.items():
        meant = (
            f" ({share:g} of {count}: {share / count:.2g})"
            if 1 <= share < count and share == int(share)
            else ""
        )
        line = f"must be a share of the examples, from 0 to below 1{meant}, or the {name} examples"
        require(0 <= share < 1, where, f"{name}: {share:g}; {line}")
    sizes = {name: max(1, round(share * count)) if share > 0 else 0 for name, share in shares.items()}
    remaining = count - sum(sizes.values())
    listed = " and ".join(f"{name}={share}" for name, share in sorted(shares.items())) or "no shares"
    fix = "give more examples, or smaller shares" if count else "give it some"
    require(remaining > 0, where, f"{count} examples leave none for training with {listed}; {fix}")
    order = torch.randperm(count, generator=generator(0, "envs", "split"))
    parts = torch.split(order, [remaining, *sizes.values()])
    rows = {name: indices.sort().values for name, indices in zip(["train", *sizes], parts, strict=True)}
    start = 0
    for name, size in counts.items():
        rows.setdefault(name, torch.arange(start, start + size))
        start += size
    return {name: rows[name] for name in SPLITS if len(rows[name])}


def columns_of(
    data: Any, where: str, classes: Collection[str] = (), *, read: Callable[..., TensorValue] = read_column
) -> Columns:
    """Return columns of one length as tensors; `classes` names those whose palettes are indices."""
    mapping = f"{type(data).__name__}; pass a share of the examples, or a mapping of tensors"
    require(isinstance(data, Mapping), where, mapping)
    require(len(data) > 0, where, "no tensor given; pass one, such as image=images")
    columns = Columns()
    for name, value in data.items():
        columns.add(name, read(name, value, where, indices=name in classes))
    for name, column in columns.items():
        require(column.dim() > 0, where, f"{name}: a single number; the first axis must count the examples")
    lengths = {name: len(column) for name, column in columns.items()}
    counted = ", ".join(f"{name} {length}" for name, length in lengths.items())
    unequal = f"lengths disagree: {counted}; pass one row per example in each"
    require(len(set(lengths.values())) == 1, where, unequal)
    return columns


def _items(dataset: Any, where: str, names: Sequence[str], classes: Collection[str]) -> Columns:
    mapping = isinstance(dataset, Mapping) or hasattr(dataset, "columns")
    fix = "its `dataset`, or use from_loader" if hasattr(dataset, "dataset") else "list(…) of it, if it ends"
    fix = "one of its values, or use from_tensors(**…)" if mapping else fix
    indexable = not mapping and hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    require(indexable, where, f"{type(dataset).__name__} cannot be indexed; pass {fix}")
    require(len(dataset) > 0, where, "the data set is empty")
    rows = []
    for index in range(len(dataset)):
        with reading(f"{where}[{index}]", type(dataset).__name__):
            item = dataset[index]
        if index == 0:
            warn_of_masks_left_out(item, names, where)
        rows.append(parts_of(item, names, f"{where}[{index}]"))
    columns = Columns()
    for name, items in zip(names, zip(*rows, strict=True), strict=True):
        values = [read_value(name, item, where, indices=name in classes) for item in items]
        columns.add(name, stack_values(name, values, where))
    return columns


def part_names(names: str | Sequence[str] | None, where: str) -> Sequence[str]:
    """Return the names of an item's parts that are given, a single one or several; DataError if two parts have one name."""
    given: Sequence[str] = _names(names or ())
    for index, name in enumerate(given):
        twice = f"names: {name!r} is given to two parts; give each a name of its own"
        require(name not in given[:index], where, twice)
    return given


def parts_of(item: Any, names: Sequence[str], where: str) -> Sequence[Any]:
    """Return the parts of an item, or of a batch, in the order of `names`; DataError if it has other parts."""
    named = named_parts(item)
    if named is not None and not _renames(names, named, item):
        keys = named.keys()  # a TensorDict iterates over its rows
        for name in names:
            require(name in keys, where, f"no '{name}'{suggest(name, keys)}; pass names=(…)")
        return [named[name] for name in names]
    if len(names) == 1 and not isinstance(item, Sequence):
        return [item]
    described = f"{len(item)} parts" if isinstance(item, Sequence) else type(item).__name__
    fits = isinstance(item, Sequence) and len(item) == len(names)
    fix = "pass names=(…)" if isinstance(item, Sequence) else "return a tuple or a dict of tensors"
    require(fits, where, f"{described} for the names {', '.join(names)}; {fix}")
    return item  # type: ignore[no-any-return]


def warn_of_masks_left_out(item: Any, names: Sequence[str], where: str) -> None:
    """Warn of an item, or batch, with the mask of a part that is read, where the names of what is read leave the mask out."""
    parts = named_parts(item)
    if parts is None:
        return
    keys = parts.keys()
    left = [
        mask
        for mask in (f"_{name}" for name in names)
        if mask in keys and mask not in names and _holds_truth_values(parts[mask])
    ]
    if left:
        targets = ", ".join(name[1:] for name in left)
        problem = f"{where}: names leave out {', '.join(left)}, so what is masked counts in {targets}"
        warn_caller(f"{problem}; add it to names, or give it another key", ScenarioWarning)


def _holds_truth_values(value: Any) -> bool:
    """Return whether it may be a mask, as a number or a path under such a key is not."""
    try:
        tensor = torch.as_tensor(value)
    except (RuntimeError, TypeError, ValueError):
        return False
    return bool(((tensor == 0) | (tensor == 1)).all())


def named_parts(item: Any) -> Mapping[str, Any] | None:
    """Return the parts of an item, or of a batch, by the names that it gives them: keys or fields; None if it has none."""
    if isinstance(item, Mapping):
        return item
    if is_dataclass(item) and not isinstance(item, type):
        return {field.name: getattr(item, field.name) for field in fields(item)}
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return dict(zip(item._fields, item, strict=True))
    return None


def _renames(names: Sequence[str], named: Mapping[str, Any], item: Any) -> bool:
    """Whether names are those of a named tuple's places, and none that is also a field belongs to another place."""
    if not isinstance(item, tuple) or len(names) != len(named):
        return False
    return all(name == field or name not in named for name, field in zip(names, named, strict=True))


def is_whole(column: Tensor) -> bool:
    return not column.is_floating_point() and not column.is_complex() and column.dtype != torch.bool


def signals_of(
    columns: Columns, options: ColumnOptions, hidden: Iterable[str], where: str
) -> tuple[dict[str, Signal], dict[str, Tensor], dict[str, float]]:
    """Return the signals of columns, the columns as stored with their masks, and the divisors of columns stored as integers.

    A column `_name` is the mask of the target `name`: bool, `[rows]` or `[rows, *sites]`. A class -100 has no target either, nor
    what is missing in a masked array. Where it is masked, a training-only column is zero.

    Args:
        options: Names of training-only columns and numbers of classes.
        hidden: The training-only columns if the options do not name them, beside those with classes of -100.

    Raises:
        DataError: Names without a column, complex numbers, values that are not finite, negative classes, too many classes, a
            mask that does not fit, or missing values of what agents observe.
    """
    values = {name: column for name, column in columns.items() if not name.startswith("_")}
    if options.training_only is None:
        gaps = (name for name, column in values.items() if bool(_ignored(column).any()))
        hidden = dict.fromkeys(name for name in (*hidden, *gaps) if name in values)  # masks are no signals
    else:
        hidden = options.training_only
    for name in hidden:
        require(name in values, where, f"training_only: no tensor '{name}'{suggest(name, values)}")
    for name in options.classes or {}:
        require(name in values, where, f"classes: no tensor '{name}'{suggest(name, values)}")
        kind = str(values[name].dtype).removeprefix("torch.")
        floats = f"classes: '{name}' has {kind}, and classes are whole numbers; leave it out of classes, or convert it"
        require(is_whole(values[name]), where, floats)
    masks = _masks(columns, values, hidden, where)
    signals, stored, divisors = {}, {}, {}
    for name, column in values.items():
        if name in hidden and name in masks:
            column = column.long() if column.dtype in WIDE else column
            column = column.masked_fill(~_expanded(masks[name], column), 0)
        mode, count = columns.modes.get(name, ""), (options.classes or {}).get(name)
        signals[name], stored[name], white = _signal(name, column, mode, count, name in hidden, where)
        if white:
            divisors[name] = white
    for name, mask in masks.items():
        if (
            name in hidden
        ):  # [rows, 1] without sites: the value is missing, where [rows] only says that it does not count
            mask = mask[:, None] if values[name].dim() == 1 else _expanded(mask, values[name])
        stored[f"_{name}"] = mask
    return signals, stored, divisors


def _masks(
    columns: Columns, values: Mapping[str, Tensor], hidden: Collection[str], where: str
) -> dict[str, Tensor]:
    """Return where columns have a value: by masks of their own, classes of -100 and what is missing in the data."""
    masks = {n[1:]: _mask(n[1:], mask, values, where) for n, mask in columns.items() if n.startswith("_")}
    for name, gap in columns.missing.items():
        problem = f"{name}: {int(gap.sum())} of its values are missing (masked or NA)"
        fix = f"fill them, or name '{name}' in training_only if it is a target"
        require(name in hidden, where, f"{problem}, but agents may observe it; {fix}")
    for name in hidden:
        gap = columns.missing.get(name, torch.tensor(False)) | _ignored(values[name])
        if bool(gap.any()):
            masks[name] = ~gap if name not in masks else ~gap & _expanded(masks[name], gap)
    return masks


def _ignored(column: Tensor) -> Tensor:
    """Return where a column has the class -100, bool of its shape, or a single False."""
    signed = is_whole(column) and column.dtype not in (torch.uint8, *WIDE)
    return column == IGNORED if signed else torch.tensor(False)  # torch takes the byte 156 for -100


def _signal(
    name: str, column: Tensor, mode: str, count: int | None, hidden: bool, where: str
) -> tuple[Signal, Tensor, float]:
    """Return the signal of a column, the column as stored, and its divisor, or 0.

    `mode`: PIL's mode of a picture; empty: no picture. `count`: number of classes, if given. `hidden`: no agent may observe it.
    """
    shape, deep = tuple(column.shape[1:]), column.dim() > 2 and not hidden and count is None
    kind: dict[str, Any] = {"shape": shape, "training_only": hidden}
    if mode and len(shape) == 3:
        kind["channels"] = "last"
    elif (
        len(shape) == 3
        and shape[2] in _COLOURS
        and shape[0] not in _COLOURS
        and channel_axis(shape) == "last"
    ):
        kind["channels"] = "unknown"  # torch has the channels first, pictures in numpy have them last
    require(
        not column.is_complex(),
        where,
        f"{name}: complex numbers; pass real and imaginary parts as two tensors",
    )
    if column.dtype == torch.uint8 and column.dim() > 1 and count is None:
        return Signal(**kind, low=0.0, high=1.0), column, 255.0
    if mode.startswith(_DEEP) and count is None:
        return Signal(**kind, low=0.0, high=1.0), column.int(), 65535.0
    if is_whole(column):
        ways = f"pass {name} / 65535 or another range as floats, or classes={{'{name}': …}}"
        require(not (deep and mode), where, f"{name}: pictures of mode {mode} have no known range; {ways}")
        bits = (
            f"{name}: pictures of 16 bits ({str(column.dtype).removeprefix('torch.')}) are no classes; {ways}"
        )
        require(not (deep and column.dtype in _SIXTEEN_BITS), where, bits)
        column = column.long()
        least, most = (int(side) for side in column.aminmax()) if column.numel() else (0, 0)
        fix = f"; a target that is missing is {IGNORED}"
        fix += "" if hidden else f", with '{name}' in training_only"
        if least == IGNORED:
            fix = f"; {IGNORED} has no target: name '{name}' in training_only"
        require(least >= 0, where, f"{name}: class {least}; number classes from 0, or pass floats{fix}")
        missing = f", or mask those that are missing: _{name}" if hidden else ""
        many = f"{name}: class {most} of {count}; pass classes={{'{name}': {most + 1}}} or more{missing}"
        require(count is None or most < count, where, many)
        return Signal(**kind, classes=most + 1 if count is None else count), column, 0.0
    kind["truths"] = column.dtype == torch.bool
    column = column if column.is_floating_point() else column.float()
    bad = ~torch.isfinite(column)
    if bad.any():
        first = f"the first at index {bad.nonzero()[0].tolist()}"
        mask = f", or mask them: _{name}" if hidden else ""
        line = f"{name}: {int(bad.sum()):,} of its values are not finite, {first}; replace or drop them{mask}"
        raise DataError(f"{where}: {line}")
    return Signal(**kind), column, 0.0


def _mask(name: str, mask: Tensor, columns: Mapping[str, Tensor], where: str) -> Tensor:
    """Return the mask of a column as bool, [rows] or of the column's shape; DataError if it does not fit."""
    problem = f"_{name}: a name that begins with _ is the mask of a target, and there is no '{name}'{suggest(name, columns)}"
    require(name in columns, where, problem)
    column = columns[name]
    truth = mask.dtype == torch.bool or (not mask.is_complex() and bool(((mask == 0) | (mask == 1)).all()))
    require(truth, where, f"_{name}: a mask has True where '{name}' counts, or 1; pass no other numbers")
    shape, target = list(mask.shape), list(column.shape)
    fits = f"_{name}: a mask of '{name}' is bool {target[:1]} or {target}, not {shape}"
    require(0 < len(shape) <= len(target) and shape == target[: len(shape)], where, fits)
    mask = mask.bool()
    return mask if mask.dim() == 1 else _expanded(mask, column)


def _expanded(mask: Tensor, column: Tensor) -> Tensor:
    """Return a mask of a column's first axes as one of its shape."""
    return mask.view(*mask.shape, *[1] * (column.dim() - mask.dim())).expand(column.shape)
