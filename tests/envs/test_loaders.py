"""Loaders as environments: a loader's batch is the run's; seeded, resumed, evaluated; and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    TensorDataset,
)

from antiphon import Scenario, Simulation
from antiphon.envs import check_vector_env, from_loader
from antiphon.errors import AntiphonError
from tests.engine.scenes import CLASSIFY, scenario_of

COUNT, BATCH = 20, 4
NUMBERS = torch.arange(COUNT).float().unsqueeze(1)
LABELS = torch.arange(COUNT) % 3
CLASSES = {"label": 3}
DATA = TensorDataset(NUMBERS, LABELS)
BATCHES = [{"x": NUMBERS[i : i + BATCH], "label": LABELS[i : i + BATCH]} for i in range(0, COUNT, BATCH)]


class Augmented(Dataset[Any]):
    """Numbers with noise: the number is what is before the point."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return index + torch.rand(1), index % 3


class Endless(IterableDataset[Any]):
    """A stream without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(zip(NUMBERS, LABELS, strict=True))


class Stateful:
    """Batches with a state, as torchdata's StatefulDataLoader has one; its first batches are never read again."""

    def __init__(self) -> None:
        self.next, self.read = 0, 0

    def __iter__(self) -> Iterator[Any]:
        while self.next < len(BATCHES):
            self.next, self.read = self.next + 1, self.read + 1
            batch = BATCHES[self.next - 1]
            yield batch["x"] + torch.rand(BATCH, 1), batch["label"]
        self.next = 0

    def state_dict(self) -> dict[str, Any]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.next = state["next"]


def loader(data: Any = DATA, **options: Any) -> Any:
    options = {"batch_size": BATCH, "shuffle": not isinstance(data, Endless), **options}
    return from_loader(DataLoader(data, **options), ("x", "label"), classes=CLASSES, test=BATCHES)


LOADERS = {
    "plain": loader,
    "augmented": lambda: loader(Augmented()),
    "workers": lambda: loader(Augmented(), num_workers=1, generator=torch.Generator().manual_seed(5)),
    "persistent": lambda: loader(num_workers=1, persistent_workers=True),
    "generator": lambda: loader(generator=torch.Generator()),
    "sampler": lambda: loader(sampler=RandomSampler(DATA, generator=torch.Generator()), shuffle=False),
    "distributed": lambda: loader(sampler=DistributedSampler(DATA, 1, 0), shuffle=False),
    "stateful": lambda: from_loader(Stateful(), ("x", "label"), classes=CLASSES, test=BATCHES),
}


def scene(env: Any, batch: int = BATCH) -> Scenario:
    """An eye and a mind, a step apart."""
    agents = {"eye": {"observes": ["x"]}, "mind": {"objective": CLASSIFY}}
    channel = {"from": "eye", "to": "mind", "size": 2, "norm": "none", "link": {"delay": 1}}
    return scenario_of(agents, [channel], env, batch=batch, steps=20)


def shown(simulation: Simulation, steps: int) -> torch.Tensor:
    """What the coming steps show, one example after the other."""
    found = []
    for _ in range(steps):
        found.append(simulation.signals["x"].flatten().clone())
        simulation.step()
    return torch.cat(found)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind in ("plain", "stateful") else pytest.mark.long) for kind in LOADERS],
)
def test_a_loader_is_of_seed_and_epoch_and_resumed_to_the_bit(kind: str, tmp_path: Path) -> None:
    make, steps = LOADERS[kind], COUNT // BATCH
    before = torch.get_rng_state()
    with Simulation(scene(make()), seed=1) as simulation:
        whole = shown(simulation, 3 * steps)
        assert simulation.evaluate().examples == COUNT
    assert torch.equal(torch.get_rng_state(), before)
    epochs = [rows.floor().int().tolist() for rows in whole.split(COUNT)]
    assert [sorted(rows) for rows in epochs] == [list(range(COUNT))] * 3
    assert (epochs[0] != epochs[1]) == (kind != "stateful")
    for done in (2, steps + 2):
        with Simulation(scene(make()), seed=1, logdir=tmp_path / str(done)) as first:
            first.run(steps=done)
        env = make()
        with Simulation.resume(tmp_path / str(done), scene(env)) as second:
            assert torch.equal(shown(second, steps), whole[done * BATCH : (done + steps) * BATCH])
    with Simulation(scene(make()), seed=2) as other:
        assert torch.equal(shown(other, steps), whole[:COUNT]) == (kind == "distributed")


@pytest.mark.long
def test_a_loader_with_a_state_is_not_read_again(tmp_path: Path) -> None:
    env = LOADERS["stateful"]()
    with Simulation(scene(env), logdir=tmp_path / "run") as first:
        first.run(steps=3)
    again = LOADERS["stateful"]()
    read = again._loaders["train"].read
    with Simulation.resume(tmp_path / "run", scene(again)) as second:
        second.step()
    assert again._loaders["train"].read - read == 1 + BATCHES[0]["x"].shape[0] // BATCH


def test_a_loader_without_shuffling_shows_its_data_in_order() -> None:
    env = from_loader(DataLoader(DATA, BATCH), ("x", "label"), classes=CLASSES, test=BATCHES)
    with Simulation(scene(env)) as simulation:
        assert torch.equal(shown(simulation, 5), NUMBERS.flatten())
        assert simulation.epoch == 1
        batches = [batch["x"].flatten().tolist() for batch in simulation.world.env.batches("test", 7)]
    assert [len(batch) for batch in batches] == [7, 7, 6]
    assert [number for batch in batches for number in batch] == list(range(COUNT))


@pytest.mark.long
def test_it_keeps_the_contract() -> None:
    check_vector_env(lambda: loader(Augmented()).make(batch=BATCH), steps=15)
    held = from_loader(
        DataLoader(DATA, 3, shuffle=True, drop_last=True),
        ("x", "label"),
        classes=CLASSES,
        hold=2,
        episode="example",
    )
    check_vector_env(lambda: held.make(batch=3, dtype=torch.float64), steps=15)


@pytest.mark.parametrize(
    ("env", "line"),
    [
        (
            lambda: loader(batch_size=5),
            "training.batch: 4, but the loader's batch has 5; give the DataLoader",
        ),
        (
            lambda: loader(batch_size=6),
            "training.batch: 4, but the loader's batch has 6; give the DataLoader",
        ),
        (lambda: from_loader([], CLASSES), "from_loader: the loader has no batches"),
        (
            lambda: from_loader(BATCHES),
            "label: whole numbers are classes; pass their number, classes={'label'",
        ),
        (lambda: from_loader(BATCHES, ("x", "lable"), classes=CLASSES), "no 'lable'; did you mean 'label'?"),
        (lambda: from_loader(iter(BATCHES), classes=CLASSES), "env: the loader has ended; pass a DataLoader"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(env: Any, line: str) -> None:
    with pytest.raises(AntiphonError) as caught, Simulation(scene(env())) as simulation:
        simulation.run(steps=9)
    assert line in str(caught.value)
