"""Environments from loaders: batches of examples, such as the batches of a `torch.utils.data.DataLoader`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import count, islice
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from antiphon.base.errors import DataError, RunError, require
from antiphon.envs.base import SeededEnv, Values, check_split
from antiphon.envs.env_keys import Episode
from antiphon.envs.shown_signals import ShownSource
from antiphon.envs.sources.randomness import Counts, Randomness, Reader
from antiphon.envs.sources.source_errors import reading
from antiphon.envs.sources.tensors import (
    Columns,
    ExampleOptions,
    columns_of,
    is_whole,
    named_parts,
    part_names,
    parts_of,
    signals_of,
    warn_of_masks_left_out,
)
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.nets.random import seed_for

_NESTED = (Tensor, np.ndarray, list, tuple, dict)
"""What is more than a single value of an example."""


@in_own_context
def from_loader(
    loader: Iterable[Any],
    names: Sequence[str] | None = None,
    *,
    test: Iterable[Any] | None = None,
    validation: Iterable[Any] | None = None,
    training_only: Iterable[str] | None = None,
    classes: Mapping[str, int] | None = None,
    hold: int = 1,
    episode: Episode = "stream",
) -> LoaderSource:
    """Make an environment from a loader: a `torch.utils.data.DataLoader`, or any iterable of batches.

    The loader is iterated epoch by epoch. Its batches, of any size, are cut to `training.batch`; the remainder of a batch is
    shown with the next one. Values are converted as by `from_tensors`: those of a list of batches are copied at once, those of a
    loader when it yields them. For each batch the global random numbers of Python, numpy and torch, and the generators that the
    loader, its samplers and its data set hold, are seeded by run, epoch and batch, and `set_epoch` is called where there is
    one: shuffling and random numbers in workers are functions of the seed. A resumed run iterates the present epoch from its start to its previous position.

    Args:
        loader: Its batches are tuples in the order of `names`, or dicts, named tuples or dataclasses with these keys or fields.
        names: Names of a batch's parts, and of the signals; None: the keys or fields, or else image and label.
        test: A loader for testing, which ends.
        validation: A loader for validation, which ends.
        training_only: Names that no agent may observe; by default the classes with a single axis (labels).
        classes: Number of classes of each part of whole numbers: a loader is not read in advance.
        hold: Number of steps for which each example is shown.
        episode: stream (never ends) or example (each example is an episode).

    Returns:
        The `env` of an `antiphon.Scenario`. An iterator, such as a generator, can be iterated only once: its run cannot be
        resumed or forked, and ends with the iterator; a warning says so.

    Raises:
        DataError: A loader is empty, its batches do not have the parts `names`, the order of its examples does not follow from
            its generators and `set_epoch`, or an error of `from_tensors`.
        ScenarioError: An invalid hold or kind of episode.
    """
    settings: dict[str, Any] = {"training_only": training_only, "classes": classes}
    loaders = {"train": loader, "validation": validation, "test": test}
    given_loaders = {
        split: given_loader for split, given_loader in loaders.items() if given_loader is not None
    }
    return LoaderSource(given_loaders, names, ExampleOptions(**settings, hold=hold, episode=episode))


_sources: WeakSet[LoaderSource] = WeakSet()
"""All that are in use: two may read one iterator."""
_turns = count()


class LoaderSource(ShownSource):
    """Factory of environments from loaders: the `env` of a scenario written in Python, see `from_loader`."""

    obstacle_to_copies = "a loader may return different batches in different processes"

    def __init__(
        self, loaders: Mapping[str, Iterable[Any]], names: Sequence[str] | None, options: ExampleOptions
    ) -> None:
        self._options, self._loaders = options, dict(loaders)
        self._pending: list[Any] = []
        """The first batch of an iterator, which was read to determine its parts."""
        self._in_use = False
        self._of_places: dict[tuple[str, str], bool] = {}
        """Of the lists that a split's collate function makes of a part: whether they have a tensor for each place in a row."""
        self._begun: dict[int, int] = {}
        """The turn of the newest pass of each data set, by its `id`: one that is its own iterator has one reader at a time."""
        self.counts = Counts(loaders.values())
        _sources.add(self)
        with self.counts.of(Reader()):  # what is read to know their form counts for no run
            self._examine(loaders, names, options)

    def _examine(
        self, loaders: Mapping[str, Iterable[Any]], names: Sequence[str] | None, options: ExampleOptions
    ) -> None:
        """Check the loaders, and determine form and number of their examples."""
        for split, loader in loaders.items():
            self._check(loader, "from_loader" if split == "train" else f"from_loader: {split}")
        self._randomness = {split: Randomness(loader) for split, loader in loaders.items()}
        for split, randomness in self._randomness.items():
            training = split == "train"
            randomness.check("from_loader" if training else f"from_loader: {split}", training=training)
        first = self._first_batch()
        require(first is not None, "from_loader", "the loader has no batches; add examples")
        once = isinstance(loaders["train"], Iterator)
        if once:
            self._pending = [first]
        named = named_parts(first)
        own = ("image", "label") if named is None else tuple(named.keys())
        self._names = part_names(names, "from_loader") or own
        warn_of_masks_left_out(first, self._names, "from_loader")
        columns = self._columns(first, "train", "from_loader")
        for split, loader in loaders.items():
            if isinstance(loader, list | tuple):
                prefix = f"from_loader: {split}, batch "
                self._loaders[split] = [self._columns(b, split, f"{prefix}{n}") for n, b in enumerate(loader)]
        if not once:
            self._check_again(columns)
        labels = [
            name
            for name, column in columns.items()
            if name[0] != "_" and column.dim() == 1 and is_whole(column)
        ]
        signals, _, self.divisors = signals_of(columns, options, labels, "from_loader")
        for name, signal in signals.items():
            seen = f"{name}: whole numbers are classes, up to {(signal.classes or 1) - 1} in the first batch"
            fix = f"pass their number, classes={{'{name}': …}}: a loader is not read in advance"
            counted = signal.classes is None or name in (options.classes or {})
            require(counted, "from_loader", f"{seen}; {fix}")
        hidden = tuple(name for name, signal in signals.items() if signal.training_only)
        self._options = options.model_copy(update={"training_only": hidden})  # of all batches
        counts = {split: rows for split in loaders if (rows := self._count(split)) is not None}
        self.description = options.described(signals, counts, can_be_saved=not once)

    def _check_again(self, columns: Columns) -> None:
        """Raise a DataError if the first batch of training, in columns, is not a function of the run's seed and the epoch."""
        loader: Any = self._loaders["train"]
        of_torch = isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__
        stream = loader.dataset if of_torch else loader
        if isinstance(stream, Sequence) or (of_torch and not isinstance(stream, IterableDataset)):
            return  # in the order of its sampler
        again = self._columns(self._first_batch(), "train", "from_loader")
        alike = again.keys() == columns.keys() and all(map(torch.equal, again.values(), columns.values()))
        fix = "keep its random generator in an attribute, or pass iter(…) of it to read it once"
        differ = f"two iterations of {type(stream).__name__} with the same seeds differ"
        require(alike, "from_loader", f"{differ}; {fix}")
        self._randomness["train"].check_streams("from_loader", lambda: next(iter(self.own("train")), None))

    @staticmethod
    def _check(loader: Any, where: str) -> None:
        batches = f"{type(loader).__name__} has no batches; pass a DataLoader, or a list of batches"
        require(
            isinstance(loader, Iterable) and not isinstance(loader, Tensor | Mapping | str), where, batches
        )
        if isinstance(loader, Iterator):
            once = f"{type(loader).__name__} can be iterated only once"
            require(where == "from_loader", where, f"{once}; pass list(…) of it")
            lost = "so this run cannot be resumed, forked or probed; to allow it, pass a DataLoader or a list of batches"
            warnings.warn(f"{where}: {once}, {lost}", stacklevel=5)
        unordered = getattr(loader, "num_workers", 0) > 0 and not getattr(loader, "in_order", True)
        late = "in_order=False: batches come as workers finish them, in another order in each run"
        require(not unordered, where, f"{late}; leave it out")
        if getattr(loader, "persistent_workers", False) and where == "from_loader":
            problem = (
                "persistent workers keep their random numbers from one epoch to the next, so a resumed run is"
            )
            fix = "bit-identical only if they use none; otherwise set persistent_workers=False"
            warnings.warn(f"{where}: {problem} {fix}", stacklevel=5)

    @in_own_context
    def make(
        self,
        *,
        batch: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        split: str = "train",
    ) -> LoaderStream:
        """Return an environment of one split; DataError if another one already reads its iterator."""
        check_split(split, tuple(self._loaders))
        if not self.description.can_be_saved and split == "train":
            problem = "another simulation already reads its iterator; pass a DataLoader or a list of batches"
            train_loader = self._loaders["train"]
            read = any(source._in_use for source in _sources if source._loaders["train"] is train_loader)
            require(not read, "from_loader", problem)
            self._in_use = True
        return LoaderStream(batch, self, split, device=device, dtype=dtype)

    def own(self, split: str) -> Any:
        """Return the loader of a split; a DataLoader is copied, so that its persistent workers are not shared."""
        loader: Any = self._loaders[split]
        if isinstance(loader, DataLoader):
            loader = copy.copy(loader)
            loader._iterator = None
        return loader

    def batches(
        self, split: str, loader: Any, seed: int, epoch: int, reader: Reader | None = None
    ) -> Iterator[Columns]:
        """Yield the checked, non-empty batches of an epoch; DataError if one differs in form from the first."""
        root, kind = seed_for(seed, "loader", split, str(epoch)), type(loader).__name__
        reader = reader or Reader()
        if isinstance(loader, DataLoader) and loader.persistent_workers:
            # Torch draws a number more for their first epoch than for those that follow: which of the two this is
            # depends on the epoch alone, not on what this process has read before.
            if not epoch:
                loader._iterator = None
            elif loader._iterator is None:
                with self.counts.of(reader), self._randomness[split].epoch(root, epoch).active(root):
                    iter(loader)
        randomness = self._randomness[split].epoch(root, epoch)
        with self.counts.of(reader), reading(f"from_loader: {split}", kind), randomness.active(root):
            iterator = iter(loader)
        stream = loader.dataset if isinstance(loader, DataLoader) and not loader.num_workers else None
        begun = self._begun[id(stream)] = next(_turns)
        lost = f"another run has begun to iterate {type(stream).__name__}, whose __iter__ returns itself"
        for number in count():
            where = f"from_loader: {split}, batch {number}"
            mine = not isinstance(stream, Iterator) or begun == max(
                source._begun.get(id(stream), -1) for source in _sources
            )
            require(mine, where, f"{lost}; return a new iterator there, or set num_workers=1")
            seed = seed_for(root, str(number))
            with self.counts.of(reader), reading(where, kind), randomness.active(seed):
                batch = self._pending.pop() if self._pending else next(iterator, None)
            if batch is None:
                return
            signals, columns, divisors = signals_of(
                self._columns(batch, split, where), self._options, (), where
            )
            for name, signal in signals.items():
                first_signal = self.description.signals[name]
                shapes = f"{name} is {list(signal.shape)}, but {list(first_signal.shape)} in the first batch"
                kinds = f"{name} has another type than in the first batch"
                difference = shapes if signal.shape != first_signal.shape else kinds
                equal = signal == first_signal and divisors.get(name) == self.divisors.get(name)
                require(equal, where, f"{difference}; make them equal")
            rows = Columns(columns)
            if rows.rows:
                yield rows

    def _first_batch(self) -> Any:
        """Return the first batch of training; None if there is none."""
        with (
            reading("from_loader", type(self._loaders["train"]).__name__),
            self._randomness["train"].epoch(0).active(0),
        ):
            return next(iter(self.own("train")), None)

    def _columns(self, batch: Any, split: str, where: str) -> Columns:
        """Return a batch of a split's loader as columns in memory of its own."""
        if isinstance(batch, Columns):
            return batch
        parts = dict(zip(self._names, parts_of(batch, self._names, where), strict=True))
        loader = self._loaders[split]
        if isinstance(loader, DataLoader):
            by_torch = loader.collate_fn is default_collate
            parts = {
                name: _rows_first(value)
                if by_torch or self._has_places(split, name, parts, _batch_size(loader), where)
                else value
                for name, value in parts.items()
            }
        return columns_of(parts, where, self._options.classes or ())

    def _has_places(
        self, split: str, name: str, parts: Mapping[str, Any], batch: int | None, where: str
    ) -> bool:
        """Whether a user's collate function makes of a part a list of one tensor for each place in a row, as torch's does.

        The first batch tells it, by the number of examples: that of another part, or `batch`.

        Raises:
            DataError: There are as many tensors as examples, and each has as many rows; or no part shows how many examples there are,
                and neither number is that of a batch.
        """
        value = parts[name]
        if not (
            isinstance(value, list | tuple) and value and isinstance(value[0], Tensor) and value[0].dim()
        ):
            return False
        count, length = len(value), len(value[0])
        if count == length == 1 or any(getattr(row, "shape", None) != value[0].shape for row in value):
            return False  # the same either way, or no rows
        if (split, name) not in self._of_places:
            others = [shown for part in parts.values() if (shown := _examples_in(part)) is not None]
            rows = others[0] if others else batch
            unclear = f"{name}: a list of {count} tensors of {length} rows is read for each example, or each place in a row"
            fix = f"return torch.stack({name}), or torch.stack({name}, 1), in collate_fn"
            told = bool(others) or rows in (
                count,
                length,
            )  # else columns say where numbers of examples differ
            require(told and not count == length == rows, where, f"{unclear}; {fix}")
            self._of_places[split, name] = length == rows
        return self._of_places[split, name]

    def _count(self, split: str) -> int | None:
        """Return the examples of a pass; None: only training on them will show how many there are."""
        loader: Any = self._loaders[split]
        sampler = getattr(loader, "sampler", None)
        none = "the loader has no examples"
        batched = isinstance(loader, DataLoader) and loader.batch_size
        if batched and isinstance(sampler, Sized) and self._keeps_length(split, sampler):
            rows = len(loader) * loader.batch_size if loader.drop_last else len(sampler)
            require(rows > 0, f"from_loader: {split}", f"{none}; leave it out, or drop_last=True")
            return rows
        if split == "train" and isinstance(loader, DataLoader) and loader.batch_size is None:
            return self._count_indices(loader.batch_sampler)
        if split == "train" and not isinstance(loader, Sequence):
            return None
        with (
            reading(f"from_loader: {split}", type(loader).__name__),
            self._randomness[split].epoch(0).active(0),
        ):
            rows = sum(self._columns(batch, split, f"from_loader: {split}").rows for batch in loader)
        require(rows > 0, f"from_loader: {split}", f"{none}; leave it out")
        return rows

    def _keeps_length(self, split: str, sampler: Any) -> bool:
        """Whether the first epoch of a sampler, of examples or of batches, has its length: one's own may have another."""
        if type(sampler).__module__.startswith("torch."):
            return True
        with self._randomness[split].epoch(0).active(0):
            return sum(1 for _ in islice(iter(sampler), len(sampler) + 1)) == len(sampler)

    def _count_indices(self, batches: Any) -> int | None:
        """Return the examples of a pass of a training loader with a sampler of batches; None if it has none, or no length."""
        try:
            passed = len(batches)
        except TypeError:  # as torch says it, also of a sampler of batches around one without a length
            return None
        if not self._keeps_length("train", batches):
            return None
        with self._randomness["train"].epoch(0).active(0):
            return sum(map(len, islice(iter(batches), passed)))


class LoaderStream(SeededEnv):
    """A stream of a loader's examples, each repeated for `hold` steps.

    Description:
        The batches of the loader, one epoch after the other, cut to the number of environments.
    Action space:
        One action, without effect.
    Observation space:
        The requested signals that are not training-only; the others are in `info`.
    Rewards:
        None: 0.0.
    Episode end:
        Never; where `episode_steps` is the hold, every environment terminates with its example.
    """

    def __init__(self, num_envs: int, source: LoaderSource, split: str, **settings: Any) -> None:
        super().__init__(num_envs, source.description, Discrete(1), **settings)
        self.split, self._source, self._loader = split, source, source.own(split)
        self.epoch_examples = source.description.example_counts.get(split)
        self._batches: Iterator[Columns] | None = None
        self._epoch = self._taken = 0
        """The present epoch, and the number of batches taken from it."""
        self._counts: Mapping[str, int | float] = {}
        """The loader's counts at the beginning of the epoch."""
        self._rows, self._rest = Columns(), Columns()
        """The examples shown, and the remaining examples of the newest batch."""
        self._shown: Values = {}, {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Start the first epoch of a seed, or without a seed continue with the next examples."""
        if seed is not None:
            self._epoch, self._taken, self._batches, self._rest = 0, 0, None, Columns()
            self._counts = {}
        return super().reset(seed=seed)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the loader, and the examples taken from it; RunError for an iterator."""
        once = "an iterator cannot be iterated again; pass a DataLoader or a list of batches to from_loader"
        require(self.description.can_be_saved, "env", once, RunError)
        columns = {"rows": self._rows, "rest": self._rest}
        position = super().state_dict() | {"epoch": self._epoch, "taken": self._taken}
        position["counts"] = dict(self._counts)
        return position | {
            key: {name: column.clone() for name, column in rows.items()} for key, rows in columns.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a position; the loader is iterated up to it at the next batch, with a warning if its batches differ."""
        self._seed, self._number, self._tick = state["seed"], int(state["example"]), int(state["tick"])
        self._epoch, self._taken, self._batches = int(state["epoch"]), int(state["taken"]), None
        self._counts = state.get("counts", {})
        self._rows, self._rest = (
            Columns({name: column.cpu() for name, column in state[key].items()}) for key in ("rows", "rest")
        )
        self._shown = self._present = self._divide(self._signals(self._rows))

    def batches(self, split: str, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield every example of a split once, in the loader's order: the requested signals; the last batch may be smaller."""
        check_split(split, self.splits)
        rest = Columns()
        for batch in self._source.batches(split, self._source.own(split), 0, 0):
            rest = _joined(rest, batch)
            while rest.rows >= size:
                yield self._signals(_cut(rest, 0, size))
                rest = _cut(rest, size)
        if rest.rows:
            yield self._signals(rest)

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the loader's processes: no reference to its iterator is left."""
        self._batches, self._loader = None, ()

    def _open(self) -> None:
        rest = self._rest
        while rest.rows < self.num_envs:
            if self._batches is None:
                self._batches = self._from_here()
            batch = next(self._batches, None)
            if batch is None and self._rows.rows and not self.exhausted:
                self.exhausted = True  # what was shown stays, and no step follows
                return
            if batch is None:
                raise DataError("env: the loader has ended; pass a DataLoader or a list of batches")
            rest = _joined(rest, batch)
        self._rows, self._rest = _cut(rest, 0, self.num_envs), _cut(rest, self.num_envs)
        self._shown = self._divide(self._signals(self._rows))

    def _values(self) -> Values:
        return self._shown  # the same tensors while an example is held

    def _signals(self, rows: Columns) -> dict[str, Tensor]:
        values = {}
        for name in self.requested:
            value = rows[name]
            if not self.signals[name].classes:
                narrow = value.dtype.itemsize > self.dtype.itemsize and value.is_floating_point()
                value = value.to(self.dtype)
                large = f"{name}: some values are too large for {self.dtype}; scale them, or run in float64"
                require(not narrow or bool(torch.isfinite(value).all()), "env", large)
            value = value.to(self.device)
            values[name] = value / self._source.divisors[name] if name in self._source.divisors else value
            if (mask := f"_{name}") in rows:
                values[mask] = rows[mask].to(self.device)
        return values

    def _from_here(self) -> Iterator[Columns]:
        """Yield the batches after those taken, epoch after epoch; an epoch without a batch is the end of the loader."""
        reader = Reader(self._counts)
        batches, last = self._epoch_batches(reader), Columns()
        for _ in range(self._taken):
            last = next(batches, Columns())
        before = _joined(self._rows, self._rest)
        rows = min(last.rows, before.rows)
        ends = [_cut(columns, columns.rows - rows) for columns in (last, before)]
        alike = rows and ends[0].keys() == ends[1].keys()
        if self._taken and not (alike and all(torch.equal(ends[0][name], ends[1][name]) for name in before)):
            warnings.warn(
                "env: the loader returns other batches than when the state was saved; the run continues with these",
                stacklevel=2,
            )
        while True:
            for batch in batches:
                self._taken += 1
                yield batch
            if not self._taken:
                return
            self._epoch, self._taken = self._epoch + 1, 0
            self._counts = self._source.counts.values()
            batches = self._epoch_batches(reader)

    def _epoch_batches(self, reader: Reader) -> Iterator[Columns]:
        assert self._seed is not None
        return self._source.batches(self.split, self._loader, self._seed, self._epoch, reader)


def _batch_size(loader: DataLoader[Any]) -> int | None:
    """Return the examples of a loader's first batch, where its own sampler of batches has their number, or one of torch's."""
    size: int | None = getattr(loader.batch_sampler, "batch_size", None)
    return min(size, len(loader.sampler)) if size and isinstance(loader.sampler, Sized) else size


def _examples_in(part: Any) -> int | None:
    """Return the number of examples that a part of a batch shows: an array, or a list of single values; None: it shows none."""
    if isinstance(part, Tensor | np.ndarray):
        return len(part) if part.ndim else None
    if not isinstance(part, list | tuple) or not part:
        return None
    is_nested = isinstance(part[0], _NESTED) and getattr(part[0], "ndim", 1) != 0
    return None if is_nested else len(part)


def _rows_first(value: Any) -> Any:
    """Return what torch collates of rows that are lists of numbers, one tensor for each place in them, as one row each."""
    if isinstance(value, list | tuple) and value:
        places = [_rows_first(place) for place in value]
        if all(
            isinstance(place, Tensor) and place.shape == places[0].shape and place.dim() for place in places
        ):
            return torch.stack(places, 1)
    return value


def _joined(first: Columns, second: Columns) -> Columns:
    """Return two batches as one; a mask that one of them lacks is true in its rows."""
    if not first.rows or not second.rows:
        return second if second.rows else first
    columns = Columns()
    for name in dict.fromkeys([*first, *second]):
        parts = [source.get(name) for source in (first, second)]
        like = next(column for column in parts if column is not None)
        full = [like.new_ones(source.rows, *like.shape[1:]) for source in (first, second)]
        columns[name] = torch.cat(
            [f if column is None else column for f, column in zip(full, parts, strict=True)]
        )
    return columns


def _cut(rows: Columns, start: int, stop: int | None = None) -> Columns:
    """Return a range of rows, without masks that are true everywhere."""
    parts = {name: column[start:stop] for name, column in rows.items()}
    return Columns(
        {name: column for name, column in parts.items() if name[0] != "_" or not bool(column.all())}
    )
