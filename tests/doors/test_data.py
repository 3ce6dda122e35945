"""The door of data: whatever holds values is read as numpy reads it, from every source, or refused in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from antiphon import Scenario, Simulation, envs
from antiphon.envs.datasets import dataset_files
from antiphon.errors import DataError, ScenarioError

pandas = pytest.importorskip("pandas")

ROWS, WIDTH = 8, 6
RANDOM = np.random.default_rng(0)
WHOLE = RANDOM.integers(0, 7, (ROWS, WIDTH))
TYPES = (
    "<f2",
    "<f4",
    "<f8",
    ">f2",
    ">f4",
    ">f8",
    "?",
    "u1",
    "i1",
    "<i2",
    ">i2",
    "<u2",
    ">u2",
    "<i4",
    ">i4",
    "<u4",
    ">u8",
    ">i8",
)
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda array: array,
    "columns first": np.asfortranarray,
    "reversed": lambda array: array[::-1, ::-1][::-1, ::-1],
    "strided": lambda array: np.repeat(array, 2, 1)[:, ::2],
    "read-only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
}
CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "array": lambda array: array,
    "tensor": lambda array: torch.from_numpy(array.astype(array.dtype.newbyteorder("="), "C")),
    "list of arrays": list,
    "masked array": np.ma.array,
    "pandas": lambda array: pandas.DataFrame(array.astype(array.dtype.newbyteorder("="))),
    "nested list": lambda array: array.tolist(),
}
NO_SPLITS: dict[str, Any] = {"test": 0, "validation": 0}


def shown(source: Any, name: str = "x", rows: int = ROWS) -> Tensor:
    """Return a signal of all examples, in the order of the data."""
    env = source.make(batch=1, dtype=torch.float64)
    if not env.is_stream:  # sequences, one after the other
        seen = [env.reset(seed=0)[0][name][0]]
        return torch.stack(seen + [env.step(None)[0][name][0] for _ in range(rows - 1)])
    return torch.cat([batch[name] for batch in env.batches("train", 3)])


def sources(values: Any, folder: Path, **keys: Any) -> dict[str, Callable[[], Any]]:
    """Every way by which values enter."""

    def from_file() -> Any:
        np.savez(folder / "data.npz", x=np.asarray(values))
        return envs.from_file(folder / "data.npz", **keys, **NO_SPLITS)

    return {
        "tensors": lambda: envs.from_tensors(x=values, **keys, **NO_SPLITS),
        "dataset": lambda: envs.from_dataset([(row,) for row in values], ("x",), **keys, **NO_SPLITS),
        "loader": lambda: envs.from_loader([(values,)], ("x",), **{"classes": {}, **keys}),
        "sequences": lambda: envs.from_sequences(x=[values], **keys, **NO_SPLITS),
        "file": from_file,
    }


def expected(array: Any) -> Tensor:
    """Return the numbers that numpy reads, bytes between 0 and 1."""
    scale = 255 if array.dtype == np.uint8 else 1
    return torch.from_numpy(np.ascontiguousarray(array).astype("f8")) / scale


@pytest.mark.cases(2)
@pytest.mark.parametrize("kind", TYPES)
def test_numbers_of_every_type_layout_and_container_are_those_of_numpy(kind: str, tmp_path: Path) -> None:
    array = (WHOLE / (10 if "f" in kind else 1)).astype(kind)
    counted = {"classes": {"x": 7}} if np.dtype(kind).kind in "iu" and kind != "u1" else {}
    cases = [("array", layout) for layout in LAYOUTS] + [(container, "plain") for container in CONTAINERS]
    for container, layout in dict.fromkeys(cases):
        given = CONTAINERS[container](LAYOUTS[layout](array))
        right = expected(np.asarray(given, dtype=array.dtype) if container == "nested list" else array)
        if container == "nested list" and kind not in ("<f8", "?", "<i4"):
            continue  # Python's numbers have no other types
        for source, make in sources(given, tmp_path, **counted).items():
            if container not in ("array", "tensor") and source in ("dataset", "file"):
                continue
            assert torch.equal(shown(make()).double(), right), (container, layout, source)


HOLES = WHOLE == 3
MASKED: dict[str, Callable[[], Any]] = {
    "masked array": lambda: np.ma.array(np.where(HOLES, -999, WHOLE / 10), mask=HOLES),
    "masked NaN, big-endian": lambda: np.ma.array(
        np.where(HOLES, np.nan, WHOLE / 10).astype(">f8"), mask=HOLES
    ),
    "masked classes": lambda: np.ma.array(np.where(HOLES, -999, WHOLE), mask=HOLES),
    "masked bytes": lambda: np.ma.array(WHOLE.astype("u2"), mask=HOLES),
    "list of masked arrays": lambda: list(np.ma.array(WHOLE / 10, mask=HOLES)),
    "pandas.NA": lambda: pandas.DataFrame(np.where(HOLES, None, WHOLE)).astype("Int64"),
    "masked tensor": lambda: torch.masked.masked_tensor(torch.tensor(WHOLE / 10), torch.tensor(~HOLES)),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize("kind", MASKED)
def test_missing_values_of_a_target_are_masked_and_of_an_observation_refused(
    kind: str, tmp_path: Path
) -> None:
    values = MASKED[kind]()
    items = values if kind != "pandas.NA" else list(values.itertuples(index=False))
    keys = {"training_only": ["x"], "classes": {"x": 7}} if kind in ("masked classes", "masked bytes", "pandas.NA") else {"training_only": ["x"]}  # fmt: skip
    number = 10 if "classes" not in keys else 1
    right = torch.tensor(np.where(HOLES, 0, WHOLE / number)).double()
    for name, make in sources(values, tmp_path, **keys).items():
        if name == "file" or (name == "dataset" and kind == "masked tensor"):
            continue  # no file has masks; torch takes no rows of its masked tensors
        source = make() if name != "dataset" else envs.from_dataset([(row,) for row in items], ("x",), **keys, **NO_SPLITS)  # fmt: skip
        if name == "sequences":
            assert torch.equal(source.table.columns["x"].double(), right)
            assert torch.equal(source.table.columns["_x"], torch.tensor(~HOLES))
        else:
            assert torch.equal(shown(source).double(), right), name
            assert torch.equal(shown(source, "_x"), torch.tensor(~HOLES)), name
    line = f"x: {HOLES.sum()} of its values are missing (masked or NA), but agents may observe it; fill them, or name 'x'"
    with pytest.raises(DataError) as caught:
        envs.from_tensors(x=values)
    assert line in str(caught.value)


def test_a_single_missing_number_takes_the_type_of_the_others() -> None:
    for blank in (pandas.NA, np.ma.masked):
        source = envs.from_dataset([(1.0, 2), (2.0, blank), (3.0, 1)], ("x", "label"), **NO_SPLITS)
        assert source.description.signals["label"].classes == 3
        assert shown(source, "_label").flatten().tolist() == [True, False, True]


MODES = (
    "1",
    "L",
    "P",
    "PA",
    "LA",
    "La",
    "RGB",
    "RGBA",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "F",
    "I;16",
    "I;16B",
)


def picture(mode: str) -> Any:
    colours = Image.fromarray(RANDOM.integers(0, 256, (3, 5, 3)).astype(np.uint8))
    if mode.startswith("I;16"):
        deep = RANDOM.integers(0, 65536, (3, 5)).astype(">u2" if mode[-1] == "B" else "<u2")
        return Image.frombytes(mode, (5, 3), deep.tobytes())
    through = {"LA": "LA", "La": "LA", "PA": "RGBA", "LAB": "RGB"}.get(mode, mode)
    if mode == "LAB":
        return Image.frombytes("LAB", (5, 3), colours.tobytes())
    found = colours.convert(through)
    return found.convert(mode) if mode != "PA" else Image.frombytes("PA", (5, 3), bytes(range(30)))


@pytest.mark.parametrize("mode", MODES)
def test_pictures_are_as_pil_and_numpy_read_them(mode: str) -> None:
    pictures = [picture(mode) for _ in range(4)]
    assert {one.mode for one in pictures} == {mode}
    converted = [
        one.convert("RGBA" if mode == "PA" else "RGB") if mode[0] == "P" else one for one in pictures
    ]
    arrays = np.stack([np.asarray(one) for one in converted])
    scale = {"u1": 255, "u2": 65535}.get(arrays.dtype.str[1:], 1)
    right = torch.from_numpy(arrays.astype("f8")) / scale
    for source in (
        envs.from_dataset([(one,) for one in pictures], ("x",), **NO_SPLITS),
        envs.from_tensors(x=pictures, **NO_SPLITS),
        envs.from_loader([(pictures,)], ("x",)),
        envs.from_sequences(x=[pictures], **NO_SPLITS),
    ):
        assert torch.equal(shown(source, rows=4).double(), right)
        assert source.description.signals["x"].channels == ("last" if right.dim() == 4 else "")


def test_a_palette_is_colours_or_where_it_has_classes_its_indices() -> None:
    masks = [Image.new("P", (2, 2), index) for index in (0, 2, 1)]
    source = envs.from_dataset([(one,) for one in masks], ("x",), classes={"x": 3}, **NO_SPLITS)
    assert shown(source)[:, 0, 0].tolist() == [0, 2, 1]
    clear = Image.new("P", (2, 2), 1)
    clear.info["transparency"] = 1
    assert envs.from_tensors(x=[clear] * 3, **NO_SPLITS).description.signals["x"].shape == (2, 2, 4)


X = torch.tensor(WHOLE / 10)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "sparse": (X.to_sparse, "x: a sparse tensor (sparse_coo); pass x.to_dense()"),
    "compressed": (X.to_sparse_csr, "x: a sparse tensor (sparse_csr); pass x.to_dense()"),
    "nested": (lambda: torch.nested.nested_tensor([X, X]), "x: a nested tensor; pass x=list(x.unbind()) to from_seq"),
    "jagged": (lambda: torch.nested.nested_tensor([X, X], layout=torch.jagged), "x: a nested tensor; pass x=list("),
    "packed": (lambda: pack_sequence([X, X]), "x: a PackedSequence; pass x=torch.nn.utils.rnn.unpack_sequence(x) to from_seq"),
    "quantised": (lambda: torch.quantize_per_tensor(X.float(), 0.1, 0, torch.quint8), "x: a quantised tensor; pass x.deq"),
    "float8": (lambda: X.to(torch.float8_e4m3fn), "x: has type torch.float8_e4m3fn, with which torch does not compute; pass"),
    "meta": (lambda: torch.ones(3, device="meta"), "x: a tensor on the device meta has no values"),
    "gradient": (lambda: torch.nn.Parameter(X), "x: a tensor that requires a gradient; pass x.detach()"),
    "complex": (lambda: X * 1j, "x: complex numbers; pass real and imaginary parts as two tensors"),
    "long double": (lambda: WHOLE.astype(np.longdouble), ", which torch lacks; pass x.astype('float64')"),
    "objects": (lambda: WHOLE.astype(object), "x: has type object, not numbers; pass numbers of one type, such as x.ast"),
    "texts": (lambda: ["a", "b"], "x: holds texts, not numbers; number its classes from 0"),
    "dates": (lambda: WHOLE.astype("M8[s]"), "x: has type datetime64[s], not numbers; pass a duration in numbers"),
    "fields": (lambda: np.zeros(3, [("a", "f4"), ("b", "i4")]), "pass each of its fields as a signal"),
    "categories": (lambda: pandas.Series(["a", "b"], dtype="category"), "x: categories are no numbers; pass x.cat.codes"),
    "nothing": (lambda: [1.0, None], "x: NoneType cannot become a tensor; pass numbers"),
    "ragged": (lambda: [[1], [1, 2]], "x: list cannot become a tensor; pass numbers"),
    "16-bit pictures": (lambda: np.ones((3, 4, 4), np.uint16), "x: pictures of 16 bits (uint16) are no classes; pass x / 65535"),
    "signed ones": (lambda: np.ones((3, 4, 4), np.int16), "x: pictures of 16 bits (int16) are no classes; pass x / 65535"),
    "mode I": (lambda: [Image.new("I", (4, 4))] * 3, "x: pictures of mode I have no known range; pass x / 65535"),
    "two modes": (lambda: [Image.new(mode, (4, 4)) for mode in ("RGB", "HSV")], "x: some pictures are HSV and some RGB; conv"),
    "two scales": (lambda: [np.ones(2, np.uint8), np.ones(2)], "x: items have different types torch.float64 and torch.uint8"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:(Sparse CSR|The PyTorch API of nested|torch.quantize)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.long) if kind == "jagged" else kind for kind in REFUSED]
)
def test_what_has_no_plain_numbers_is_refused_by_every_source(kind: str) -> None:
    make, line = REFUSED[kind]
    for source in (
        lambda: envs.from_tensors(x=make(), **NO_SPLITS),
        lambda: envs.from_loader([(make(),)], ("x",)),
        lambda: envs.from_dataset([(make(),)] * 3, ("x",), **NO_SPLITS),
        lambda: envs.from_sequences(x=[make()], **NO_SPLITS),
    ):
        with pytest.raises(DataError) as caught:
            source()
        text = str(caught.value)
        assert line in text.replace("x[0]", "x") or text.startswith("from_sequences: x")
        assert "\n" not in text


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_no_unsigned_number_is_the_class_that_is_ignored(kind: str) -> None:
    """For torch the byte 156 is equal to -100."""
    values = np.full((ROWS, 2), -100).astype("i2").astype(kind)
    keys: dict[str, Any] = {"classes": {"x": 65536}, **NO_SPLITS}
    signal = envs.from_tensors(x=values, **keys).description.signals["x"]
    assert not signal.training_only
    target = envs.from_tensors(x=values, z=values / 7, training_only=["x"], **keys)
    assert torch.equal(shown(target), torch.from_numpy(values.astype("i8")))


def test_a_byte_that_stands_for_no_class_is_refused_with_the_name_of_its_mask() -> None:
    label = torch.tensor([[0, 255], [1, 2]] * 10, dtype=torch.uint8)
    line = (
        r"label: class 255 of 3; pass classes={'label': 256} or more, or mask those that are missing: _label$"
    )
    with pytest.raises(DataError, match=line):
        envs.from_tensors(x=torch.zeros(20, 1), label=label, classes={"label": 3}, training_only=["label"])


def test_values_too_large_for_the_type_of_a_run_are_named() -> None:
    source = envs.from_tensors(x=torch.full((9, 2), 1e300, dtype=torch.float64))
    assert source.make(batch=2, dtype=torch.float64)
    with pytest.raises(DataError, match=r"x: some values are too large for torch.float32; scale them"):
        source.make(batch=2)


def test_a_table_that_is_no_list_of_rows_is_refused() -> None:
    with pytest.raises(
        DataError, match="DataFrame cannot be indexed; pass one of its values, or use from_tensors"
    ):
        envs.from_dataset(pandas.DataFrame({"x": [1.0]}), ("x",))


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int64", "int16", "uint8", "bool"])
def test_what_the_caller_changes_later_changes_no_run(kind: str, tmp_path: Path) -> None:
    keys = {"classes": {"x": 7}} if "int" in kind else {}
    mapped = np.memmap(tmp_path / "data.bin", kind, "w+", shape=(ROWS, WIDTH))
    for container in (lambda a: a, torch.from_numpy, list, lambda a: mapped):
        mapped[:] = WHOLE
        values = container(WHOLE.astype(kind))
        made = [
            make()
            for name, make in sources(values, tmp_path, **keys).items()
            if name not in ("file", "dataset")
        ]
        made.append(envs.from_dataset([(row,) for row in values], ("x",), **keys, **NO_SPLITS))
        for part in values if isinstance(values, list) else [values]:
            part[:] = 0
        for source in made:
            assert torch.equal(
                shown(source).double(), expected(WHOLE.astype(kind)) * (255 if kind == "uint8" else 1)
            )


def test_signals_that_the_caller_changes_change_no_run() -> None:
    random = torch.Generator().manual_seed(0)
    source = envs.from_tensors(x=torch.randn(40, 3, generator=random), label=torch.arange(40) % 3)
    goal = {"kind": "classification", "target": "label"}
    scenario = Scenario(scenario="own", env=source, agents={"a": {"observes": ["x"], "objective": goal}})
    with Simulation(scenario) as run, Simulation(scenario) as other:
        for _ in range(3):
            for signal in run.signals.values():
                signal.zero_()
            run.step()
            other.step()
        pairs = zip(run.agents["a"].parameters.values(), other.agents["a"].parameters.values(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("name", ["age", "held", "returned"])
def test_data_with_the_name_of_what_a_channel_has_may_be_targets(name: str) -> None:
    """Where `observes` or `context` would read it as the channel's, it is refused: `test_worlds.py`."""
    source = envs.from_tensors(**{"x": torch.rand(20, 2), name: torch.rand(20, 1)})
    agent = {"observes": ["x"], "objective": {"kind": "regression", "target": name}}
    with Simulation(Scenario(scenario="own", env=source, agents={"a": agent}, training={"batch": 4})) as run:
        assert "a" in run.step()["losses"]


def test_data_with_the_name_of_what_a_step_returns_may_be_targets_and_are_not_observed() -> None:
    source = envs.from_tensors(x=torch.rand(20, 2), reward=torch.rand(20, 1))
    for observed, target in (("x", "reward"), ("reward", "x")):
        agent = {"observes": [observed], "objective": {"kind": "regression", "target": target}}
        scenario = Scenario(scenario="own", env=source, agents={"a": agent}, training={"batch": 4})
        if target == "reward":
            with Simulation(scenario) as run:
                assert "a" in run.step()["losses"]
            continue
        with pytest.raises(ScenarioError, match=r"'reward' is the name of what a step returns, .*; rename"):
            Simulation(scenario)


def test_data_of_which_all_is_taken_for_targets_say_how_to_name_these() -> None:
    source = envs.from_tensors(years=torch.arange(40), label=torch.arange(40) % 3)
    goal = {"kind": "classification", "target": "label"}
    scenario = Scenario(scenario="own", env=source, agents={"a": {"observes": ["years"], "objective": goal}})
    line = "'years' is a training-only signal, .*; the environment has no observation; .* name the targets alone in training_only"
    with pytest.raises(ScenarioError, match=line):
        Simulation(scenario)


def test_lengths_that_pass_for_labels_say_how_to_observe_them() -> None:
    lengths, label = torch.arange(40) % 5, torch.arange(40) % 3
    goal = {"kind": "classification", "target": "label"}
    agents = {"a": {"observes": ["x", "lengths"], "objective": goal}}
    data = {"x": torch.rand(40, 5), "lengths": lengths, "label": label}
    line = "'lengths' is a training-only .*; observe one of x; if it is no target, name the targets alone in training_only"
    with pytest.raises(ScenarioError, match=line):
        Simulation(Scenario(scenario="own", env=envs.from_tensors(**data), agents=agents))
    source = envs.from_tensors(**data, training_only=["label"])
    with Simulation(Scenario(scenario="own", env=source, agents=agents)) as run:
        run.run(steps=2, progress=False)


def test_a_file_that_is_overwritten_in_place_changes_no_run(tmp_path: Path) -> None:
    """Tensors of safetensors are pages of the file."""
    path = tmp_path / "data.safetensors"
    save_file({"x": torch.ones(5000, 4)}, path)
    source = envs.from_file(path, **NO_SPLITS)
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(bytes(40_000))
    assert shown(source).min() == 1


def test_a_loader_that_fills_one_buffer_is_read_batch_by_batch() -> None:
    class Buffered:
        """Yields the same tensor again and again, with other values."""

        def __iter__(self) -> Any:
            buffer = torch.zeros(5, 1)
            for number in range(4):
                buffer.copy_(torch.arange(5.0)[:, None] + 5 * number)
                yield {"x": buffer}

    env = envs.from_loader(Buffered()).make(batch=3)
    rows = [env.reset(seed=0)[0]["x"], *(env.step(None)[0]["x"] for _ in range(5))]
    assert torch.cat(rows).flatten().tolist() == list(range(18))


def test_a_copy_that_does_not_fit_in_memory_is_refused_with_the_way_to_read_it(monkeypatch: Any) -> None:
    monkeypatch.setattr("antiphon.envs.sources.values._LARGE", 1)
    monkeypatch.setattr(dataset_files, "most_bytes", lambda: 100)
    with pytest.raises(
        DataError, match=r"from_tensors: x: its data take 384 bytes, .*; pass a DataLoader to from_"
    ):
        envs.from_tensors(x=X)


CLASSES = np.arange(ROWS) % 3
MASKS: dict[str, Callable[[Any, Any], Any]] = {
    "tensors": lambda mask, keys: envs.from_tensors(x=X, label=CLASSES, _label=mask, **keys),
    "dataset": lambda mask, keys: envs.from_dataset(
        [*zip(X, CLASSES, mask, strict=True)], ("x", "label", "_label"), **keys
    ),
    "sequences": lambda mask, keys: envs.from_sequences(
        x=[row[:, None] for row in X], label=CLASSES, _label=mask, **keys
    ),
}


@pytest.mark.parametrize("kind", ["bool", "int64", "uint8"])
@pytest.mark.parametrize("source", MASKS)
def test_a_mask_of_labels_is_bool_or_zeros_and_ones_and_no_label_itself(source: str, kind: str) -> None:
    """Where it is False counts as little as the class -100, without `training_only`."""
    there = np.arange(ROWS) > 2
    masked = MASKS[source](there.astype(kind), NO_SPLITS)
    assert list(masked.description.signals) == ["x", "label"]
    assert masked.description.signals["label"].training_only
    assert torch.equal(masked.table.columns["_label"].flatten(), torch.tensor(there))


def test_what_is_missing_counts_in_no_loss() -> None:
    """A masked target trains as the same target with a mask of its own."""
    target = np.ma.array(np.where(HOLES, -999, WHOLE).astype("f4"), mask=HOLES)
    filled = target.filled(5)
    ends = []
    for values in ({"y": target}, {"y": filled, "_y": ~HOLES}):
        env = envs.from_tensors(x=WHOLE.astype("f4"), **values, training_only=["y"], **NO_SPLITS)
        mind = {"observes": ["x"], "objective": {"kind": "regression", "target": "y"}}
        with Simulation(
            Scenario(scenario="m", env=env, agents={"a": mind}, training={"batch": 4, "steps": 6})
        ) as run:
            run.run(progress=False)
            ends.append([parameter.clone() for parameter in run.agents["a"].parameters.values()])
    assert all(map(torch.equal, *ends))
