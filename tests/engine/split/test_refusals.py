"""What cannot be split or joined is one line that names the place and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError
from antiphon.scenarios import Scenario
from tests.architectures import architecture, numbers, tokens
from tests.engine.numbers import one_line
from tests.engine.split.parts import split_of

MLP = architecture("mlp")


class Small(nn.Module):
    """Three layers; what each test changes is between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.between(self.first(x)))

    def between(self, h: Tensor) -> Tensor:
        return self.second(h)


def small(between: Callable[[Small, Tensor], Any]) -> Small:
    """A small model with its middle replaced."""
    return type("Changed", (Small,), {"between": between})()


def small_split(model: nn.Module, at: Any = ("second",), **settings: Any) -> Scenario:
    """Split a model of `x`, [batch, 7], with five classes."""
    env = antiphon.envs.from_tensors(x=numbers(7)(20, 0), label=tokens(5)(20, 1))
    objective = {"kind": "classification", "target": "label"}
    settings = {"objective": objective, "inputs": {"x": "x"}, "env": env, **settings}
    return antiphon.split(model, at=list(at) if isinstance(at, tuple) else at, **settings)


def test_what_they_are_made_from_can_be_split() -> None:
    for at in (("second",), ("second", "third"), ("third",), 2):
        with Simulation(small_split(Small(), at)) as run:
            run.run(2)


# --- the graph ---------------------------------------------------------------------------------------------


def branch(self: Small, h: Tensor) -> Tensor:
    return self.second(h if h.sum() > 0 else -h)


def loop(self: Small, h: Tensor) -> Tensor:
    for _ in range(int(h.abs().sum())):
        h = h * 0.5
    return self.second(h)


def selected_rows(self: Small, h: Tensor) -> Tensor:
    """Routing by the data, as experts have it: which rows there are, and whether there are any."""
    out = torch.zeros_like(h)
    rows = torch.where(h[:, 0] > 0)[0]
    if rows.numel() == 0:
        return self.second(out)
    out[rows] = self.second(h[rows])
    return out


def selected_numbers(self: Small, h: Tensor) -> Tensor:
    return self.second(h) if len(h[h > 0]) else h


def repeated_by_data(self: Small, h: Tensor) -> Tensor:
    several = h.repeat_interleave((h[:, 0] > 0).long() + 1, dim=0)
    return self.second(h) if several.shape[0] > 3 else h


@pytest.mark.parametrize(
    ("between", "names"),
    [
        (branch, "gt"),
        (loop, "sum_1"),
        (selected_rows, "eq"),
        (selected_numbers, "getitem"),
        (repeated_by_data, "gt_1"),
    ],
)
def test_a_branch_on_data_names_the_node(between: Callable[[Small, Tensor], Any], names: str) -> None:
    with one_line(
        f"split: .*'{names}'.*test_refusals.py:.*depends on the data; put those lines into a submodule"
    ):
        small_split(small(between))


def test_sizes_of_what_is_repeated_by_a_number_are_no_data() -> None:
    def repeated(self: Small, h: Tensor) -> Tensor:
        twice = h.repeat_interleave(2, dim=1)
        chosen = torch.where(h > 0, h, -h)
        return self.second(twice[:, : chosen.shape[1]] if twice.shape[1] > 7 else h)

    with Simulation(small_split(small(repeated))) as run:
        run.run(2)


class Branching(nn.Module):
    """A branch on data within a module that holds no cut."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if bool(x.sum() > 0) else x


def test_a_branch_on_data_within_a_module_without_a_cut_is_its_own_affair() -> None:
    model = Small()
    model.first = Branching()  # type: ignore[assignment]
    with Simulation(small_split(model)) as run:
        run.run(2)


def twice(self: Small, h: Tensor) -> Tensor:
    return self.second(torch.tanh(self.second(h)))


def around(self: Small, h: Tensor) -> Tensor:
    return self.first(self.second(h))


def test_a_module_that_is_called_twice_within_a_part_is_one_module() -> None:
    model = small(twice)
    with Simulation(small_split(model, coupling="locked")) as run:
        (found,) = run.compose()(x=torch.ones(2, 7)).values()
        run.run(2)
        assert antiphon.join(run).state_dict().keys() == model.state_dict().keys()
    assert torch.equal(found, model(torch.ones(2, 7)))


def test_a_module_called_on_both_sides_of_a_cut_names_it() -> None:
    with one_line(
        r"split: 'first.weight' in part0 and 'first.weight' in part1.*called twice.*tie='together'"
    ):
        small_split(small(around))
    with one_line(r"split: .*'first.weight' in part1.*tie='together'"):
        small_split(small(around), tie="copy")
    with Simulation(small_split(small(around), tie="together")) as run:
        run.run(2)


def written(self: Small, h: Tensor) -> Tensor:
    y = self.second(h)
    h.mul_(2.0)
    return y + h


def written_by_function(self: Small, h: Tensor) -> Tensor:
    y = self.second(h)
    F.relu(h, inplace=True)
    return y * h


def written_by_operator(self: Small, h: Tensor) -> Tensor:
    y = self.second(h)
    h += 1
    return y * h


def written_by_item(self: Small, h: Tensor) -> Tensor:
    y = self.second(h)
    h[:, 0] = 1.0
    return y * h


def written_through_a_view(self: Small, h: Tensor) -> Tensor:
    tail = h[:, 1:]
    y = self.second(h)
    tail.zero_()
    return y + h


@pytest.mark.parametrize(
    "between", [written_through_a_view, written, written_by_function, written_by_operator, written_by_item]
)
def test_a_write_in_place_keeps_the_model_s_numbers_or_names_the_tensor(
    between: Callable[[Small, Tensor], Any],
) -> None:
    """What a part writes to in place, another has made: the numbers are the model's, or the line says what to do."""
    model = small(between)
    for at in (("second",), ("third",), ("second", "third")):
        try:
            scenario = small_split(model, at, coupling="locked")
        except antiphon.ScenarioError as error:
            line = str(error)
            assert "\n" not in line
            assert "in place" in line or "in-place" in line
            continue
        x = numbers(7)(4, 3)
        with Simulation(scenario) as run:
            (found,) = run.compose()(x=x.clone()).values()
        assert torch.equal(found, model(x))


def read_elsewhere(self: Small, h: Tensor) -> Tensor:
    y = self.second(h.add_(1.0))
    return y.mul_(h.relu_())


class Overwritten(nn.Module):
    """A skip that a later part writes to, and one later still reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.first(x)
        y = self.second(skip)
        skip.mul_(3.0)
        return self.third(y + 1) + skip[:, :5]


def test_a_write_in_place_that_a_third_part_would_miss_is_refused() -> None:
    with one_line("split: .*(mul_|first).*place"):
        small_split(Overwritten(), ("second", "third"))


# --- shapes ------------------------------------------------------------------------------------------------


def batch_last(self: Small, h: Tensor) -> Tensor:
    return self.second(h.t().mul(2.0).t())


class TimeFirst(nn.Module):
    """[time, batch, features] between its layers, as recurrent models of old have it."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.rnn, self.out = nn.Linear(3, 4), nn.GRU(4, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.inp(x).transpose(0, 1))
        return self.out(y)[-1]


@pytest.mark.parametrize("cut", ["rnn", "out"])
def test_a_batch_axis_that_is_not_first_names_the_tensor(cut: str) -> None:
    env = antiphon.envs.from_tensors(x=numbers(6, 3)(20, 0), label=tokens(5)(20, 1))
    with one_line(r"split: .*test_refusals.py:.*has no batch as its first axis"):
        antiphon.split(TimeFirst(), at=[cut], env=env, inputs={"x": "x"}, objective="label")


def over_the_batch(self: Small, h: Tensor) -> Tensor:
    centre = h.mean(0)
    return self.second(h) - centre


def test_a_tensor_without_a_batch_axis_names_it() -> None:
    with one_line("split: .*mean.*batch"):
        small_split(small(over_the_batch), ("second",))


# --- outputs -----------------------------------------------------------------------------------------------


class Answers(nn.Module):
    """Returns what a test asks for."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(7, 7), nn.Linear(7, 5)
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(self.second(self.first(x)))


@pytest.mark.parametrize("answer", [lambda y: None, lambda y: "logits", lambda y: 3, lambda y: object()])
def test_an_output_that_is_no_tensor_is_refused(answer: Callable[[Tensor], Any]) -> None:
    with one_line("split: .*forward"):
        small_split(Answers(answer))


def test_an_output_that_is_not_there_names_the_nearest() -> None:
    with one_line("split: .*'logit'.*did you mean 'logits'"):
        small_split(Answers(lambda y: {"logits": y, "other": y}), output="logit")
    with one_line("split: .*output.*2"):
        small_split(Answers(lambda y: (y, y)), output=2)
    with one_line(
        r"split: output: 'logits' is no tensor that forward returns \(a tensor \[3, 5\]\); leave output out"
    ):
        small_split(Answers(lambda y: y), output="logits")


def test_a_prediction_that_does_not_fit_the_target_names_both() -> None:
    with one_line(
        r"split: forward returns a tensor \[3, 3\], of which the objective needs 5 numbers a sample for 'label' "
        r"\(5 classes, shape \[\]\)"
    ):
        small_split(Answers(lambda y: y[:, :3]))


# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (["secnd"], "'secnd'.*'second'"),
        (["second.weight"], "'second.weight'"),
        (["second", "thrid"], "'thrid'.*'third'"),
        ([""], "split: at: a list of str; give names of submodules, such as 'first'"),
        ([3], "split: at=.3.: positions are of an nn.Sequential; name submodules of Small, such as 'first'"),
        ([None], "split: at: a list of NoneType; give names"),
        (["second", 2], "split: at: a list of str, int; give names"),
        ("second", r"split: at is 'second'; give a list such as \['first'\]"),
        (True, "split: at is True"),
        (0, "split.*at"),
        (-1, "split.*at"),
        (50, "split.*at"),
        (1.5, "split.*at"),
    ],
)
def test_a_cut_that_is_not_there_names_the_nearest(at: Any, expected: str) -> None:
    with one_line(expected):
        small_split(Small(), at)


def test_a_cut_before_what_is_never_called_says_so() -> None:
    with one_line("split: .*'old_head' is a Linear that forward does not call.*'?neck"):
        split_of(architecture("fine_tuned"), ["old_head"])
    with one_line("split: .*'layers' is a ModuleList that forward does not call; cut before 'layers.0'"):
        split_of(MLP, ["layers"])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"inputs": {"y": "x"}}, "'y'"),
        ({"inputs": {}}, "'x'"),
        ({"inputs": "x"}, r"split: inputs: 'x'; give \{'x': 'x', …\}"),
        ({"objective": 3}, "split: objective: 3; give a target's name"),
        ({"output": 1.5}, "split: output: 1.5 is no tensor"),
        ({"env": 3}, "split: env: int is no environment"),
        ({"parts": [nn.Linear(7, 5)]}, "split: give a model and where to cut it, or parts, not both"),
        ({"inputs": {"x": "xs"}}, "'xs'.*did you mean 'x'"),
        ({"tie": "both"}, "tie.*'both'"),
        ({"objective": {"kind": "classification", "target": "labl"}}, "'labl'"),
        ({"coupling": "loked"}, "loked"),
    ],
)
def test_a_setting_that_is_not_there_names_it(settings: dict[str, Any], expected: str) -> None:
    with one_line(expected):
        Simulation(small_split(Small(), **settings))


@pytest.mark.parametrize("what", [None, 3, "model", Small, lambda x: x])
def test_what_is_no_module_is_refused(what: Any) -> None:
    with one_line("split: .*Module"):
        small_split(what)


@pytest.mark.parametrize("parts", [[], [3], "ab"])
def test_parts_are_modules(parts: Any) -> None:
    with one_line("split: parts is .*; give a list of torch.nn.Module"):
        small_split(None, (), parts=parts)  # type: ignore[arg-type]


# --- weights -----------------------------------------------------------------------------------------------


def test_tied_weights_across_parts_name_themselves_and_both_ways_out() -> None:
    with one_line(r"split: .*transformer\.wte\.weight.*tie='copy'.*tie='together'"):
        split_of(architecture("nanogpt"), ["transformer.h.1"], tie=None)


class Shared(nn.Module):
    """A parameter of its own that both sides of a cut read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(7, 7), nn.Linear(7, 5)
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x) * self.gain) * self.gain


def test_a_parameter_that_both_sides_read_names_itself() -> None:
    with one_line("split: .*gain.*tie="):
        small_split(Shared())
    with one_line(r"split: .*gain.*tie='together'"):
        small_split(Shared(), tie="copy")
    with Simulation(small_split(Shared(), tie="together")) as run:
        run.run(2)


def test_a_forward_that_cannot_be_traced_names_the_way_out() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    model = nn.TransformerEncoder(layer, 3)
    env = antiphon.envs.from_tensors(x=numbers(6, 8)(20, 0), y=numbers(6, 8)(20, 1))
    objective = {"kind": "regression", "target": "y"}
    settings: dict[str, Any] = {"env": env, "objective": objective}
    with one_line(r"split: .* at transformer.py:\d+, .*parts="):
        antiphon.split(model, at=["layers.1"], inputs={"src": "x"}, **settings)


# --- joining -----------------------------------------------------------------------------------------------


def test_a_run_that_no_split_has_made_cannot_be_joined() -> None:
    with Simulation("digits-mlp") as run, one_line("join: .*split", (RunError, antiphon.ScenarioError)):  # type: ignore[arg-type]
        antiphon.join(run)


def test_a_model_of_other_keys_cannot_take_the_parts() -> None:
    with Simulation(small_split(Small())) as run:
        other = Small()
        other.third = nn.Linear(7, 6)
        with one_line("join: run is Scenario; give an antiphon.Simulation", RunError):
            antiphon.join(run.scenario)  # type: ignore[arg-type]
        with one_line("join: into is type; give a torch.nn.Module", RunError):
            antiphon.join(run, into=Small)  # type: ignore[type-var]
        with one_line("join: into: 'first.weight' is on the meta device", RunError):
            antiphon.join(run, into=Small().to("meta"))
        for into in (other, nn.Linear(7, 5), nn.Sequential()):
            before = {k: v.clone() for k, v in into.state_dict().items()}
            with one_line("join: .*(third|weight|first|second)", (RunError, antiphon.ScenarioError)):  # type: ignore[arg-type]
                antiphon.join(run, into=into)
            assert all(torch.equal(v, before[k]) for k, v in into.state_dict().items())
