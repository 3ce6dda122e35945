"""Loaders as environments: batches of any size, cut to the run's; seeded, resumed, evaluated; and what is refused."""

from __future__ import annotations

import json
import multiprocessing
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from antiphon import Scenario, Simulation
from antiphon.envs import check_vector_env, from_dataset, from_loader
from antiphon.errors import AntiphonError, DataError
from tests.engine.scenes import CLASSIFY, scenario_of

COUNT = 20
NUMBERS = torch.arange(COUNT).float().unsqueeze(1)
LABELS = torch.arange(COUNT) % 3
CLASSES = {"label": 3}
BATCHES = [
    {"x": NUMBERS[start:stop], "label": LABELS[start:stop]}
    for start, stop in ((0, 7), (7, 7), (7, 18), (18, COUNT))
]


class Augmented(Dataset[Any]):
    """Numbers with noise of three kinds of global random numbers: the number is what is before the point."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        noise = torch.rand(1) + random.random() + np.random.rand()
        return index + noise / 3, index % 3


class Endless(IterableDataset[Any]):
    """A stream without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(zip(NUMBERS, LABELS, strict=True))


def augmented(workers: int = 0, **options: Any) -> Any:
    loader = DataLoader(Augmented(), batch_size=6, shuffle=True, num_workers=workers, **options)
    return from_loader(loader, ("x", "label"), classes=CLASSES, test=BATCHES)


def scene(env: Any, batch: int = 4) -> Scenario:
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


def test_batches_are_cut_to_that_of_the_run_and_nothing_is_left_out() -> None:
    for batch in (3, 33):
        with Simulation(scene(from_loader(BATCHES, classes=CLASSES), batch)) as simulation:
            rows = shown(simulation, 2 * COUNT // batch + 1)
            assert torch.equal(rows, NUMBERS.flatten().repeat(len(rows) // COUNT + 1)[: len(rows)])
            assert simulation.epoch == len(rows) / COUNT


@pytest.mark.long
def test_it_keeps_the_contract() -> None:
    check_vector_env(lambda: augmented().make(batch=3), steps=15)
    check_vector_env(lambda: augmented().make(batch=9, dtype=torch.float64), steps=15)
    held = from_loader(
        augmented()._loaders["train"], ("x", "label"), classes=CLASSES, hold=2, episode="example"
    )
    check_vector_env(lambda: held.make(batch=3), steps=15)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.long)])
def test_what_is_shuffled_and_sampled_is_of_the_seed_and_resumed(workers: int, tmp_path: Path) -> None:
    own = {"generator": torch.Generator().manual_seed(5)} if workers else {}
    before = torch.get_rng_state(), random.getstate()
    with Simulation(scene(augmented(workers, **own)), seed=1) as simulation:
        whole = shown(simulation, 12)
        assert simulation.evaluate().examples == COUNT
        assert workers or simulation.evaluate("train") == simulation.evaluate("train")
    numbers = whole.int().tolist()
    assert [sorted(numbers[start : start + COUNT]) for start in (0, COUNT)] == [list(range(COUNT))] * 2
    assert numbers[:COUNT] != numbers[COUNT : 2 * COUNT]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    with Simulation(scene(augmented(workers, **own)), seed=1, logdir=tmp_path / "run") as first:
        first.run(steps=8)
    with (
        Simulation.resume(tmp_path / "run", scene(augmented(workers, **own))) as second,
        second.fork() as fork,
    ):
        assert torch.equal(shown(second, 4), whole[32:])
        assert torch.equal(shown(fork, 4), whole[32:])
    with Simulation(scene(augmented(workers, **own)), seed=2) as other:
        assert not torch.equal(shown(other, 12), whole)


@pytest.mark.parametrize("generator", [False, pytest.param(True, marks=pytest.mark.long)])
def test_persistent_workers_leave_the_order_to_seed_and_epoch(generator: bool, tmp_path: Path) -> None:
    def env() -> Any:
        own = {"generator": torch.Generator().manual_seed(5)} if generator else {}
        data = TensorDataset(NUMBERS, LABELS)  # without random numbers, which such workers keep
        loader = DataLoader(data, 5, shuffle=True, num_workers=1, persistent_workers=True, **own)
        return from_loader(loader, ("x", "label"), classes=CLASSES)

    with warnings.catch_warnings(action="ignore"):  # of persistent workers' random numbers
        with Simulation(scene(env()), seed=1) as simulation:
            whole = shown(simulation, 12)
        for done in (2, 7):  # within the first epoch, and the second
            with Simulation(scene(env()), seed=1, logdir=tmp_path / str(done)) as first:
                first.run(steps=done)
                with first.fork() as fork:
                    assert torch.equal(shown(fork, 5), whole[4 * done : 4 * done + 20])
            with Simulation.resume(tmp_path / str(done), scene(env())) as second:
                assert torch.equal(shown(second, 5), whole[4 * done : 4 * done + 20])


@pytest.mark.parametrize("places", [4, 3])
def test_rows_that_are_lists_are_rows_as_large_as_the_batch_or_not(places: int) -> None:
    class Listed(Dataset[Any]):
        """Lists of numbers, of which torch collates a tensor for each place."""

        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, index: int) -> dict[str, Any]:
            row = [float(place * COUNT + index) for place in range(places)]
            return {"x": row, "z": (row[:2], row[1:3]), "label": index % 3}

    with Simulation(scene(from_loader(DataLoader(Listed(), 4), classes=CLASSES))) as simulation:
        for start in (0, 4):
            rows = torch.arange(places) * COUNT + torch.arange(start, start + 4).unsqueeze(1)
            assert torch.equal(simulation.signals["x"], rows.float())
            simulation.step()
    nested = from_loader(DataLoader(Listed(), 4), ("z", "label"), classes=CLASSES).make(batch=2)
    nested.reset(seed=0)
    assert nested.reset()[0]["z"].tolist()[1][1] == [20.0 + 3, 40.0 + 3]
    # A list of one tensor for each example, as a collate function of one's own gives it, is as before.
    listed = DataLoader(
        TensorDataset(NUMBERS, LABELS), 4, collate_fn=lambda rows: tuple(zip(*rows, strict=True))
    )
    with Simulation(scene(from_loader(listed, ("x", "label"), classes=CLASSES))) as simulation:
        assert torch.equal(simulation.signals["x"], NUMBERS[:4])


@pytest.mark.parametrize("alone", [False, True])
def test_lists_of_ones_own_collate_function_are_rows_or_refused(alone: bool) -> None:
    """One that calls torch's own has a tensor for each place; of as many places as examples it cannot be told apart."""
    names = ("x",) if alone else ("x", "label")

    def loader(places: int) -> DataLoader[Any]:
        rows: Any = [([float(place * 100 + n) for place in range(places)], n % 3) for n in range(6)]
        rows = [row[: len(names)] for row in rows]
        return DataLoader(rows, 4, collate_fn=lambda items: default_collate(items))

    env = from_loader(loader(3), names, classes=None if alone else CLASSES).make(batch=6)
    shown = env.reset(seed=0)[0]["x"]
    assert shown.tolist() == [[n, 100.0 + n, 200.0 + n] for n in range(6)]
    line = "x: a list of 4 tensors of 4 rows is read for each example, or each place in a row; return torch.stack"
    with pytest.raises(DataError, match=line):
        from_loader(loader(4), names)


class ByRows(dict[str, torch.Tensor]):
    """Parts as a TensorDict has them: length and iteration are those of the rows, and only `keys` knows the names."""

    def __len__(self) -> int:
        return len(self["label"])

    def __iter__(self) -> Iterator[Any]:
        return iter(self["label"])

    def __contains__(self, key: object) -> bool:
        raise NotImplementedError("ask keys()")

    def __bool__(self) -> bool:
        raise RuntimeError("it has no truth value")


@pytest.mark.parametrize("names", [None, ("x", "label")])
def test_parts_are_found_by_the_keys_of_a_batch_whatever_else_it_iterates_over(
    names: tuple[str, ...] | None,
) -> None:
    with Simulation(
        scene(from_loader([ByRows(batch) for batch in BATCHES], names, classes=CLASSES))
    ) as simulation:
        assert torch.equal(simulation.signals["x"], NUMBERS[:4])
    rows: Any = [ByRows(x=number, label=label) for number, label in zip(NUMBERS, LABELS, strict=True)]
    assert from_dataset(rows, ("x", "label")).description.example_counts["train"] == 14
    with pytest.raises(DataError, match="no 'lable'; did you mean 'label'"):
        from_loader([ByRows(batch) for batch in BATCHES], ("x", "lable"), classes=CLASSES)


def test_lists_of_a_collate_function_are_told_apart_in_short_batches_and_refused_where_they_cannot_be() -> (
    None
):
    """All six examples in a batch of eight; one by one; by a sampler that says how many a batch has, and by one that does not."""

    class Batches:
        def __iter__(self) -> Iterator[list[int]]:
            return iter([[0, 1, 2, 3, 4, 5]])

    class Sized(Batches):
        batch_size = 6

    def shown(places: int, **how: Any) -> Any:
        rows = [([float(place * 100 + n) for place in range(places)],) for n in range(6)]
        loader = DataLoader(rows, collate_fn=lambda items: default_collate(items), **how)
        return from_loader(loader, ("x",)).make(batch=6).reset(seed=0)[0]["x"].tolist()

    for how in ({"batch_size": 8}, {"batch_size": 2}, {"batch_sampler": Sized()}):
        assert shown(3, **how) == [[n, 100.0 + n, 200.0 + n] for n in range(6)]
    assert shown(1, batch_size=1) == [[n] for n in range(6)]
    with pytest.raises(DataError, match="x: a list of 3 tensors of 6 rows is read for each example, or"):
        shown(3, batch_sampler=Batches())
    # where labels show the number of examples, they are told apart whatever they are a list of, and however many there are
    for labels in (list, np.array, lambda numbers: [*torch.tensor(numbers)]):
        loader = DataLoader(
            TensorDataset(NUMBERS.expand(COUNT, 3), LABELS),
            batch_sampler=Batches(),
            collate_fn=lambda rows, to=labels: ([x for x, _ in rows], to([int(label) for _, label in rows])),
        )
        env = from_loader(loader, ("x", "label"), classes=CLASSES).make(batch=6)
        assert torch.equal(env.reset(seed=0)[0]["x"], NUMBERS[:6].expand(6, 3))


@pytest.mark.parametrize("persistent", [False, True])
def test_its_processes_end_with_the_simulation(persistent: bool) -> None:
    with warnings.catch_warnings(action="ignore"):  # of persistent workers' random numbers
        env = augmented(1, persistent_workers=persistent)
    before = set(multiprocessing.active_children())
    with Simulation(scene(env)) as simulation:
        simulation.run(steps=1)
        assert set(multiprocessing.active_children()) - before
    assert not set(multiprocessing.active_children()) - before
    assert simulation.closed  # and still held, as in a notebook


def test_a_loader_with_an_order_of_its_own_says_so_where_a_run_goes_on(tmp_path: Path) -> None:
    orders = [BATCHES, [BATCHES[2], BATCHES[0], BATCHES[3]]]
    with Simulation(scene(from_loader(orders[0], classes=CLASSES))) as simulation:
        simulation.run(steps=2)
        simulation.save(tmp_path / "saved")
    line = "^env: the loader returns other batches than when the state was saved"
    other = scene(from_loader(orders[1], classes=CLASSES))
    with Simulation.load(tmp_path / "saved", other) as loaded, pytest.warns(UserWarning, match=line):
        loaded.run(epochs=1)


def test_an_iterator_is_read_once_and_its_run_cannot_be_repeated(tmp_path: Path) -> None:
    def source() -> Any:
        with pytest.warns(
            UserWarning, match="list_iterator can be iterated only once, so this run cannot be resumed"
        ):
            return from_loader(iter(BATCHES), classes=CLASSES)

    env = source()
    with Simulation(scene(env), logdir=tmp_path / "run") as simulation:
        simulation.run(steps=3)
        assert torch.equal(simulation.signals["x"], NUMBERS[12:16])
        for call in (simulation.fork, lambda: Simulation(scene(env))):
            with pytest.raises(AntiphonError, match="another simulation already reads its iterator"):
                call()
        simulation.run(steps=10)
        assert simulation.now == 5
        result = json.loads((tmp_path / "run/result.json").read_text(encoding="utf-8"))
        assert (result["exit"], result["reason"]) == ("done", "the examples of the loader have ended")
        with pytest.raises(AntiphonError, match="the loader has ended; pass a DataLoader"):
            simulation.step()
    with pytest.raises(
        AntiphonError, match="its environment has no state_dict, so the run cannot be continued"
    ):
        Simulation.resume(tmp_path / "run", scene(source()))


def test_a_loader_without_a_length_has_no_epochs() -> None:
    endless: Any = DataLoader(Endless(), batch_size=8)
    env = from_loader(endless, ("x", "label"), classes=CLASSES, validation=endless)
    assert env.description.example_counts == {"validation": COUNT}
    with Simulation(scene(env)) as simulation:
        simulation.run(steps=9)
        assert simulation.epoch is None
        assert simulation.evaluate("validation").examples == COUNT
        with pytest.raises(
            AntiphonError, match=r"^run: epochs=1, but .*: its examples cannot be counted; give steps"
        ):
            simulation.run(epochs=1)
        with pytest.raises(
            AntiphonError, match=r"^env: a loader may return different batches in different processes"
        ):
            Simulation(scene(env), parts=2)


@pytest.mark.parametrize(
    ("loader", "options", "expected"),
    [
        ([], {}, "from_loader: the loader has no batches"),
        (3, {}, "from_loader: int has no batches; pass a DataLoader, or a list"),
        (BATCHES, {"classes": {}}, "from_loader: label: whole numbers are classes, up to 2 in the first batch; pass"),
        (BATCHES, {"names": ("image",)}, "from_loader: no 'image'; known: label, x; pass names=(…)"),
        (BATCHES, {"test": []}, "from_loader: test: the loader has no examples; leave it out"),
        (BATCHES, {"test": iter(BATCHES)}, "from_loader: test: list_iterator can be iterated only once; pass list(…)"),
        ([*BATCHES, {"x": NUMBERS, "label": LABELS + 1}], {}, "train, batch 4: label: class 3 of 3; pass classes="),
        ([*BATCHES, {"x": NUMBERS[0:1, 0], "label": LABELS[:1]}], {}, "train, batch 4: x is [], but [1] in the first batch;"),
        ([*BATCHES, {"x": NUMBERS.bool(), "label": LABELS[:1]}], {}, "lengths disagree: x 20, label 1; pass one row"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_line(loader: Any, options: dict[str, Any], expected: str) -> None:
    with (
        pytest.raises(AntiphonError) as caught,
        Simulation(scene(from_loader(loader, **{"classes": CLASSES, **options}))) as simulation,
    ):
        simulation.run(epochs=2)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
