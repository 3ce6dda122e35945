"""What a forward may do where it is traced, and what is refused there in one line."""

from __future__ import annotations

import functools
import math
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.checkpoint import checkpoint as again

import antiphon
from antiphon.engine.simulation import Simulation
from tests.engine.numbers import one_line
from tests.engine.split.test_awkward import Chain, assert_composed, chain_split

Between = Callable[[Chain, Tensor], Tensor]


KEPT: dict[str, Between] = {
    "devices": lambda self, h: (
        self.second(h.to(next(self.parameters()).device))
        + torch.zeros(h.size(0), 6, device=h.device, dtype=h.dtype)
    ),
    "new_ones": lambda self, h: self.second(h) + h.new_ones(h.shape[0], 1),
    "sizes": lambda self, h: self.second(h) * math.sqrt(h.shape[-1]) / len(h.shape),
    "a scale by the batch": lambda self, h: self.second(h) * h.size(0) ** 0.5,
    "an order by arange": lambda self, h: self.second(h[torch.arange(h.shape[0])]),
    "unbind": lambda self, h: self.second(torch.stack([column * 2 for column in h.unbind(1)], 1)),
    "a loop over sizes": lambda self, h: self.second(sum(h.roll(i, 1) for i in range(h.shape[1]))),
    "a branch on sizes": lambda self, h: self.second(h) if any(size > 3 for size in h.shape) else h,
    "a print": lambda self, h: (f"{h.shape} {h}", self.second(h))[1],
    "a comparison": lambda self, h: self.second(h * (h > 0)),
    "topk": lambda self, h: self.second(h.topk(3, dim=1).values.repeat(1, 2)),
    "statistics of the batch": lambda self, h: self.second((h - h.mean(0)) / h.std(0)),
    "a constant tensor": lambda self, h: self.second(h) * torch.tensor([1.0, 2, 3, 4, 5, 6]),
    "a tensor of a size": lambda self, h: self.second(h) * torch.tensor(h.shape[1]),
    "as_tensor": lambda self, h: self.second(h) * torch.as_tensor(2.0),
    "from numpy": lambda self, h: self.second(h) * torch.from_numpy(NUMPY),
    "a random constant": lambda self, h: self.second(h) + torch.normal(0.0, 1.0, (6,)),
    "random integers": lambda self, h: self.second(h)[:, torch.randint(0, 6, (6,))],
    "a module made on the way": lambda self, h: nn.Sequential(self.second, nn.ReLU())(nn.Tanh()(h)),
    "functional dropout": lambda self, h: self.second(F.dropout(h, 0.2)),
    "partial": lambda self, h: functools.partial(F.leaky_relu, negative_slope=0.1)(self.second(h)),
    "detach": lambda self, h: self.second(h.detach()) + h,
}
NUMPY = torch.arange(6.0).numpy()


@pytest.mark.parametrize("name", list(KEPT))
def test_what_is_kept(name: str) -> None:
    for at in (("second",), ("third",)):
        assert_composed(Chain(KEPT[name]), at)


def loop_over_the_batch(self: Chain, h: Tensor) -> Tensor:
    return self.second(torch.stack([row * 2 for row in h]))


def size_as_int(self: Chain, h: Tensor) -> Tensor:
    return self.second(h.view(int(h.shape[0]), 6))


def branch_on_the_batch(self: Chain, h: Tensor) -> Tensor:
    return self.second(h) if h.size(0) > 2 else -self.second(h)


def check_of_numbers(self: Chain, h: Tensor) -> Tensor:
    assert not torch.isnan(h).any()
    return self.second(h)


def classes_cross(self: Chain, h: Tensor) -> Tensor:
    best = h.argmax(1, keepdim=True)
    return self.second(h).gather(1, best) + h


def buffer_on_the_way(self: Chain, h: Tensor) -> Tensor:
    self.register_buffer("running", h.detach().mean(0))
    return self.second(h)


def depends_on_autograd(self: Chain, h: Tensor) -> Tensor:
    if h.requires_grad:
        h.register_hook(lambda gradient: gradient * 2)
    return self.second(h)


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (loop_over_the_batch, "another batch size.*a loop over it"),
        (size_as_int, r"'view' fails for another batch size.*int\("),
        (branch_on_the_batch, "other numbers for another batch size"),
        (check_of_numbers, "'any_1' .a branch. at test_forwards.py:"),
        (classes_cross, "'argmax' .test_forwards.py:.*torch.int64, which has no gradient"),
        (buffer_on_the_way, "assigns the buffer 'running'"),
        (depends_on_autograd, "needs the value of 'getattr_1' .a branch. at test_forwards.py:"),
    ],
)
def test_what_is_refused(between: Between, expected: str) -> None:
    with one_line(f"split: .*{expected}"):
        chain_split(Chain(between))


# --- contexts ----------------------------------------------------------------------------------------------


def mode_of_calls(self: Chain, h: Tensor) -> Tensor:
    if self.training:
        h = h * 0.5
    return self.second(h)


def without_gradient(self: Chain, h: Tensor) -> Tensor:
    with torch.no_grad():
        y = self.second(h)
    return h + y


def autocast(self: Chain, h: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return self.second(h).float()


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (mode_of_calls, "'mul'.*self.training"),
        (without_gradient, "'second'.*torch.no_grad"),
        (autocast, "'second'.*torch.autocast"),
    ],
)
def test_what_a_graph_does_not_keep_is_named(
    between: Callable[[Chain, Tensor], Tensor], expected: str
) -> None:
    with one_line(f"split: .*{expected}.*a submodule of"):
        chain_split(Chain(between))


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_a_split_is_the_same_without_gradients_around_it(around: Any) -> None:
    with around():
        scenario = chain_split(Chain(), coupling="locked")
    with Simulation(scenario) as run:
        before = antiphon.join(run).get_parameter("first.weight").clone()
        run.run(2)
        assert not torch.equal(antiphon.join(run).get_parameter("first.weight"), before)


class Cube(torch.autograd.Function):
    """A function with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient[0]


def own_backward(self: Chain, h: Tensor) -> Tensor:
    return self.second(Cube.apply(h))  # type: ignore[no-untyped-call]


def checkpointed(self: Chain, h: Tensor) -> Tensor:
    return checkpoint(lambda x: torch.tanh(self.second(x)), h, use_reentrant=False)  # type: ignore[no-any-return]


def checkpointed_under_another_name(self: Chain, h: Tensor) -> Tensor:
    return again(self.second, h, use_reentrant=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("between", [own_backward, checkpointed, checkpointed_under_another_name])
def test_own_functions_of_autograd_and_checkpoints_keep_the_numbers_or_are_one_line(
    between: Callable[[Chain, Tensor], Tensor],
) -> None:
    for at in (("second",), ("third",)):
        try:
            chain_split(Chain(between), at)
        except antiphon.ScenarioError as error:
            line = str(error)
        else:
            assert_composed(Chain(between), at)
            continue
        assert "\n" not in line


# --- buffers -----------------------------------------------------------------------------------------------


class Centred(Chain):
    """Keeps a running mean by hand, in place."""

    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        self.mean.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
        self.count.add_(1)
        return self.third(self.second(h - self.mean))


@pytest.mark.parametrize("backend", ["reference", "cohort"])
def test_statistics_that_a_forward_keeps_by_hand_come_back(backend: str) -> None:
    model = Centred()
    scenario = assert_composed(model, ("second",), coupling="locked")
    assert int(model.count) == 0
    with Simulation(scenario, backend=backend) as run:
        for _ in range(3):
            model(run.world.step_signals.signals["in_x"])
            run.step()
        joined = antiphon.join(run)
    assert int(joined.get_buffer("count")) == 3
    assert not torch.equal(joined.get_buffer("mean"), torch.zeros(6))


# --- outputs -----------------------------------------------------------------------------------------------


@dataclass
class Output:
    """What a model of a library returns."""

    logits: Tensor
    hidden: Tensor


class Found(dict[str, Tensor]):
    """A dict of one's own."""


Pair = namedtuple("Pair", ["logits", "hidden"])


@pytest.mark.parametrize(
    ("answer", "outputs"),
    [
        (lambda y, h: Output(y, h), (None, "logits")),
        (lambda y, h: Found(logits=y, hidden=h), (None, "logits")),
        (lambda y, h: OrderedDict(logits=y, hidden=h), (None, "logits")),
        (lambda y, h: {"out": {"logits": y}, "hidden": h}, (None, "out", "out.logits")),
        (lambda y, h: Pair(y, h), (None, 0)),
        (lambda y, h: [h, y], (None, 1)),
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

    for output in outputs:
        assert list(chain_split(Answering(), output=output).agents) == ["part0", "part1"]


class Assigned(Chain):
    """Its forward is chosen as it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = self.plain  # type: ignore[method-assign]

    def plain(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)))


def test_a_forward_that_is_assigned_is_traced() -> None:
    assert_composed(Assigned())
