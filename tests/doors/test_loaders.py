"""The door of loaders: the order of examples follows the run's seed and the epoch, whatever holds the generator."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from antiphon import envs
from antiphon.errors import DataError

COUNT, BATCH = 40, 10
DATA = TensorDataset(torch.arange(float(COUNT))[:, None])
OF_MODULE = np.random.default_rng(7)


def torchs() -> torch.Generator:
    return torch.Generator().manual_seed(3)


class Own(Sampler[int]):
    """Draws its order with a function of a generator that it holds."""

    def __init__(self, rng: Any = None, draw: Callable[[Any], Any] | None = None) -> None:
        self.rng, self.draw = rng, draw

    def __len__(self) -> int:
        return COUNT

    def __iter__(self) -> Iterator[int]:
        assert self.draw is not None
        return iter([int(index) for index in self.draw(self.rng)])


class OfClass(Own):
    generator = np.random.default_rng(1)

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator.permutation(COUNT).tolist())


class OfModule(Own):
    def __iter__(self) -> Iterator[int]:
        return iter(OF_MODULE.permutation(COUNT).tolist())


class WithEpoch(Own):
    """As `DistributedSampler`: a generator of seed and epoch."""

    seed = epoch = 0

    def __init__(self) -> None:
        self.seed = 5

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng(self.seed + self.epoch).permutation(COUNT).tolist())


class OfEpoch(Own):
    """As timm's `RepeatAugSampler`: a generator of the epoch alone."""

    epoch = 0

    def __init__(self) -> None: ...

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(COUNT, generator=torch.Generator().manual_seed(self.epoch)).tolist())


class OtherSeed(OfEpoch):
    _shuffle_seed = np.int64(5)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((int(self._shuffle_seed), self.epoch))
        return iter(rng.permutation(COUNT).tolist())


class SeedOfEpoch(OfEpoch):
    """Forgets its seed when it learns of the epoch."""

    def __init__(self) -> None:
        self.seed = 42

    def set_epoch(self, epoch: int) -> None:
        self.seed = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng(self.seed).permutation(COUNT).tolist())


class Distributed(DistributedSampler[Any]):
    """Has a seed, and does not use it."""

    def __init__(self) -> None:
        super().__init__(DATA, num_replicas=1, rank=0)

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(COUNT, generator=torch.Generator().manual_seed(self.epoch)).tolist())


class DrawnBefore(OfEpoch):
    """Draws its order when it learns of the epoch."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(4)

    def set_epoch(self, epoch: int) -> None:
        self.order = self.rng.permutation(COUNT).tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)


class Growing(OfEpoch):
    """Begins with the easiest examples."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(min(BATCH * (self.epoch + 1), COUNT)))


class OwnBatches(Own):
    def __len__(self) -> int:
        return COUNT // BATCH

    def __iter__(self) -> Iterator[Any]:
        order = list(RandomSampler(DATA, generator=self.rng))
        yield from (order[start : start + BATCH] for start in range(0, COUNT, BATCH))


class Batches:
    """A loader of one's own, with a generator in an attribute."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __iter__(self) -> Iterator[Any]:
        order = self.rng.permutation(COUNT)
        yield from (DATA[order[start : start + BATCH].tolist()] for start in range(0, COUNT, BATCH))


class Stream(IterableDataset[Any]):
    def __init__(self) -> None:
        self.rng = random.Random(0)

    def __iter__(self) -> Iterator[Any]:
        order = self.rng.sample(range(COUNT), COUNT)
        yield from (DATA[index] for index in order)


class StreamOfSeed(IterableDataset[Any]):
    def __init__(self) -> None:
        self.seed, self.epoch = 0, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        yield from (DATA[index] for index in np.random.default_rng(self.seed + self.epoch).permutation(COUNT))


class StreamOfEpoch(IterableDataset[Any]):
    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        yield from (DATA[index] for index in np.random.default_rng(self.epoch).permutation(COUNT))


def of(sampler: Any, **options: Any) -> Callable[[], Any]:
    return lambda: DataLoader(DATA, BATCH, sampler=sampler(), **options)


def in_closure() -> Any:
    rng = np.random.default_rng(2)
    return Own(None, lambda _: rng.permutation(COUNT))


FOLLOWING: dict[str, Callable[[], Any]] = {
    "shuffle": lambda: DataLoader(DATA, BATCH, shuffle=True),
    "shuffle with a generator": lambda: DataLoader(DATA, BATCH, shuffle=True, generator=torchs()),
    "RandomSampler": of(lambda: RandomSampler(DATA, generator=torchs())),
    "with replacement": of(lambda: RandomSampler(DATA, True, COUNT, torchs())),
    "global generator": of(lambda: RandomSampler(DATA, generator=torch.default_generator)),
    "WeightedRandomSampler": of(lambda: WeightedRandomSampler([1.0] * COUNT, COUNT, generator=torchs())),
    "SubsetRandomSampler": of(lambda: SubsetRandomSampler(range(COUNT), torchs())),
    "DistributedSampler": of(lambda: DistributedSampler(DATA, num_replicas=1, rank=0)),
    "BatchSampler": lambda: DataLoader(
        DATA, batch_sampler=BatchSampler(RandomSampler(DATA, generator=torchs()), BATCH, False)
    ),
    "own batches": lambda: DataLoader(DATA, batch_sampler=OwnBatches(torchs())),
    "own, of torch": of(lambda: Own(torchs(), lambda rng: torch.randperm(COUNT, generator=rng))),
    "own, of random": of(lambda: Own(random.Random(1), lambda rng: rng.sample(range(COUNT), COUNT))),
    "own, of numpy": of(lambda: Own(np.random.default_rng(1), lambda rng: rng.permutation(COUNT))),
    "own, of an older numpy": of(lambda: Own(np.random.RandomState(1), lambda rng: rng.permutation(COUNT))),
    "own, global": of(lambda: Own(None, lambda _: random.sample(range(COUNT), COUNT))),
    "in a closure": of(in_closure),
    "of a class": of(OfClass),
    "of a module": of(OfModule),
    "seed and epoch": of(WithEpoch),
    "seed of a class": of(OtherSeed),
    "seed of the epoch": of(SeedOfEpoch),
    "drawn in set_epoch": of(DrawnBefore),
    "own loader": Batches,
    "stream of seed and epoch": lambda: DataLoader(StreamOfSeed(), BATCH),
    "data set": lambda: DataLoader(Stream(), BATCH),
}


def order(source: Any, seed: int, start: Any = None) -> list[int]:
    """Return the examples of two epochs, or those after a state."""
    env = source.make(batch=BATCH)
    if start is not None:
        env.load_state_dict(start)
    rows = [env.reset(seed=seed)[0]["x"]] if start is None else []
    rows += [
        env.step(None)[0]["x"] for _ in range(2 * COUNT // BATCH - (start is None) - (start is not None) * 5)
    ]
    return [int(number) for number in torch.cat(rows)]


@pytest.mark.cases(2)
@pytest.mark.parametrize("kind", FOLLOWING)
def test_the_order_follows_seed_and_epoch_and_goes_on_where_it_was_saved(kind: str) -> None:
    make = FOLLOWING[kind]
    source = envs.from_loader(make(), ("x",))
    first = order(source, 0)
    assert first == order(source, 0) == order(envs.from_loader(make(), ("x",)), 0)
    assert first != order(source, 1)
    assert first[:COUNT] != first[COUNT:]
    env = source.make(batch=BATCH)
    env.reset(seed=0)
    for _ in range(4):
        env.step(None)
    assert order(envs.from_loader(make(), ("x",)), 0, env.state_dict()) == first[5 * BATCH :]


def test_two_runs_of_one_generator_do_not_disturb_one_another_nor_the_caller() -> None:
    generator = torchs()
    source = envs.from_loader(
        DataLoader(DATA, BATCH, sampler=RandomSampler(DATA, True, COUNT, generator)), ("x",)
    )
    alone = order(source, 0)
    both = [source.make(batch=BATCH) for _ in range(2)]
    seen: list[list[int]] = [[], []]
    for step in range(2 * COUNT // BATCH):
        for seed, env in enumerate(both):
            shown = env.reset(seed=seed)[0] if step == 0 else env.step(None)[0]
            seen[seed] += [int(number) for number in shown["x"]]
    assert seen == [alone, order(source, 1)]
    assert torch.equal(generator.get_state(), torchs().get_state())


class WithNoise(TensorDataset):
    """Shows the epoch with each example."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> Any:
        return (self.tensors[0][index] + 100 * self.epoch,)


def test_epochs_of_two_runs_of_one_loader_are_each_its_own() -> None:
    source = envs.from_loader(DataLoader(WithNoise(*DATA.tensors), BATCH), ("x",))
    ahead, behind = (source.make(batch=BATCH) for _ in range(2))
    ahead.reset(seed=0)
    for _ in range(COUNT // BATCH):
        late = ahead.step(None)[0]["x"]
    early = behind.reset(seed=0)[0]["x"]
    shown = [late, early, ahead.step(None)[0]["x"], behind.step(None)[0]["x"]]
    assert [int(x[0]) // 100 for x in shown] == [1, 0, 1, 0]


def test_an_order_that_grows_with_the_epoch_is_kept() -> None:
    env = envs.from_loader(DataLoader(DATA, BATCH, sampler=Growing()), ("x",)).make(batch=BATCH)
    rows = [env.reset(seed=1)[0]["x"], *(env.step(None)[0]["x"] for _ in range(5))]
    assert [int(x[0]) // BATCH for x in rows] == [0, 0, 1, 0, 1, 2]
    validation = {"validation": DataLoader(DATA, BATCH, sampler=OfEpoch())}  # in one order whatever the seed
    assert envs.from_loader(DataLoader(DATA, BATCH), ("x",), **validation)


class InPlace(Own):
    """Shuffles its order again and again."""

    def __init__(self) -> None:
        self.order = list(range(COUNT))

    def __iter__(self) -> Iterator[int]:
        random.shuffle(self.order)
        return iter(self.order)


class Counting(Own):
    """Counts its epochs itself."""

    epoch = 0

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        return iter(np.random.default_rng(self.epoch).permutation(COUNT).tolist())


class Longer(IterableDataset[Any]):
    """Shows ten more examples in each epoch, which it counts itself."""

    def __init__(self) -> None:
        self.epochs = 0

    def __iter__(self) -> Iterator[Any]:
        self.epochs += 1
        return iter(DATA.tensors[0][: 10 * self.epochs])


class Louder(TensorDataset):
    """Adds the number of examples that it has shown."""

    shown: int | np.int64 = 0

    def __getitem__(self, index: int) -> Any:
        self.shown += 1
        return (self.tensors[0][index] + self.shown,)


class OfNumpy(Louder):
    """Counts with a number of numpy."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        super().__init__(*tensors)
        self.shown = np.int64(0)

    def __getitem__(self, index: int) -> Any:
        assert isinstance(self.shown, np.int64)
        return super().__getitem__(index)


class Shifted(TensorDataset):
    """Adds a number that its owner sets, and that reading leaves as it is."""

    def __init__(self, *tensors: torch.Tensor, shift: int = 0) -> None:
        super().__init__(*tensors)
        self.shift = shift

    def __getitem__(self, index: int) -> Any:
        return (self.tensors[0][index] + self.shift,)


def test_what_a_data_set_does_not_count_is_its_owners() -> None:
    """As in a plain loop: between runs, after an evaluation, and where a run is resumed with another one."""
    dataset = Shifted(*DATA.tensors)
    source = envs.from_loader(DataLoader(dataset, BATCH), ("x",), test=DataLoader(dataset, BATCH))
    for dataset.shift in (100, 200):
        env = source.make(batch=BATCH)
        assert int(env.reset(seed=0)[0]["x"][0]) == dataset.shift
    next(env.batches("test", BATCH))
    dataset.shift = 300
    assert int(env.step(None)[0]["x"][0]) == 310
    assert int(next(env.batches("test", BATCH))["x"][0]) == 300
    changed = DataLoader(Shifted(*DATA.tensors, shift=400), BATCH)
    resumed = envs.from_loader(changed, ("x",)).make(batch=BATCH)
    resumed.load_state_dict(env.state_dict())
    with pytest.warns(UserWarning, match="returns other batches than when the state was saved"):
        assert int(resumed.step(None)[0]["x"][0]) == 420


COUNTING: dict[str, tuple[Callable[[], Any], list[int]]] = {
    "epochs": (lambda: DataLoader(Longer(), BATCH), [0, 0, 10, 0, 10, 20]),
    "examples": (lambda: DataLoader(Louder(*DATA.tensors), BATCH), [1, 21, 41, 61, 41, 61]),
    "of_numpy": (lambda: DataLoader(OfNumpy(*DATA.tensors), BATCH), [1, 21, 41, 61, 41, 61]),
}


@pytest.mark.parametrize("kind", COUNTING)
def test_what_a_data_set_counts_is_the_runs_as_in_a_plain_loop(kind: str) -> None:
    make, expected = COUNTING[kind]
    plain = make()
    loader = make()
    source = envs.from_loader(loader, ("x",), test=DataLoader(loader.dataset, BATCH))
    rows = [env_rows(source, 6), env_rows(source, 6)]  # another run begins as this one did
    batches = [batch for _ in range(3) for batch in (b[0] if isinstance(b, list) else b for b in plain)]
    assert torch.equal(torch.cat(rows[0]), torch.cat(batches)[: 6 * BATCH])
    assert torch.equal(torch.cat(rows[1]), torch.cat(rows[0]))
    assert [int(x[0]) for x in rows[0]] == expected
    env = source.make(batch=BATCH)
    env.reset(seed=0)
    for _ in range(2):
        env.step(None)
    for split in env.splits:  # an evaluation counts for itself
        assert int(next(env.batches(split, BATCH))["x"][0]) == expected[0]
    other = envs.from_loader(make(), ("x",)).make(batch=BATCH)
    other.load_state_dict(env.state_dict())
    beside = source.make(batch=BATCH)  # such as a fork, which takes turns with the run
    beside.load_state_dict(env.state_dict())
    for first in expected[3:]:
        assert [int(reader.step(None)[0]["x"][0]) for reader in (env, other, beside)] == [first] * 3


def env_rows(source: Any, steps: int) -> list[torch.Tensor]:
    """Return what a run of a source shows."""
    env = source.make(batch=BATCH)
    return [env.reset(seed=0)[0]["x"], *(env.step(None)[0]["x"] for _ in range(steps - 1))]


class FreshBatches:
    def __iter__(self) -> Iterator[Any]:
        yield DATA[np.random.default_rng().permutation(COUNT).tolist()]


class Unseeded(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from (DATA[index] for index in np.random.default_rng().permutation(COUNT))


class Reshuffled(DataLoader[Any]):
    """Shuffles by a generator that nobody holds."""

    def __iter__(self) -> Any:
        rows = torch.cat([batch[0] for batch in super().__iter__()])
        return iter([[rows[np.random.default_rng().permutation(COUNT)]]])


class Repeating(DataLoader[Any]):
    """Goes on where the last epoch ended, as loaders that keep their workers do."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.endless = itertools.cycle(list(super().__iter__()))

    def __iter__(self) -> Any:
        return itertools.islice(self.endless, 3)


TWO = "from_loader: sampler: two iterations of {} with the same seeds differ; keep its random generator in an attribute"
EPOCH = "follows its epoch, but not the run's seed; make its generator from its epoch and an attribute seed (self.seed = 0)"
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "unseeded": (of(lambda: Own(None, lambda _: np.random.default_rng().permutation(COUNT))), TWO.format("Own")),
    "of the system": (of(lambda: Own(None, lambda _: random.SystemRandom().sample(range(COUNT), COUNT))), TWO.format("Own")),
    "in place": (of(InPlace), TWO.format("InPlace")),
    "counting": (of(Counting), TWO.format("Counting")),
    "once": (of(lambda: iter(range(COUNT))), "from_loader: sampler: range_iterator can be iterated only once; pass list("),
    "of the epoch": (of(OfEpoch), f"from_loader: sampler: the order of OfEpoch {EPOCH}"),
    "a seed of no use": (of(Distributed), f"from_loader: sampler: the order of Distributed {EPOCH}"),
    "stream of the epoch": (lambda: DataLoader(StreamOfEpoch(), BATCH), f"from_loader: the order of StreamOfEpoch {EPOCH}"),
    "unseeded stream": (lambda: DataLoader(Unseeded(), BATCH), "from_loader: two iterations of Unseeded with the same seeds"),
    "own iteration": (lambda: Reshuffled(DATA, BATCH), "from_loader: two iterations of Reshuffled with the same seeds differ"),
    "going on": (lambda: Repeating(DATA, BATCH), "from_loader: two iterations of Repeating with the same seeds differ"),
    "out of order": (
        lambda: DataLoader(DATA, BATCH, num_workers=1, in_order=False),
        "from_loader: in_order=False: batches come as workers finish them, in another order in each run; leave it out",
    ),
    "own loader": (FreshBatches, "from_loader: two iterations of FreshBatches with the same seeds differ; keep its random"),
}  # fmt: skip


class Broken(TensorDataset):
    """Has items that its loader cannot read, or not stack."""

    def __init__(self, kind: str) -> None:
        super().__init__(*DATA.tensors)
        self.kind = kind

    def __getitem__(self, index: int) -> Any:
        if self.kind == "broken":
            raise OSError("broken file")
        return (Image.new("L", (2, 2)) if self.kind == "picture" else torch.ones(1 + index % 2),)


FAILURES = {
    "picture": "PIL.Image.Image'>; make tensors in the data set, such as by transform=torchvision.transforms.PILToTensor()",
    "ragged": "[1] at entry 0 and [2] at entry 1; make them equal, or give the DataLoader a collate_fn that pads them",
    "broken": "from_loader: DataLoader failed: OSError: broken file",
}


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", FAILURES)
def test_an_error_of_a_loader_or_data_set_is_one_line_with_its_place(kind: str, workers: int) -> None:
    loader = DataLoader(Broken(kind), BATCH, num_workers=workers)
    with pytest.raises(DataError) as caught:
        envs.from_loader(loader, ("x",))
    assert FAILURES[kind] in str(caught.value)
    assert "\n" not in str(caught.value)
    if kind == "broken":
        with pytest.raises(DataError, match=r"^from_dataset\[0\]: Broken failed: OSError: broken file$"):
            envs.from_dataset(Broken(kind), ("x",))


@pytest.mark.parametrize("kind", REFUSED)
def test_an_order_that_cannot_be_seeded_is_refused_by_name(kind: str) -> None:
    make, line = REFUSED[kind]
    with pytest.raises(DataError) as caught:
        envs.from_loader(make(), ("x",))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


class Named(NamedTuple):
    """Parts in another order than the names'."""

    label: torch.Tensor
    x: torch.Tensor


@dataclass
class Held:
    label: torch.Tensor
    x: torch.Tensor


PARTS = torch.arange(COUNT) % 3, DATA.tensors[0]
BY_NAME: dict[str, Any] = {
    "named tuple": Named(*PARTS),
    "dataclass": Held(*PARTS),
    "dict": {"label": PARTS[0], "x": PARTS[1]},
    "tuple": (PARTS[1], PARTS[0]),
}


@pytest.mark.parametrize("kind", BY_NAME)
def test_parts_are_read_by_the_names_that_a_batch_gives_them(kind: str) -> None:
    for names in (("x", "label"), None):
        if names is None and kind == "tuple":
            continue
        env = envs.from_loader([BY_NAME[kind]], names, classes={"label": 3}).make(batch=COUNT)
        observed, info = env.reset(seed=0)
        assert torch.equal(observed["x"], PARTS[1])
        assert torch.equal(info["label"], PARTS[0])


def test_fields_may_be_renamed_and_not_taken_for_one_another() -> None:
    pairs = [Named(*PARTS)]
    assert [*envs.from_loader(pairs, ("y", "z"), classes={"y": 3}).description.signals] == ["y", "z"]
    with pytest.raises(DataError, match=r"^from_loader: no 'y'; known: label, x"):
        envs.from_loader(pairs, ("x", "y"))
    items = [Named(label, x) for label, x in zip(*PARTS, strict=True)]
    source = envs.from_dataset(items, ("x", "label"))
    assert source.description.signals["x"].classes is None
    assert source.description.signals["label"].classes == 3


def test_a_batch_of_one_part_needs_no_tuple() -> None:
    for batch in (DATA.tensors[0], DATA.tensors[0].numpy()):
        shown = envs.from_loader([batch], ("x",)).make(batch=COUNT).reset(seed=0)[0]["x"]
        assert torch.equal(shown, DATA.tensors[0])


class Unequal(OwnBatches):
    """Batches of unequal sizes, and a shorter last one."""

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[Any]:
        order = list(RandomSampler(DATA, generator=self.rng))
        yield from (order[start : start + 7] for start in range(0, COUNT, 7))


COUNTED: dict[str, tuple[Callable[[], Any], int | None]] = {
    "torch's": (lambda: BatchSampler(RandomSampler(DATA), 7, False), COUNT),
    "without the rest": (lambda: BatchSampler(RandomSampler(DATA), 7, True), 35),
    "own": (lambda: Unequal(torchs()), COUNT),
    "without a length": (lambda: BatchSampler(itertools.repeat(0), 7, False), None),
}


@pytest.mark.parametrize("kind", COUNTED)
def test_a_sampler_of_batches_has_the_epochs_that_it_counts(kind: str) -> None:
    make, count = COUNTED[kind]
    source = envs.from_loader(DataLoader(DATA, batch_sampler=make()), ("x",))
    assert source.description.example_counts.get("train") == count


class Miscounted(OwnBatches):
    """A sampler, of examples or of batches, with a length that it does not keep."""

    def __init__(self, rng: torch.Generator, length: int, batches: bool) -> None:
        super().__init__(rng)
        self.length, self.batches = length, batches

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(COUNT, generator=self.rng).tolist()
        yield from ((order[start : start + 10] for start in range(0, COUNT, 10)) if self.batches else order)


@pytest.mark.parametrize(("batches", "right"), [(False, COUNT), (True, 4)])
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_a_sampler_that_does_not_keep_its_length_has_no_epochs(batches: bool, right: int, off: int) -> None:
    sampler: Any = Miscounted(torchs(), right + off, batches)
    by = {"batch_sampler": sampler} if batches else {"batch_size": BATCH, "sampler": sampler}
    source = envs.from_loader(DataLoader(DATA, **by), ("x",), test=DataLoader(DATA, **by))
    counts = {"test": COUNT} if off else {"train": COUNT, "test": COUNT}
    assert source.description.example_counts == counts


def test_values_beyond_the_type_of_the_run_are_refused() -> None:
    data = TensorDataset(DATA.tensors[0].double() * 1e38)
    source = envs.from_loader(DataLoader(data, BATCH), ("x",))
    assert source.make(batch=COUNT, dtype=torch.float64).reset(seed=0)[0]["x"].max() == 39e38
    line = r"^env: x: some values are too large for torch.float32; scale them, or run in float64$"
    with pytest.raises(DataError, match=line):
        source.make(batch=COUNT).reset(seed=0)


def test_a_test_loader_that_drops_all_it_has_is_refused() -> None:
    short = DataLoader(DATA, COUNT + 1, drop_last=True)
    line = "^from_loader: test: the loader has no examples; leave it out, or drop_last=True$"
    with pytest.raises(DataError, match=line):
        envs.from_loader(DataLoader(DATA, BATCH), ("x",), test=short)


class ItsOwnIterator(IterableDataset[Any]):
    """Has one place in its data, whoever iterates it."""

    def __iter__(self) -> Any:
        self.place = 0
        return self

    def __next__(self) -> Any:
        if self.place == COUNT:
            raise StopIteration
        self.place += 1
        return DATA[self.place - 1]


@pytest.mark.parametrize("calls", [1, 2])
def test_two_runs_do_not_take_batches_from_one_another(calls: int) -> None:
    stream = ItsOwnIterator()
    sources = [envs.from_loader(DataLoader(stream, BATCH), ("x",)) for _ in range(calls)]
    first, second = (source.make(batch=BATCH) for source in (sources[0], sources[-1]))
    first.reset(seed=0)
    assert int(first.step(None)[0]["x"][0]) == BATCH
    second.reset(seed=0)
    line = "^from_loader: train, batch 2: another run has begun to iterate ItsOwnIterator, whose __iter__ returns itself; return"
    with pytest.raises(DataError, match=line):
        first.step(None)
    assert [int(second.step(None)[0]["x"][0]) for _ in range(4)] == [10, 20, 30, 0]


def test_an_iterator_has_one_reader_however_often_it_is_given() -> None:
    batches = iter([{"x": DATA.tensors[0]}] * 4)
    with pytest.warns(UserWarning, match="can be iterated only once"):
        first, second = (envs.from_loader(batches, ("x",)) for _ in range(2))
    first.make(batch=BATCH)
    with pytest.raises(DataError, match="another simulation already reads its iterator"):
        second.make(batch=BATCH)
