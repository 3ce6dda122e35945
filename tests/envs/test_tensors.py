"""One's own data: kinds of tensors, splits that never mix, data sets, and what is refused."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from antiphon import envs
from antiphon.errors import DataError
from tests.engine.numbers import one_line
from tests.envs.made import message

COUNT = 50
IMAGES = torch.arange(COUNT * 6, dtype=torch.float32).reshape(COUNT, 2, 3) / 300
LABELS = torch.arange(COUNT) % 4
LABEL_9 = torch.arange(2, 10)


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
        label=np.arange(COUNT, dtype=np.uint8) % 3,
    )
    signals = source.description.signals
    assert signals["picture"] == envs.Signal(shape=(2, 2), low=0.0, high=1.0)
    assert signals["words"] == envs.Signal(shape=(3,), classes=150)
    assert signals["weight"] == envs.Signal()
    assert signals["mask"] == envs.Signal(shape=(2,))
    assert signals["label"] == envs.Signal(classes=3, training_only=True)
    obs, info = source.make(batch=2).reset(seed=0)
    assert torch.equal(obs["picture"], torch.full((2, 2, 2), 0.2))
    assert obs["weight"].dtype == obs["mask"].dtype == torch.float32
    assert obs["words"].dtype == info["label"].dtype == torch.int64


def test_training_only_is_named_or_found() -> None:
    target = torch.randn(COUNT, 2)
    source = envs.from_tensors(image=IMAGES, target=target, training_only=["target"])
    assert source.description.training_only == ("target",)
    env = source.make(batch=2)
    assert env.single_action_space.n == 1  # type: ignore[attr-defined]
    obs, info = env.reset(seed=0)
    assert (list(obs), list(info)) == (["image"], ["target"])
    assert env.step(env.action_space.sample())[1].tolist() == [0, 0]
    open_labels = envs.from_tensors(image=IMAGES, label=LABELS, training_only=())
    assert open_labels.description.observations == ("image", "label")


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
    parts = {"test": held, "validation": held}
    whole = envs.from_tensors(image=IMAGES, label=LABELS, **parts)
    assert torch.equal(every(whole.make(batch=1), "image")["train"], IMAGES)
    assert whole.description.example_counts == {"train": COUNT, "validation": 8, "test": 8}


class Stream(IterableDataset[Any]):
    """Items one after the other."""

    def __iter__(self) -> Iterator[Any]:
        return iter(zip(IMAGES, LABELS, strict=True))


def test_items_that_have_no_place_are_refused_with_the_way_to_read_them() -> None:
    assert message(lambda: envs.from_dataset(Stream())) == (  # type: ignore[arg-type]
        "from_dataset: Stream cannot be indexed; pass list(…) of it, if it ends"
    )
    loader: Any = DataLoader(TensorDataset(IMAGES, LABELS))
    assert message(lambda: envs.from_dataset(loader)) == (
        "from_dataset: DataLoader cannot be indexed; pass its `dataset`, or use from_loader"
    )
    line = message(lambda: envs.from_dataset(TensorDataset(IMAGES, LABELS), test=Stream()))  # type: ignore[arg-type]
    assert line == "from_dataset: test: Stream cannot be indexed; pass list(…) of it, if it ends"
    columns: Any = {"image": IMAGES, "label": LABELS}
    assert message(lambda: envs.from_dataset(columns)) == (
        "from_dataset: dict cannot be indexed; pass one of its values, or use from_tensors(**…)"
    )
    assert envs.from_dataset(list(Stream())).description.example_counts["test"] == 10


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (
            {"image": IMAGES},
            "from_tensors: test: it has image, but train has image, label; use the same names",
        ),
        ({"image": IMAGES[:, :1], "label": LABELS}, "test: image is torch.float32 [1, 3] per row, but torch"),
        ({"image": IMAGES, "label": LABELS[1:]}, "from_tensors: test: lengths disagree: image 50, label 49"),
        (
            2,
            "test: 2; must be a share of the examples, from 0 to below 1 (2 of 50: 0.04), or the test examples",
        ),
        (
            2.5,
            "from_tensors: test: 2.5; must be a share of the examples, from 0 to below 1, or the test exam",
        ),
        ([IMAGES, LABELS], "from_tensors: test: list; pass a share of the examples, or a mapping of tensors"),
    ],
)
def test_splits_that_do_not_fit_are_named(held: Any, expected: str) -> None:
    assert expected in message(lambda: envs.from_tensors(image=IMAGES, label=LABELS, test=held))


@pytest.mark.parametrize("tensors", [(IMAGES, LABELS), ({"image": IMAGES, "label": LABELS},)])
def test_tensors_without_names_are_refused_with_the_fix(tensors: tuple[Any, ...]) -> None:
    with one_line(r"^from_tensors: name each tensor, as from_tensors\(x=inputs, label=labels\)$"):
        envs.from_tensors(*tensors)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({}, "from_tensors: no tensor given"),
        ({"image": IMAGES, "label": LABELS[1:]}, "lengths disagree: image 50, label 49"),
        (
            {"image": torch.full((50, 2), float("nan"))},
            "image: 100 of its values are not finite, the first at index [0, 0]; replace",
        ),
        ({"label": torch.tensor([0, -1, 2] * 9)}, "label: class -1; number classes from 0"),
        (
            {"tokens": torch.tensor([[1, -1]] * 50)},
            "tokens: class -1; number classes from 0, or pass floats; a target that is missing is -100, with 'tokens' in training_only",
        ),
        ({"image": torch.ones(50, 2, requires_grad=True)}, "requires a gradient; pass image.detach()"),
        ({"image": IMAGES, "test": 0.6, "validation": 0.5}, "50 examples leave none for training"),
        (
            {"image": IMAGES[:2]},
            "2 examples leave none for training with test=0.2 and validation=0.1; give more examples, or smaller shares",
        ),
        ({"image": IMAGES, "training_only": ["imag"]}, "training_only: no tensor 'imag'; did you mean"),
        (
            {"y": IMAGES, "classes": {"y": 4}},
            "classes: 'y' has float32, and classes are whole numbers; leave it out of classes, or convert",
        ),
        ({"label": LABELS, "classes": {"labl": 9}}, "classes: no tensor 'labl'; did you mean"),
        ({"label": LABELS, "classes": {"label": 2}}, "label: class 3 of 2; pass classes={'label': 4} or"),
    ],
)
def test_bad_data_is_named(tensors: dict[str, Any], expected: str) -> None:
    assert expected in message(lambda: envs.from_tensors(**tensors))


def test_classes_that_the_data_lack_are_given_by_name() -> None:
    """The vocabulary of a model is larger than what a text has of it; bytes are classes where it is given."""
    tokens = torch.randint(60, (50, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    source = envs.from_tensors(tokens=tokens, label=LABELS, classes={"tokens": 77, "label": 10})
    found = source.description.signals
    assert (found["tokens"].classes, found["label"].classes) == (77, 10)
    obs, _ = source.make(batch=3).reset(seed=0)
    assert obs["tokens"].dtype == torch.int64
    assert obs["tokens"].max() < 60
    pairs = TensorDataset(IMAGES, LABELS)
    assert envs.from_dataset(pairs, classes={"label": 10}).description.signals["label"].classes == 10
    words = envs.from_sequences(word=[torch.arange(3)] * 9, classes={"word": 5})
    assert words.description.signals["word"].classes == 5


def test_data_sets_of_tuples_dicts_and_numbers() -> None:
    direct = envs.from_tensors(image=IMAGES, label=LABELS)
    tuples = envs.from_dataset(TensorDataset(IMAGES, LABELS))
    dicts = envs.from_dataset(
        [
            {"label": int(label), "image": image.numpy(), "more": 0}
            for image, label in zip(IMAGES, LABELS, strict=True)
        ]
    )
    for source in (tuples, dicts):
        assert source.description == direct.description
        for name in ("image", "label"):
            one, other = every(source.make(batch=1), name), every(direct.make(batch=1), name)
            assert all(torch.equal(one[split], other[split]) for split in one)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], "from_dataset: the data set is empty"),
        ([object()], "dataset[0]: object for the names image, label; return a tuple or a dict of tensors"),
        ([(1.0, 2, 3)], "dataset[0]: 3 parts for the names image, label"),
        ([{"image": 1.0, "lable": 1}], "dataset[0]: no 'label'; did you mean 'lable'?"),
        ([(torch.ones(2), 0), (torch.ones(3), 1)], "image: items have different shapes (2,) and (3,)"),
    ],
)
def test_bad_data_sets_are_named(items: list[Any], expected: str) -> None:
    assert expected in message(lambda: envs.from_dataset(items))


def test_names_of_parts_are_one_for_each_and_a_single_one_needs_no_list() -> None:
    rows = [(torch.ones(2), torch.zeros(3))] * 10
    twice = r"^from_{}: names: 'x' is given to two parts; give each a name of its own$"
    with pytest.raises(DataError, match=twice.format("dataset")):
        envs.from_dataset(rows, ["x", "x"])
    with pytest.raises(DataError, match=twice.format("loader")):
        envs.from_loader([(torch.ones(4, 2), torch.zeros(4, 3))], ["x", "x"])
    assert set(envs.from_dataset([(torch.ones(2),)] * 10, "picture").description.signals) == {"picture"}  # type: ignore[arg-type]
