"""One's own data: tensors, files, loaders, sequences; splits that never mix, masks, epochs, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
)

from antiphon import Simulation, envs
from antiphon.base.errors import AntiphonError
from antiphon.envs import from_loader
from antiphon.scenarios import Scenario
from tests.contracts.builders import document
from tests.contracts.twins import made as simulated
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.envs.contract import check_vector_env
from tests.envs.made import message
from tests.reference.backend import Chosen, reference

COUNT = 50
IMAGES = torch.arange(COUNT * 6, dtype=torch.float32).reshape(COUNT, 2, 3) / 300
LABELS = torch.arange(COUNT) % 4
LABEL_9 = torch.arange(2, 10)
FILE = "antiphon/Tensors-v0"


def every(env: envs.TorchVectorEnv, name: str) -> dict[str, torch.Tensor]:
    return {split: torch.cat([batch[name] for batch in env.batches(split, 7)]) for split in env.splits}


def test_rows_stay_together_and_splits_never_mix() -> None:
    env = envs.make(envs.from_tensors(image=IMAGES, label=LABELS), batch=4)
    assert env.description.example_counts == {"train": 35, "validation": 5, "test": 10}
    rows = {split: (values[:, 0, 0] * 50).round().long() for split, values in every(env, "image").items()}
    assert torch.cat(list(rows.values())).sort().values.tolist() == list(range(COUNT))
    for split, labels in every(env, "label").items():
        assert torch.equal(labels, rows[split] % 4)
    again = envs.from_tensors(image=IMAGES, label=LABELS).make(batch=1)
    assert torch.equal(every(again, "image")["test"], every(env, "image")["test"])


def test_kinds_of_tensors() -> None:
    source = envs.from_tensors(
        picture=torch.full((COUNT, 2, 2), 51, dtype=torch.uint8),
        words=torch.arange(COUNT * 3).reshape(COUNT, 3),
        weight=torch.ones(COUNT, dtype=torch.float64),
        mask=torch.ones(COUNT, 2, dtype=torch.bool),
        tokens=torch.arange(COUNT * 2, dtype=torch.uint8).reshape(COUNT, 2),
        label=np.arange(COUNT, dtype=np.uint8) % 3,
        classes={"tokens": 256},
    )
    signals = source.description.signals
    assert signals["picture"] == envs.Signal(shape=(2, 2), low=0.0, high=1.0)
    assert signals["words"] == envs.Signal(shape=(3,), classes=150)
    assert signals["weight"] == envs.Signal()
    assert signals["mask"] == envs.Signal(shape=(2,))
    assert signals["tokens"] == envs.Signal(shape=(2,), classes=256)
    assert signals["label"] == envs.Signal(classes=3, training_only=True)
    obs, info = source.make(batch=2).reset(seed=0)
    assert torch.equal(obs["picture"], torch.full((2, 2, 2), 0.2))
    assert obs["weight"].dtype == obs["mask"].dtype == torch.float32
    assert obs["words"].dtype == info["label"].dtype == torch.int64


def test_splits_of_ones_own_are_kept_as_they_are() -> None:
    held = {"image": IMAGES[:8] + 9, "label": LABEL_9}
    tensors = envs.from_tensors(image=IMAGES, label=LABELS, test=held, validation=0.1)
    dataset = envs.from_dataset(
        TensorDataset(IMAGES, LABELS), test=TensorDataset(IMAGES[:8] + 9, LABEL_9), validation=0.1
    )
    for source in (tensors, dataset):
        assert source.description.example_counts == {"train": 45, "validation": 5, "test": 8}
        assert source.description.signals["label"].classes == 10  # of all splits
        found = every(source.make(batch=1), "image")
        assert torch.equal(found["test"], IMAGES[:8] + 9)
        ours = torch.cat([found["train"], found["validation"]])
        assert torch.equal(ours[ours[:, 0, 0].argsort()], IMAGES)
    whole = envs.from_tensors(image=IMAGES, label=LABELS, test=held, validation=held)
    assert torch.equal(every(whole.make(batch=1), "image")["train"], IMAGES)


def test_data_sets_of_tuples_and_dicts_are_their_tensors() -> None:
    direct = envs.from_tensors(image=IMAGES, label=LABELS)
    pairs = [*zip(IMAGES, LABELS, strict=True)]
    dicts = [{"label": int(label), "image": image.numpy(), "name": "a"} for image, label in pairs]
    state = torch.get_rng_state()
    for source in (
        envs.from_dataset(TensorDataset(IMAGES, LABELS)),
        envs.from_dataset(dicts, ("image", "label")),
        envs.from_dataset([(image.flatten().tolist(), label) for image, label in pairs], ("image", "label")),
    ):
        assert source.description.signals["label"] == direct.description.signals["label"]
        for name in ("image", "label"):
            one, other = every(source.make(batch=1), name), every(direct.make(batch=1), name)
            assert all(torch.equal(one[split].reshape(other[split].shape), other[split]) for split in one)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({}, "from_tensors: lengths disagree: no tensors"),
        ({"image": IMAGES, "label": LABELS[1:]}, "lengths disagree: image 50, label 49"),
        ({"image": torch.full((50, 2), float("nan"))}, "image: some of its values are not finite"),
        ({"label": torch.tensor([0, -1, 2] * 9)}, "label: class -1; number classes from 0"),
        ({"image": IMAGES, "test": 0.6, "validation": 0.5}, "50 examples leave none for training"),
        ({"image": IMAGES, "training_only": ["imag"]}, "training_only: no tensor 'imag'; did you mean"),
        ({"y": IMAGES, "classes": {"y": 4}}, "classes: 'y' has torch.float32, and classes are whole"),
        ({"label": LABELS, "classes": {"labl": 9}}, "classes: no tensor 'labl'; did you mean"),
        ({"label": LABELS, "classes": {"label": 2}}, "label: class 3 of 2; pass classes={'label': 4} or"),
        ({"x": IMAGES, "_y": LABELS > 1}, "_y: a name that begins with _ is the mask of a target"),
        ({"x": IMAGES, "_x": LABELS[:, None] > 1}, "_x: a mask of 'x' is [50] or [50, 2, 3], not [50, 1]"),
        ({"x": IMAGES, "test": {"image": IMAGES}}, "from_tensors: test: rows of {'image':"),
        ({"x": IMAGES, "test": {"x": IMAGES[:, :1]}}, "'torch.float32 [1, 3]'}, but {'x': 'torch"),
        (
            {"x": IMAGES, "test": 2},
            "test: 2; must be a share of the examples, from 0 to below 1, or the test",
        ),
    ],
)
def test_bad_data_is_named(tensors: dict[str, Any], expected: str) -> None:
    assert expected in message(lambda: envs.from_tensors(**tensors))


# --- loaders ---------------------------------------------------------------------------------------------


ROWS, BATCH = 20, 4
NUMBERS = torch.arange(ROWS).float().unsqueeze(1)
ROW_LABELS = torch.arange(ROWS) % 3
CLASSES = {"label": 3}
DATA = TensorDataset(NUMBERS, ROW_LABELS)
BATCHES = [{"x": NUMBERS[i : i + BATCH], "label": ROW_LABELS[i : i + BATCH]} for i in range(0, ROWS, BATCH)]


class Augmented(Dataset[Any]):
    """Numbers with noise: the number is what is before the point."""

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return index + torch.rand(1), index % 3


class Endless(IterableDataset[Any]):
    """A stream without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(zip(NUMBERS, ROW_LABELS, strict=True))


def loader(data: Any = DATA, **options: Any) -> Any:
    options = {"batch_size": BATCH, "shuffle": not isinstance(data, Endless), **options}
    return from_loader(DataLoader(data, **options), ("x", "label"), classes=CLASSES, test=BATCHES)


LOADERS = {
    "plain": loader,
    "augmented": lambda: loader(Augmented()),
    "workers": lambda: loader(Augmented(), num_workers=1),
    "sampler": lambda: loader(sampler=RandomSampler(DATA), shuffle=False),
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


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", LOADERS)
def test_a_loader_is_of_seed_and_epoch_and_resumed_to_the_bit(kind: str, tmp_path: Path) -> None:
    make, steps = LOADERS[kind], ROWS // BATCH
    with Simulation(scene(make()), seed=1) as simulation:
        before = torch.get_rng_state()
        whole = shown(simulation, 3 * steps)
        assert simulation.evaluate().examples == ROWS
        assert torch.equal(torch.get_rng_state(), before)
    epochs = [rows.floor().int().tolist() for rows in whole.split(ROWS)]
    assert [sorted(rows) for rows in epochs] == [list(range(ROWS))] * 3
    assert epochs[0] != epochs[1]
    for done in (2, steps + 2):
        with Simulation(scene(make()), seed=1, logdir=tmp_path / str(done)) as first:
            first.run(steps=done)
        env = make()
        with Simulation.resume(tmp_path / str(done), scene(env)) as second:
            assert torch.equal(shown(second, steps), whole[done * BATCH : (done + steps) * BATCH])
    with Simulation(scene(make()), seed=2) as other:
        assert not torch.equal(shown(other, steps), whole[:ROWS])


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


# --- sequences -------------------------------------------------------------------------------------------


LENGTHS = [1 + 5 * i % 7 for i in range(20)]
STEPS = [torch.arange(n * 2.0).reshape(n, 2) + 100 * (i + 1) for i, n in enumerate(LENGTHS)]
Y = [x.sum(1) for x in STEPS]
STEP_LABELS = torch.arange(20) % 3


def source(**changes: Any) -> envs.Source:
    return envs.from_sequences(
        **{"x": STEPS, "y": Y, "label": STEP_LABELS, "training_only": ["y", "label"], **changes}
    )


def visible(env: envs.TorchVectorEnv, name: str, steps: int, seed: int = 0) -> list[list[tuple[int, Tensor]]]:
    """What the masks let through, by environment, in order: step and value."""
    found: list[list[tuple[int, Tensor]]] = [[] for _ in range(env.num_envs)]
    obs, info = env.reset(seed=seed)
    for step in range(steps):
        values = {**obs, **info}
        for row in range(env.num_envs):
            if values[f"_{name}"][row]:
                found[row].append((step, values[name][row].clone()))
        obs, _, _, _, info = env.step(None)
    return found


@pytest.mark.cases(1)
@pytest.mark.parametrize("options", [{}, {"x": STEPS[:7], "y": Y[:7], "label": STEP_LABELS[:7]}])
def test_contract(options: dict[str, Any]) -> None:
    check_vector_env(lambda: source(**options).make(batch=3), steps=30)
    known = [torch.arange(n) % 2 == 0 for n in LENGTHS[: len(options.get("x", STEPS))]]
    check_vector_env(lambda: source(**options, _y=known).make(batch=2, dtype=torch.float64), steps=30)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_an_epoch_shows_every_step_of_every_sequence_once(split: str, batch: int) -> None:
    made = source()
    env = made.make(batch=batch, split=split)
    env.reset(seed=4)
    rows = env._table.splits[split].tolist()  # type: ignore[attr-defined]
    values = [value for row in visible(env, "x", env.evaluation_steps or 0, seed=4) for _, value in row]
    expected = torch.cat([STEPS[row] for row in rows])
    assert sorted(map(tuple, torch.stack(values).tolist())) == sorted(map(tuple, expected.tolist()))


def test_every_epoch_of_training_has_an_order_of_its_own_and_other_splits_that_of_the_data() -> None:
    def firsts(split: str, seed: int, epochs: int) -> list[int]:
        env = source().make(batch=1, split=split)
        env.reset(seed=seed)
        steps = (env.evaluation_steps or 0) * epochs
        (row,) = visible(env, "x", steps, seed=seed)
        return [int(v[0]) // 100 for _, v in row if v[0] % 100 == 0]

    train = firsts("train", 0, 2)
    assert sorted(train[:14]) == sorted(train[14:])
    assert train[:14] != train[14:]
    assert train != firsts("train", 1, 2)
    test = firsts("test", 0, 1)
    assert test == sorted(test) == firsts("test", 1, 1)


def test_padding_is_zero_and_masked_and_ends_with_the_longest() -> None:
    env = source(test=0, validation=0).make(batch=4)
    obs, info = env.reset(seed=1)
    for _ in range(6):
        lengths = [LENGTHS[int(x[0]) // 100 - 1] for x in obs["x"]]
        for step in range(max(lengths)):
            there = torch.tensor([step < n for n in lengths])
            assert torch.equal(info["_x"], there)
            assert torch.equal(info["_y"], there)
            assert torch.equal(info["_label"], torch.tensor([step == n - 1 for n in lengths]))
            assert not bool(obs["x"][~there].any())
            assert not bool(info["y"][~there].any())
            assert env.episode_length == max(lengths)
            last = obs
            obs, reward, terminated, _, info = env.step(None)
            assert not bool(reward.any())
            assert bool((terminated == (step == max(lengths) - 1)).all())
        assert torch.equal(info["final_obs"]["x"], last["x"])
        if not bool(info["_x"].all()):
            break  # the epoch's last episode


LINEAR = {"kind": "mlp", "hidden": [], "norm": "none"}


def simulation(made: envs.Source, backend: Chosen = "cohort", **changes: Any) -> Simulation:
    agent: dict[str, Any] = {
        "observes": ["x"],
        "network": LINEAR,
        "objective": {"kind": "regression", "target": "y"},
        **changes,
    }
    return simulated(document({"a": agent}, [], made, optimiser={"kind": "sgd", "lr": 1e-7}), backend)


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_the_loss_is_over_the_steps_that_there_are(backend: Chosen) -> None:
    """By hand: the mean over all steps of all sequences of a split, whatever the batch pads."""
    made = source()
    with simulation(made, backend) as one:
        one.run(9)
        linear = one.agents["a"].parameters
        rows = made.make(batch=1)._table.splits  # type: ignore[attr-defined]
        for split in ("train", "test"):
            x, y = (torch.cat([part[row] for row in rows[split]]).double() for part in (STEPS, Y))
            output = x @ linear["objective.weight"].data.T + linear["objective.bias"].data
            found = one.evaluate(split)
            assert found.loss == pytest.approx(float((output[:, 0] - y).square().mean()))
            assert found.examples == len(x)


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_padding_gives_no_gradient(backend: Chosen) -> None:
    """More of it makes the same step, of windows that are the whole episode."""
    after = []
    lengthened = [torch.cat([x, torch.zeros(9 - len(x), 2)]) for x in STEPS]
    sums = [torch.cat([y, torch.ones(9 - len(y))]) for y in Y]
    own: dict[str, Any] = {"x": lengthened, "y": sums, "_y": [torch.arange(9) < n for n in LENGTHS]}
    lstm: dict[str, Any] = {"network": {"kind": "lstm", "size": 3}, "clock": {"unroll": "episode"}}
    for padding in ({}, own):
        with simulation(source(**padding), backend, **lstm) as one:
            length = one.world.env.episode_length
            assert length is not None
            one.run(length)
            after.append({k: v.clone() for k, v in one.agents["a"].parameters.items()})
    assert all(torch.allclose(after[0][key], after[1][key], rtol=1e-12, atol=0) for key in after[0])
