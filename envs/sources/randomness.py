"""Random numbers of loaders: every generator that a loader, its samplers or its data set hold is seeded by run and epoch.

| kept | how |
|---|---|
| random numbers of torch, numpy and Python, whether global or of a generator in an attribute, a closure or a global variable | seeded by run, epoch and batch, and set back for the caller |
| `set_epoch` of samplers, data sets and loaders | called with the number of the epoch |
| seeds of samplers, streams and loaders with `set_epoch`: whole numbers in attributes such as `seed` | replaced by a seed of the run while the loader is read |
| other numbers in attributes of a user's classes, such as a count of iterations | each run has its own, see `Counts` |

| refused | fix |
|---|---|
| samplers, iterables of batches, and subclasses of `DataLoader` with an `__iter__` of their own, that differ from one iteration to the next although all of this is the same | a generator in an attribute, a new list of indices in each iteration, or `set_epoch` |
| samplers, streams and loaders for training whose order follows their epoch, and not the run's seed | an attribute `seed`, from which they make their generator with the epoch; orders of which one is the beginning of the other are kept |
| samplers that can be iterated only once | a list |
| `in_order=False` of loaders with workers | leave it out |
"""

from __future__ import annotations

import functools
import random
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from antiphon.base.errors import require
from antiphon.envs.sources.source_errors import reading
from antiphon.nets.isolation.global_numbers import seeded_globally
from antiphon.nets.random import seed_for
from antiphon.nets.users.outlines import filled_cells

_MOST_OBJECTS = 2000
"""Objects of a loader that are searched, at most."""
_LONGEST = 256
"""Elements of a container that is searched, at most: longer ones hold data."""
_COMPARED = 1000
"""Indices, or batches of them, by which two iterations of a sampler are compared."""
_SEED = "seed"
"""End of the names of attributes from which samplers with `set_epoch` make their generators."""
_OF_TORCH = frozenset(
    (
        BatchSampler,
        DistributedSampler,
        RandomSampler,
        SequentialSampler,
        SubsetRandomSampler,
        WeightedRandomSampler,
    )
)
"""Samplers without randomness beyond their generators and epochs."""
_GLOBAL = (torch.default_generator, random.getstate.__self__, np.random.get_state.__self__)  # type: ignore[attr-defined]
_ATOMS = (type, types.ModuleType, Tensor, np.ndarray, np.generic, str, bytes, int, float, complex, type(None))


class Randomness:
    """What determines the order of a loader's examples: random generators, and objects that take the number of an epoch."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._generators: list[Any] = []
        self._with_epochs: list[Any] = []
        self._samplers: list[Any] = []
        for obj in _reachable(loader):
            if _is_generator(obj):
                self._generators.append(obj)
            elif callable(getattr(type(obj), "set_epoch", None)):
                self._with_epochs.append(obj)
            if isinstance(obj, DataLoader):
                self._samplers += [obj.sampler, obj.batch_sampler]
            elif isinstance(obj, Sampler):
                self._samplers.append(obj)
        ordering = [obj for obj in self._with_epochs if self._is_stream(obj) or isinstance(obj, Sampler)]
        self._seeds = [(obj, name) for obj in ordering for name in _seeds_of(obj)]
        self._begun: object = None
        """The epoch of a run that is set."""

    def _is_stream(self, obj: Any) -> bool:
        return obj is self._loader or isinstance(obj, IterableDataset)

    def epoch(self, seed: int, number: int = 0) -> EpochRandomness:
        """Return the random numbers of an epoch: `seed` is of run and epoch."""
        epoch = object()

        def begin() -> None:
            if self._begun is not epoch:
                for obj in self._with_epochs:
                    obj.set_epoch(number)
                self._begun = epoch

        return EpochRandomness(self._generators, self._seeds, seed, begin)

    def check(self, where: str, *, training: bool) -> None:
        """Raise a DataError if a sampler's order is not determined by its generators and the epoch, or not by the run's seed.

        Args:
            training: Whether its examples are trained on; others are shown in one order.
        """
        for sampler in self._samplers:
            if type(sampler) in _OF_TORCH or isinstance(sampler, list | tuple | range | None):
                continue
            name = type(sampler).__name__
            once = f"sampler: {name} can be iterated only once; pass list(…) of it"
            require(not isinstance(sampler, Iterator), where, once)

            def order(sampler: Any = sampler) -> list[Any]:
                return [_plain(index) for index in islice(iter(sampler), _COMPARED)]

            orders = [self._read(where, name, order) for _ in range(3)]
            differ = f"sampler: two iterations of {name} with the same seeds differ"
            fix = "keep its random generator in an attribute and shuffle a new list, or give it set_epoch(epoch)"
            require(orders[0] == orders[1] == orders[2], where, f"{differ}; {fix}")
            if training and self._with_epochs:
                self._check_seed(f"{where}: sampler", name, order)

    def check_streams(self, where: str, first_batch: Callable[[], Any]) -> None:
        """Raise a DataError if the first batch of a stream, or of an own loader, follows the epoch alone."""
        for obj in self._with_epochs:
            if self._is_stream(obj) and not isinstance(obj, DataLoader):
                self._check_seed(where, type(obj).__name__, lambda: _plain(first_batch()))
                return

    def _check_seed(self, where: str, name: str, order: Callable[[], Any]) -> None:
        """Raise a DataError if an order is the same for two seeds, but not for two epochs."""
        first, other_seed, other_epoch = (
            self._read(where, name, order, *which) for which in ((0, 0), (1, 0), (0, 1))
        )
        lists = isinstance(first, list) and isinstance(other_epoch, list)
        grows = lists and first[: len(other_epoch)] == other_epoch[: len(first)]
        alone = f"the order of {name} follows its epoch, but not the run's seed"
        fix = "make its generator from its epoch and an attribute seed (self.seed = 0)"
        require(first != other_seed or grows, where, f"{alone}; {fix}")

    def _read(self, where: str, name: str, order: Callable[[], Any], seed: int = 0, number: int = 0) -> Any:
        """Return an order in an epoch of a seed; DataError if it fails."""
        with reading(where, name), self.epoch(seed, number).active(seed):
            return order()


class EpochRandomness:
    """The random numbers of one epoch of a loader, in force only while it is read.

    Args:
        generators: Random generators, seeded at the beginning; their states are kept from one batch to the next.
        seeds: Objects, and their attributes with seeds.
        seed: Of run and epoch.
        begin: Called before a batch is read: sets the epoch where another one is set, because runs of one loader take turns.
    """

    def __init__(
        self,
        generators: Iterable[Any],
        seeds: Iterable[tuple[Any, str]],
        seed: int,
        begin: Callable[[], None],
    ) -> None:
        self._generators, self._seeds = list(generators), list(seeds)
        self._seed, self._begin = seed, begin
        self._states: list[Any] | None = None

    @contextmanager
    def active(self, seed: int) -> Iterator[None]:
        """Read a batch with global random numbers of `seed`; afterwards all of the caller's generators are as before."""
        with ExitStack() as stack:
            stack.enter_context(seeded_globally(seed))
            for number, generator in enumerate(self._generators):
                stack.callback(_set_state, generator, _state(generator))
                _seed(generator, seed_for(self._seed, "generator", str(number)))  # set_epoch may draw from it
            for obj, name in self._seeds:
                stack.callback(_set_attribute, obj, name, vars(obj).get(name))
            self._set_seeds()
            self._begin()
            self._set_seeds()  # set_epoch may have made another of the epoch
            for generator, state in zip(self._generators, self._states or (), strict=False):
                _set_state(generator, state)
            try:
                yield
            finally:
                self._states = [_state(generator) for generator in self._generators]

    def _set_seeds(self) -> None:
        for obj, name in self._seeds:
            setattr(obj, name, seed_for(self._seed, name) % 2**31)


@dataclass(eq=False)
class Reader:
    """One that iterates a loader: a run's environment, an evaluation, or what determines the loader's form."""

    counts: Mapping[str, int | float] = field(default_factory=dict)
    """Those that it has left, or begins with, while another one iterates the same loader; without one it begins as all do."""


class Counts:
    """Numbers in attributes of a user's loaders, samplers and data sets that reading changes, such as a count of iterations.

    What reading has never changed is a setting, which its owner may change at any time, for all who read. Objects of installed
    packages are left alone: they may read ahead, and count that. So are iterators, which do not begin anew.

    Args:
        loaders: Of all splits, which may hold the same data set; the one for training is the first.
    """

    def __init__(self, loaders: Iterable[Any]) -> None:
        again = [loader for loader in loaders if not isinstance(loader, Iterator)]
        reached = {id(obj): obj for loader in again for obj in _reachable(loader)}
        self._objects = [
            obj for obj in reached.values() if hasattr(obj, "__dict__") and _is_of_user(type(obj))
        ]
        self._reader: Reader | None = None
        self._first: dict[str, int | float | None] = {}
        """By object and attribute the numbers that reading has changed, as they were before; None: its class's counted."""

    def values(self) -> dict[str, int | float]:
        """Return the present counts, by object and attribute."""
        return {path: value for path, value in self._numbers().items() if path in self._first}

    def _numbers(self) -> dict[str, int | float]:
        return {
            f"{place}.{name}": number
            for place, obj in enumerate(self._objects)
            for name, value in vars(obj).items()
            if type(number := value.item() if isinstance(value, np.number) else value) in (bool, int, float)
        }

    def _set(self, counts: Mapping[str, int | float]) -> None:
        """Set counts that `values` returned, of these or equal objects; others are as they were before all reading."""
        present = self._numbers()
        for path in counts:
            self._first.setdefault(path, present.get(path))
        for path, first in self._first.items():
            place, _, name = path.partition(".")
            obj = self._objects[int(place)] if int(place) < len(self._objects) else None
            value = counts.get(path, first)
            if value is None:
                vars(obj).pop(name, None)
            elif present.get(path) != value and hasattr(obj, name):
                kind: Any = type(getattr(obj, name))
                vars(obj)[name] = kind(value) if issubclass(kind, np.number) else value

    @contextmanager
    def of(self, reader: Reader) -> Iterator[None]:
        """Read with the counts of a reader, and keep those of the one before."""
        if self._reader is not reader:
            if self._reader is not None:
                self._reader.counts = self.values()
            self._reader = reader
            self._set(reader.counts)
        before = self._numbers()
        try:
            yield
        finally:
            now = self._numbers()
            for path in {**before, **now}:
                if before.get(path) != now.get(path):
                    self._first.setdefault(path, before.get(path))


def _is_of_user(kind: type) -> bool:
    """Whether a class is neither Python's nor an installed package's."""
    module = sys.modules.get(kind.__module__)
    file = str(getattr(module, "__file__", None) or "")
    libraries = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    return kind.__module__ != "builtins" and not file.startswith(libraries) and "-packages" not in file


def _reachable(loader: Any) -> Iterator[Any]:
    """Yield the objects that a loader holds, nearest first, each once; not the elements of data."""
    seen: dict[int, Any] = {}
    queue = deque([loader])
    while queue and len(seen) < _MOST_OBJECTS:
        obj = queue.popleft()
        if id(obj) not in seen and not isinstance(obj, _ATOMS):
            seen[id(obj)] = obj
            yield obj
            queue += _parts(obj)


def _parts(obj: Any) -> Iterable[Any]:
    """Return what an object holds: elements, attributes, and the variables of its class's functions."""
    if isinstance(obj, np.random.Generator):
        return [obj.bit_generator]
    if _is_generator(obj):
        return []
    if isinstance(obj, list | tuple | set | frozenset | deque):
        return obj if len(obj) <= _LONGEST else []
    if isinstance(obj, Mapping) and type(obj).__module__ in ("builtins", "collections"):
        return obj.values() if len(obj) <= _LONGEST else []
    if isinstance(obj, types.FunctionType):
        named = [obj.__globals__.get(name) for name in obj.__code__.co_names]
        cells = [cell.cell_contents for cell in filled_cells(obj)]
        return [*cells, *(obj.__defaults__ or ()), *(value for value in named if _is_random(value))]
    if isinstance(obj, types.MethodType):
        return [obj.__self__, obj.__func__]
    if isinstance(obj, functools.partial):
        return [obj.func, obj.args, obj.keywords]
    held = list(getattr(obj, "__dict__", {}).values())
    for kind in type(obj).__mro__:
        held += [getattr(obj, name, None) for name in getattr(kind, "__slots__", ()) if name[:2] != "__"]
        if not kind.__module__.startswith(("torch.", "builtins", "typing")):
            held += [
                value
                for value in vars(kind).values()
                if _is_random(value) or isinstance(value, types.FunctionType)
            ]
    return held


def _seeds_of(obj: Any) -> list[str]:
    """Return the attributes of an object, or of its class, that are seeds: whole numbers."""
    held: dict[str, Any] = {}
    for kind in reversed(type(obj).__mro__):
        held |= {} if kind.__module__.startswith("torch.") else vars(kind)
    held |= getattr(obj, "__dict__", {})
    names = sorted(name for name in held if name.lower().endswith(_SEED)) if hasattr(obj, "__dict__") else []
    return [name for name in names if type(held[name]) is int or isinstance(held[name], np.integer)]


def _set_attribute(obj: Any, name: str, value: Any) -> None:
    """Set an attribute, or for None delete it, so that its class's counts."""
    if value is None:
        delattr(obj, name)
    else:
        setattr(obj, name, value)


def _is_random(obj: Any) -> bool:
    """Whether an object is a random generator, or numpy's front of one."""
    return _is_generator(obj) or isinstance(obj, np.random.Generator)


def _is_generator(obj: Any) -> bool:
    """Whether an object is a random generator with a state, and not one of the global ones."""
    kinds = (torch.Generator, random.Random, np.random.RandomState, np.random.BitGenerator)
    return isinstance(obj, kinds) and not isinstance(obj, random.SystemRandom) and obj not in _GLOBAL


def _state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.state if isinstance(generator, np.random.BitGenerator) else generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = state
    else:
        generator.set_state(state)


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = type(generator)(seed).state
    else:
        generator.seed(seed % 2**32)


def _plain(index: Any) -> Any:
    """Return an index or a batch in a form that can be compared."""
    if hasattr(index, "tolist"):
        return index.tolist()
    if isinstance(index, Mapping):
        return [_plain(item) for item in index.values()]
    return [_plain(item) for item in index] if isinstance(index, list | tuple) else index
