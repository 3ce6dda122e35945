"""What a model may be, and what its forward may do: the parts have its numbers, and it comes back as it was."""

from __future__ import annotations

import copy
import math
import sys
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import antiphon
from antiphon import ScenarioError, ScenarioWarning, Simulation
from tests.kit.tensors import same
from tests.splitting.models import ARCHITECTURES, numbers
from tests.splitting.parts import BATCH, Chain, assert_composed, chain_split, composed, split_of


def drop_path(self: Chain, h: Tensor) -> Tensor:
    y = self.second(h)
    keep = y.new_empty((y.shape[0],) + (1,) * (y.ndim - 1)).bernoulli_(0.5)
    keep.div_(0.5)
    return h + y * keep


NUMPY = torch.arange(7.0).numpy()
KEPT: dict[str, Callable[[Any, Tensor], Any]] = {
    "devices": lambda self, h: (
        self.second(h.to(next(self.parameters()).device))
        + torch.zeros(h.size(0), 7, device=h.device, dtype=h.dtype)
    ),
    "sizes": lambda self, h: self.second(h) * math.sqrt(h.shape[-1]) / len(h.shape),
    "a scale by the batch": lambda self, h: self.second(h) * h.size(0) ** 0.5,
    "an order by arange": lambda self, h: self.second(h[torch.arange(h.shape[0])]),
    "unbind": lambda self, h: self.second(torch.stack([column * 2 for column in h.unbind(1)], 1)),
    "a rounded size": lambda self, h: self.second(h) * round(h.shape[1] * 0.7) / round(h.shape[1] / 2, 1),
    "a loop over sizes": lambda self, h: self.second(sum(h.roll(i, 1) for i in range(h.shape[1]))),
    "a branch on sizes": lambda self, h: self.second(h) if any(size > 3 for size in h.shape) else h,
    "questions of torch's": lambda self, h: (
        self.second(h) if torch.is_tensor(h) and torch.is_floating_point(h) and torch.numel(h) > 6 else h
    ),
    "a print": lambda self, h: (f"{h.shape} {h}", self.second(h))[1],
    "a comparison": lambda self, h: self.second(h * (h > 0)),
    "statistics of the batch": lambda self, h: self.second((h - h.mean(0)) / h.std(0)),
    "a constant tensor": lambda self, h: self.second(h) * torch.tensor([1.0, 2, 3, 4, 5, 6, 7]),
    "a type by its old name": lambda self, h: self.second(h * (h > 0).type(torch.FloatTensor).type_as(h)),
    "a tensor of a size": lambda self, h: self.second(h) * torch.tensor(h.shape[1]),
    "from numpy": lambda self, h: self.second(h) * torch.from_numpy(NUMPY),
    "random integers": lambda self, h: self.second(h)[:, torch.randint(0, 7, (7,))],
    "noise": lambda self, h: self.second(h + torch.randn_like(h)) + torch.rand(h.shape[0], 1),
    "dropout": lambda self, h: self.second(F.dropout(h, 0.5, self.training)),
    "dropout in both modes": lambda self, h: self.second(F.dropout(h, 0.2)),
    "drop path": drop_path,
    "a module made on the way": lambda self, h: nn.Sequential(self.second, nn.ReLU())(nn.Tanh()(h)),
    "detach": lambda self, h: self.second(h.detach()) + h,
    "a checkpoint": lambda self, h: checkpoint(self.second, h, use_reentrant=False),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name: str) -> None:
    for at in (("second",), ("third",)):
        assert_composed(Chain(KEPT[name]), at)


@pytest.mark.cases(2)
@pytest.mark.parametrize("at", [("third", "second"), 1, 2, 3, ()])
def test_cuts_in_any_order_and_numbers_of_parts(at: Any) -> None:
    scenario = assert_composed(Chain(), at)
    assert len(scenario.agents) == (at if isinstance(at, int) else 1 + len(set(at)))


# --- modes and precision -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it imports its compiler
def test_a_model_that_is_to_be_compiled_in_place_is_split() -> None:
    model = Chain()
    model.compile()
    model.second.compile()
    with pytest.warns(
        ScenarioWarning, match="^(model|'second') is compiled in place .* uncompiled"
    ) as caught:
        assert_composed(model)
    assert {str(w.message).partition(" is compiled")[0] for w in caught} == {"model", "'second'"}


def test_a_model_in_eval_mode_trains_in_train_mode_and_comes_back_in_its_own() -> None:
    mlp = ARCHITECTURES["mlp"]
    model = mlp.model(dropout=0.5).eval()
    scenario = split_of(mlp, ("layers.1",), model)
    arguments = mlp.example(3)
    assert not torch.equal(*(composed(scenario, arguments, training=True) for _ in range(2)))
    with Simulation(scenario) as run:
        joined = antiphon.join(run)
    assert not any(module.training for module in joined.modules())
    same(joined(**arguments), model(**arguments))


def test_a_model_comes_back_in_its_own_precision() -> None:
    model = Chain().double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + 1e-9)
    with Simulation(chain_split(model), dtype=torch.float64) as run:
        joined = antiphon.join(run)
        run.run(2)
        trained = antiphon.join(run)
    for name, value in model.state_dict().items():
        assert joined.state_dict()[name].dtype == torch.float64
        assert torch.equal(joined.state_dict()[name], value)
    assert not torch.equal(trained.get_parameter("third.weight"), model.third.weight)
    with Simulation(chain_split(model)) as run:  # a float32 run of it
        run.run(2)
        assert antiphon.join(run).get_parameter("third.weight").dtype == torch.float64


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_a_split_is_the_same_without_gradients_around_it(around: Any) -> None:
    with around():
        scenario = chain_split(Chain(), coupling="locked")
    with Simulation(scenario) as run:
        before = antiphon.join(run).get_parameter("first.weight").clone()
        run.run(2)
        assert not torch.equal(antiphon.join(run).get_parameter("first.weight"), before)


# --- what is around a forward ------------------------------------------------------------------------------


class Remembers(Chain):
    """Keeps its activations, counts its calls, and takes whatever comes beside its argument."""

    last: Tensor | None = None
    calls = 0

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        h = self.first(x)
        self.last = h
        self.calls += 1
        return self.third(self.second(h))


def test_a_model_that_remembers_its_activations_is_left_alone() -> None:
    model = Remembers()
    assert_composed(model)
    assert model.last is None
    assert model.calls == 0


class Branching(nn.Linear):
    """A branch on data within a module that holds no cut."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if bool(x.sum() > 0) else x


class Assigned(Chain):
    """Its forward is chosen as it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Branching(7, 7)
        self.forward = self.plain  # type: ignore[method-assign]

    def plain(self, x: Tensor) -> Any:
        return self.third(self.second(self.first(x)))


def test_a_forward_that_is_assigned_and_branches_within_a_module_without_a_cut_are_traced() -> None:
    assert_composed(Assigned())


@pytest.mark.parametrize("place", ["second", ""])
def test_hooks_run_in_the_parts(place: str) -> None:
    model = Chain()
    plain = model(torch.ones(1, 7))
    model.get_submodule(place).register_forward_hook(lambda module, given, output: output * 2)
    assert not torch.equal(model(torch.ones(1, 7)), plain)
    assert_composed(model)


def test_normed_weights_come_back_under_their_keys() -> None:
    model = Chain()
    nn.utils.parametrizations.weight_norm(model.second)
    nn.utils.parametrizations.spectral_norm(model.third)
    scenario = chain_split(model, ("second", "third"))
    x = numbers(7)(3, 0)
    same(composed(scenario, {"x": x}, training=False), copy.deepcopy(model).eval()(x))
    with Simulation(scenario) as run:
        run.run(2)
        assert antiphon.join(run).state_dict().keys() == model.state_dict().keys()


class Stated(nn.Linear):
    """A layer with more in its state than tensors."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"version": 3}


def test_extra_state_and_a_module_under_two_names_come_back() -> None:
    model = Chain()
    model.second = Stated(7, 7)
    model.alias = model.second  # type: ignore[assignment]
    with Simulation(assert_composed(model)) as run:
        run.run(2)
        joined = antiphon.join(run)
        antiphon.join(run, into=model)
    assert list(joined.state_dict()) == list(model.state_dict())
    assert joined.state_dict()["second._extra_state"] == {"version": 3}
    assert joined.alias is joined.second


class Centred(Chain):
    """Keeps a running mean by hand, in place."""

    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(7))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x: Tensor) -> Any:
        h = self.first(x)
        self.mean.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
        self.count.add_(1)
        return self.third(self.second(h - self.mean))


def test_statistics_that_a_forward_keeps_by_hand_come_back() -> None:
    model = Centred()
    scenario = assert_composed(model, coupling="locked", optimiser={"kind": "sgd", "lr": 1e-30})
    assert int(model.count) == 0
    with Simulation(scenario) as run:
        for _ in range(3):
            model(run.signals["x"])
            run.step()
        joined = antiphon.join(run)
    assert int(joined.get_buffer("count")) == 3
    torch.testing.assert_close(joined.get_buffer("mean"), model.mean)


class Leaky(nn.Linear):
    """Keeps what its units hold in a buffer that gets the size of the batch, as snnTorch does."""

    held: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("held", torch.zeros(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        before = self.held if self.held.shape == x.shape else torch.zeros_like(x)
        self.held = (0.5 * before + x).detach()
        return x + before


def test_a_buffer_that_a_forward_replaces_by_one_of_another_size_is_saved_and_joined(tmp_path: Path) -> None:
    model = Chain()
    model.second = Leaky(7, 7)
    scenario = chain_split(model, coupling="locked")
    with Simulation(scenario) as run:
        run.run(2)
        saved = run.save(tmp_path / "point")
        run.run(3)
        expected = antiphon.join(run)
    with Simulation.load(saved, scenario) as run:
        run.run(2)
        first = antiphon.join(run)
        run.run(1)
        found = antiphon.join(run, into=first)
    assert expected.get_buffer("second.held").shape == (BATCH, 7)
    for own in ("named_parameters", "named_buffers"):
        for (name, value), (_, other) in zip(getattr(expected, own)(), getattr(found, own)(), strict=True):
            assert torch.equal(value, other), name


class Enclosed(Chain):
    """Calls layers in functions that it keeps, as minGPT does."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.ModuleDict({"second": self.second})
        self.calls = [lambda h, last=self.third: (layers.second(h), last)]

        def between(_: object, h: Tensor, depth: int = 1) -> Tensor:
            return between(self, h, 0) if depth else torch.tanh(self.calls[0](h)[0])

        self.between = between


@pytest.mark.cases(1)
@pytest.mark.parametrize("at", [("second",), ("third",), ()])
def test_functions_of_a_model_that_enclose_it_call_what_is_trained(at: tuple[str, ...]) -> None:
    model = Enclosed()
    x = numbers(7)(5, 1)
    with Simulation(assert_composed(model, at, coupling="locked")) as run:
        run.run(2)
        joined: Any = antiphon.join(run).eval()
        (found,) = run.compose()(x=x).values()
    same(joined(x), found)
    assert not torch.equal(joined.second.weight, model.second.weight)
    assert joined.calls[0](x)[1] is joined.third


class Moved(Chain):
    """Has a `cpu` of its own, which returns nothing."""

    def cpu(self) -> None:  # type: ignore[override]
        super().cpu()


def test_a_model_whose_cpu_returns_nothing_is_split_and_is_a_network() -> None:
    with Simulation(assert_composed(Moved())) as run:
        run.run(1)
        assert type(antiphon.join(run)) is Moved


def test_functions_of_einops_are_recorded_wherever_a_file_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def rearrange(tensor: Tensor, pattern: str) -> Tensor:
        if type(tensor) is not Tensor:
            raise RuntimeError(f"Tensor type unknown to einops {type(tensor)}")
        return tensor.flip(1) if pattern == "b n -> b n" else tensor

    for name in ("einops", "helpers"):  # a file with `from einops import rearrange`
        module: Any = ModuleType(name)
        module.rearrange = rearrange
        monkeypatch.setitem(sys.modules, name, module)
    helpers, einops = sys.modules["helpers"], sys.modules["einops"]
    model = Chain(
        lambda self, h: einops.rearrange(self.second(helpers.rearrange(h, "b n -> b n")), "b n -> b n")
    )
    assert_composed(model)
    assert einops.rearrange is helpers.rearrange is rearrange


# --- outputs -----------------------------------------------------------------------------------------------


@dataclass
class Output:
    """What a model of a library returns."""

    logits: Tensor
    hidden: Tensor


Pair = namedtuple("Pair", ["logits", "hidden"])


@dataclass
class Answer(OrderedDict[str, Any]):
    """An output that is a dict with attributes, as Hugging Face's models have."""

    loss: Tensor | None = None
    logits: Any = None
    hidden: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "logits", "hidden"):
            if getattr(self, name) is not None:
                self[name] = getattr(self, name)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(self.values())


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("answer", "outputs"),
    [
        (lambda y, h: Output(y, h), ("logits",)),
        (lambda y, h: OrderedDict(logits=y, hidden=h), ("logits",)),
        (lambda y, h: Answer(logits=y, hidden=h), ("logits",)),
        (lambda y, h: UserDict(logits=y, hidden=h), ("logits",)),
        (lambda y, h: {"out": {"logits": y}, "hidden": h}, ("out", "out.logits")),
        (lambda y, h: Pair(y, h), (0, "logits")),
        (lambda y, h: [h, y], (1,)),
        (lambda y, h: (y, None, 3, "text"), (None, 0)),
    ],
)
def test_the_prediction_is_found_among_the_outputs(
    answer: Callable[[Tensor, Tensor], Any], outputs: tuple[Any, ...]
) -> None:
    class Answering(Chain):
        def forward(self, x: Tensor) -> Any:
            h = self.first(x)
            return answer(self.third(self.second(h)), h)

    x = numbers(7)(3, 0)
    model = Answering()
    for output in outputs:
        found = composed(chain_split(model, output=output), {"x": x}, training=False)
        same(found, model.third(model.second(model.first(x))))


class Paired(Chain):
    def forward(self, x: Tensor) -> Any:
        h = self.first(x)
        return Pair(self.third(self.second(h)), h)


def test_outputs_of_a_named_tuple_have_names() -> None:
    line = r"forward returns logits \[3, 5\], hidden \[3, 7\]; give output='logits'"
    with pytest.raises(ScenarioError, match=line):
        chain_split(Paired())
    with pytest.raises(ScenarioError, match=r"output: 'logit' is no tensor .*did you mean 'logits'"):
        chain_split(Paired(), output="logit")
    goal = {"kind": "classification", "target": "label"}
    for hidden in ("hidden", 1):
        chain_split(Paired(), objective=None, objectives={"logits": goal, hidden: None})


@pytest.mark.parametrize(
    "given", [{"coupling": "locked"}, {"gradient": "local"}, {"delay": 1}, {"bits": 8}], ids=str
)
def test_what_channels_have_is_said_to_have_no_effect_without_one(given: dict[str, Any]) -> None:
    (name, value), *_ = given.items()
    with pytest.warns(
        ScenarioWarning, match=rf"^split: {name}={value!r} has no effect, since there is one part"
    ):
        chain_split(Chain(), (), **given)


def test_an_own_loss_of_other_outputs_needs_a_size() -> None:
    def counted(output: Tensor, target: Tensor) -> Tensor:
        return output.square().mean(1)

    goal = {"kind": counted, "target": "label"}
    line = r"needs 5 values per sample .*; if counted reads others, make it a class with a method size\("
    model = Chain()
    model.third = nn.Linear(7, 8)
    with pytest.raises(ScenarioError, match=line):
        chain_split(model, objective=goal)


class Down(nn.Linear):
    """A block on the way down, which returns what is read on the way up beside its result, as those of diffusers do."""

    def forward(self, x: Tensor) -> Any:
        h = torch.tanh(super().forward(x))
        return h, (h[:, :3], h * 2)


class Skipping(Chain):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Down(7, 7), Down(7, 7)

    def forward(self, x: Tensor) -> Any:
        kept: Any = (x,)
        h, more = self.first(x)
        kept += more
        h, more = self.second(h)
        more += kept[-1:]
        return self.third(h) + (more[-2] + more[-1])[:, :5]


def test_tensors_of_added_tuples_cross_from_where_they_are_computed() -> None:
    scenario = assert_composed(Skipping(), ("second", "third"))
    ends = [(channel.sender, channel.receiver, channel.size) for channel in scenario.channels]
    assert sorted(ends) == [("part0", "part1", 7), ("part0", "part2", 7)] + [("part1", "part2", 7)] * 2


class Positional(Chain):
    def forward(self, x: Tensor, /, scale: float = 2.0) -> Any:
        return super().forward(x * scale)


def test_an_argument_that_is_given_by_position_alone_is_read() -> None:
    assert_composed(Positional())


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Answer:
        return Answer(logits=self.linear(x))


class Answering(nn.Module):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, found: Answer) -> Any:
        return self.answer(found["logits"])


def reading(read: Callable[[Any], Any]) -> Chain:
    """A model of which a submodule returns a dict with attributes, which is read behind the cut."""

    class Reading(Chain):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()

        def forward(self, x: Tensor) -> Any:
            found = self.block(x)
            return self.third(self.second(x) + read(found))

    return Reading()


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    "read",
    [
        lambda found: found.logits,
        lambda found: found["logits"],
        lambda found: found[0],
        lambda found: {**found}["logits"],
        lambda found: dict(found.items())["logits"],
        lambda found: found[:1][0],
    ],
)
def test_a_dict_with_attributes_is_read_behind_a_cut(read: Callable[[Any], Any]) -> None:
    assert_composed(reading(read))


def test_what_of_a_dict_cannot_be_read_behind_a_cut_is_refused_with_its_line() -> None:
    with pytest.raises(
        ScenarioError, match=r"'block' \(test_forwards.py:\d+\) .* is an Answer, of which .*py:\d+"
    ):
        chain_split(reading(lambda found: found.to_tuple()[0]))


@pytest.mark.parametrize(
    "answer",
    [
        lambda h: (h, h[:, :2]),
        lambda h: {0: h, "other": h[:, :2], "layers": 3},
        lambda h: [Output(h, h[:, :2])],
        lambda h: Pair(h, None),
    ],
)
def test_of_what_a_submodule_returns_the_items_that_are_read_behind_a_cut_cross_and_each_once(
    answer: Callable[[Tensor], Any],
) -> None:
    model = reading(lambda found: sum(getattr(found[0], "logits", found[0]) for _ in range(2)))
    model.block = nn.Sequential(Block(), Answering(answer))  # type: ignore[assignment]
    assert [channel.size for channel in assert_composed(model).channels] == [7]


class Masked(Chain):
    """A chain with an input that a call may leave out."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
        return super().forward(x if mask is None else x * mask)


@pytest.mark.parametrize(
    ("inputs", "observed"),
    [(None, ("x", "mask")), ({"x": "x"}, ("x",)), ({"mask": "mask"}, ("x", "mask"))],
    ids=["all", "named", "the other"],
)
def test_an_argument_with_a_default_is_the_observation_of_its_name(
    inputs: Any, observed: tuple[str, ...]
) -> None:
    env = antiphon.envs.from_tensors(x=numbers(7)(20, 0), mask=numbers(7)(20, 1), label=torch.arange(20) % 5)
    scenario = antiphon.split(Masked(), at=["second"], env=env, inputs=inputs)
    assert scenario.agents["part0"].observes == observed


class Grouped(nn.Module):
    """Tokens that become a map with its channels last in memory, as those of a diffusion UNet's attention, and a group norm of it."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.norm, self.out = nn.Linear(7, 64), nn.GroupNorm(2, 4), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x).view(-1, 16, 4).transpose(1, 2).view(-1, 4, 4, 4)
        return self.out(self.norm(h).flatten(1))


def test_a_group_norm_of_a_map_with_its_channels_last_learns_behind_a_cut() -> None:
    """Without a gradient of the map, torch's backward of it ends the process."""
    with Simulation(chain_split(Grouped(), ("norm",), coupling="detached")) as run:
        run.run(2)
        assert not torch.equal(antiphon.join(run).get_parameter("norm.bias"), torch.zeros(4))
