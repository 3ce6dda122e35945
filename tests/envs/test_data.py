"""One's own data: kinds of tensors, splits that never mix, files, masks, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import TensorDataset

from antiphon import Simulation, envs
from antiphon.errors import RunError
from antiphon.scenarios import Scenario, Template, load
from tests.envs.made import message

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


def test_training_only_is_named_or_found() -> None:
    source = envs.from_tensors(image=IMAGES, target=torch.randn(COUNT, 2), training_only="target")
    assert source.description.training_only == ("target",)
    env = source.make(batch=2)
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


def test_what_the_caller_changes_later_changes_no_run(tmp_path: Path) -> None:
    """Tensors of safetensors are pages of the file."""
    mine, array = torch.ones(20, 4), np.ones((20, 4), np.float32)
    save_file({"x": torch.ones(5000, 4)}, path := tmp_path / "data.safetensors")
    sources = [envs.from_tensors(x=mine), envs.from_tensors(x=array), envs.from_file(path)]
    mine.zero_()
    array[:] = 0
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(bytes(40_000))
    assert [float(source.table.columns["x"].min()) for source in sources] == [1, 1, 1]


@pytest.mark.parametrize("kind", [torch.bool, torch.int64])
@pytest.mark.parametrize("source", ["tensors", "dataset", "sequences"])
def test_a_mask_says_where_a_label_counts_and_is_no_label(source: str, kind: torch.dtype) -> None:
    there = torch.arange(COUNT) > 2
    splits: dict[str, Any] = {"test": 0, "validation": 0}
    masked = {
        "tensors": lambda: envs.from_tensors(x=IMAGES, label=LABELS, _label=there.to(kind), **splits),
        "dataset": lambda: envs.from_dataset(
            TensorDataset(IMAGES, LABELS, there.to(kind)), ("x", "label", "_label"), **splits
        ),
        "sequences": lambda: envs.from_sequences(x=IMAGES, label=LABELS, _label=there.to(kind), **splits),
    }[source]()
    assert list(masked.description.signals) == ["x", "label"]
    assert masked.description.signals["label"].training_only
    assert torch.equal(masked.table.columns["_label"].flatten(), there)


def test_a_class_of_minus_100_is_a_target_that_is_missing() -> None:
    target = torch.tensor([[0, -100], [1, 2]] * 10)
    source = envs.from_tensors(x=torch.zeros(20, 1), y=target)
    assert source.description.signals["y"] == envs.Signal(shape=(2,), classes=3, training_only=True)
    assert torch.equal(source.table.columns["_y"], target != -100)
    unsigned = envs.from_tensors(y=(target % 256).to(torch.uint8), classes={"y": 256})
    assert not unsigned.description.signals["y"].training_only  # torch takes the byte 156 for -100


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


# --- files -------------------------------------------------------------------------------------------------------

X = np.arange(60 * 3, dtype=np.float32).reshape(60, 3) / 100
LABEL = np.arange(60) % 4
DOCUMENT = """
scenario: filed
env: {id: antiphon/Tensors-v0, file: data.npz, test: held.npz}
agents:
  a: {observes: [x], objective: {kind: classification, target: label}}
training: {batch: 4, steps: 5}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the same data in two files, which is where we are."""
    np.savez(tmp_path / "data.npz", x=X, label=LABEL)
    np.savez(tmp_path / "held.npz", x=X[:8], label=LABEL[:8])
    save_file({"x": torch.tensor(X), "label": torch.tensor(LABEL)}, tmp_path / "data.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["data.npz", "data.safetensors"])
def test_a_file_is_its_tensors(folder: Path, file: str) -> None:
    direct = envs.from_tensors(x=X, label=LABEL)
    assert envs.describe({"id": FILE, "file": file}) == direct.description
    env, twin = envs.make({"id": FILE, "file": file}, batch=5), direct.make(batch=5)
    assert torch.equal(env.reset(seed=3)[0]["x"].float(), twin.reset(seed=3)[0]["x"])
    envs.check_vector_env(lambda: envs.make({"id": FILE, "file": file}, batch=3, split="test"))


def test_files_are_found_beside_the_document_from_anywhere(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "filed.yaml").write_text(DOCUMENT)
    by_name = load("filed.yaml").resolve()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    by_path = load(folder / "filed.yaml").resolve()
    assert by_path == by_name
    assert Scenario.from_yaml(by_path.to_yaml(), "run/scenario.yaml") == by_path
    with Simulation(by_path) as simulation:
        simulation.run()
        assert simulation.evaluate().examples == 8


def test_a_checkpoint_says_which_data_it_is_of_and_refuses_others(folder: Path) -> None:
    scenario = Template.from_yaml(DOCUMENT).resolve()
    with Simulation(scenario) as simulation:
        simulation.run()
        saved = simulation.save(folder / "saved")
        digest = simulation.world.env.state_dict()["data"]
    with Simulation.load(saved) as loaded:
        assert loaded.now == 5
    np.savez(folder / "data.npz", x=X + 1, label=LABEL)
    with pytest.raises(
        RunError, match=rf"env: the state is of other data .* \(SHA-256 {digest[:12]}…\), not"
    ):
        Simulation.load(saved)
