"""Environments from loaders: batches of a `torch.utils.data.DataLoader`, each a batch of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.utils.data import DataLoader

from antiphon.base.errors import DataError, require
from antiphon.envs.base import SeededEnv, Values, check_split
from antiphon.envs.data import ExampleOptions, Source, named_parts, signals_of
from antiphon.envs.options import Episode
from antiphon.nets.random import seed_for, torch_seeded

Rows = dict[str, Tensor]
"""The examples of a batch, by name of their part."""


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
    """Make an environment from a loader: a `torch.utils.data.DataLoader`, or another iterable of batches.

    **A loader's batch is the run's batch**: give it `batch_size` equal to `training.batch`, and `drop_last=True`. Torch's generator
    is seeded by run, epoch and batch around each batch, and restored after it; a resumed run iterates the loader to its place. So
    its batches must be the same for the same seed: leave out a `generator` of its own and persistent workers.

    Args:
        loader: Its batches are tuples in the order of `names`, or dicts with these keys.
        names: Names of a batch's parts, and of the signals; None: its keys, or else image and label.
        test: A loader for testing.
        validation: A loader for validation.
        classes: Number of classes of each part of whole numbers: a loader is not read in advance.
        training_only, hold, episode: See `from_tensors`.

    Returns:
        The `env` of an `antiphon.Scenario`.

    Raises:
        DataError: A loader is empty, its batches do not have the parts `names`, or an error of `from_tensors`.
        ScenarioError: An invalid hold or kind of episode.
    """
    settings: dict[str, Any] = {"training_only": training_only, "classes": classes}
    given = {"train": loader, "validation": validation, "test": test}
    loaders = {split: one for split, one in given.items() if one is not None}
    return LoaderSource(loaders, names, ExampleOptions(**settings, hold=hold, episode=episode))


class LoaderSource(Source):
    obstacle_to_copies = "a loader may return different batches in different processes"

    def __init__(
        self, loaders: Mapping[str, Iterable[Any]], names: Sequence[str] | None, options: ExampleOptions
    ) -> None:
        self.loaders, self._names, self.options = loaders, names, options
        columns = next(self.passes("train", 0, 0), None)
        if columns is None:
            raise DataError("from_loader: the loader has no batches; add examples")
        signals, _, _ = signals_of(columns, options, "from_loader")
        for name, signal in signals.items():
            fix = f"pass their number, classes={{'{name}': …}}: a loader is not read in advance"
            counted = signal.classes is None or name in (options.classes or {})
            require(counted, "from_loader", f"{name}: whole numbers are classes; {fix}")
        counts = {split: rows for split in loaders if (rows := self._count(split)) is not None}
        super().__init__(options.described(signals, counts), partial(LoaderStream, source=self))

    def passes(self, split: str, seed: int, epoch: int) -> Iterator[Rows]:
        """Yield the batches of an epoch, each a function of seed, epoch and its number."""
        root, number = seed_for(seed, "loader", split, str(epoch)), 0
        with torch_seeded(root):
            iterator = iter(self.loaders[split])
        while True:
            with torch_seeded(seed_for(root, str(number))):
                batch = next(iterator, None)
            if batch is None:
                return
            yield named_parts(batch, self._names, f"from_loader: {split}, batch {number}")
            number += 1

    def _count(self, split: str) -> int | None:
        """Return the examples of a pass; None: a training loader does not say how many there are."""
        loader = self.loaders[split]
        if isinstance(loader, DataLoader) and loader.batch_size:
            try:
                return len(loader) * loader.batch_size if loader.drop_last else len(loader.sampler)  # type: ignore[arg-type]
            except TypeError:  # of an IterableDataset
                pass
        if split == "train":
            return None
        return sum(map(_size, self.passes(split, 0, 0)))


class LoaderStream(SeededEnv):
    """A stream of a loader's examples, each repeated for `hold` steps.

    The batches of the loader follow one another, one epoch after the other. Where `episode_steps` is the hold, every environment
    terminates with its example.
    """

    def __init__(self, num_envs: int, source: LoaderSource, split: str, **settings: Any) -> None:
        check_split(split, tuple(source.loaders))
        super().__init__(num_envs, source.description, Discrete(1), **settings)
        self.split, self._source = split, source
        self.epoch_examples = source.description.example_counts.get(split)
        self._epoch = self._taken = 0
        """The present epoch, and the number of batches taken from it."""
        self._batches: Iterator[Rows] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        if seed is not None:
            self._epoch, self._taken, self._batches = 0, 0, None
        return super().reset(seed=seed)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"epoch": self._epoch, "taken": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state, and iterate the loader to its place."""
        self._seed, self._epoch, self._taken = state["seed"], int(state["epoch"]), int(state["taken"]) - 1
        self._batches = self._pass()
        for _ in range(self._taken):
            next(self._batches)
        super().load_state_dict(state)

    def batches(self, split: str, size: int) -> Iterator[Rows]:
        check_split(split, self.splits)
        rest: Rows = {}
        for rows in self._source.passes(split, 0, 0):
            rest = {name: torch.cat([rest[name], rows[name]]) for name in rows} if rest else rows
            while _size(rest) >= size:
                yield self._signals({name: column[:size] for name, column in rest.items()}, split)
                rest = {name: column[size:] for name, column in rest.items()}
        if rest and _size(rest):
            yield self._signals(rest, split)

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the loader's processes: no reference to its iterator is left."""
        self._batches = None

    def _pass(self) -> Iterator[Rows]:
        assert self._seed is not None
        return self._source.passes(self.split, self._seed, self._epoch)

    def _open(self) -> None:
        self._batches = self._batches or self._pass()
        rows = next(self._batches, None)
        if rows is None:
            self._epoch, self._taken = self._epoch + 1, 0
            self._batches = self._pass()
            rows = next(self._batches, None)
        if rows is None:
            raise DataError("env: the loader has ended; pass a DataLoader or a list of batches")
        self._taken += 1
        fix = f"give the DataLoader batch_size={self.num_envs} and drop_last=True"
        other = f"{self.num_envs}, but the loader's batch has {_size(rows)}; {fix}"
        require(_size(rows) == self.num_envs, "training.batch", other)
        self._shown = self._divide(self._signals(rows, self.split))

    def _signals(self, rows: Rows, split: str) -> Rows:
        values: Rows = {}
        _, columns, divisors = signals_of(rows, self._source.options, f"from_loader: {split}")
        for name, column in columns.items():
            if name.removeprefix("_") in self.requested:
                floats = name in self.signals and not self.signals[name].classes
                value = column.to(self.device, self.dtype if floats else column.dtype)
                values[name] = value / divisors[name] if name in divisors else value
        return values


def _size(rows: Rows) -> int:
    return len(next(iter(rows.values())))
