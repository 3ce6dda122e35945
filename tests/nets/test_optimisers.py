"""Optimisers against torch's, alone and stacked, and schedules at their corners; who takes no step keeps every bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from antiphon.nets.optimisers import Optimiser, Skip, clipped
from antiphon.nets.schedules import CosineSchedule, LinearSchedule, Rate, Schedule, StepsSchedule
from antiphon.nets.stacked_optimiser import StackedOptimiser
from antiphon.nets.whole_lines import padded_zeros
from tests.kit.tensors import DOUBLE

TORCHS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def _step(
    optimiser: Optimiser,
    gradients: Sequence[Tensor | None],
    rate: float | Tensor,
    members: Sequence[bool] | Tensor | None = None,
) -> None:
    with torch.no_grad():
        for call, numbers in optimiser.calls(gradients, rate, members):
            optimiser.run([call], numbers)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [("sgd", {}), ("sgd", {"momentum": 0.9}), ("adam", {}), ("adamw", {})],
)
def test_it_equals_torchs(kind: str, settings: dict[str, Any], weight_decay: float) -> None:
    g = torch.Generator().manual_seed(0)
    start = [torch.randn(4, 3, dtype=DOUBLE, generator=g), torch.randn(3, dtype=DOUBLE, generator=g)]
    mine = [p.clone() for p in start]
    theirs = [p.clone().requires_grad_() for p in start]
    own = Optimiser(kind, mine, weight_decay=weight_decay, **settings)
    reference = TORCHS[kind](theirs, lr=1.0, weight_decay=weight_decay, **settings)  # type: ignore[call-arg]
    for step in range(15):
        gradients = [torch.randn(p.shape, dtype=DOUBLE, generator=g) for p in start]
        rate = 0.05 / (1 + step)
        reference.param_groups[0]["lr"] = rate
        for p, gradient in zip(theirs, gradients, strict=True):
            p.grad = gradient
        reference.step()
        _step(own, gradients, rate)
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q.data, atol=1e-12, rtol=0)


@pytest.mark.parametrize("stacked", [False, True])
def test_steps_are_counted_once_for_all_parameters(stacked: bool) -> None:
    """One without a gradient stays, and is corrected later as if it had had zeros."""
    start = [torch.ones(2, 3, dtype=DOUBLE), torch.ones(2, 1, dtype=DOUBLE)]
    late, zeros = ([p.clone() for p in start] for _ in range(2))
    for parameters, nothing in ((late, None), (zeros, torch.zeros_like(start[1]))):
        own = (StackedOptimiser if stacked else Optimiser)("adam", parameters)
        for gradient in (nothing, torch.full_like(start[1], 0.3)):
            _step(own, [torch.ones_like(start[0]), gradient], 0.1)
    torch.testing.assert_close(late, zeros, atol=1e-15, rtol=0)


@pytest.mark.parametrize("clip", [2.0, 5.0, 7.0])
def test_a_gradient_is_clipped_as_torch_does_and_is_left_alone(clip: float) -> None:
    parameters = [torch.zeros(1, dtype=DOUBLE), torch.zeros(2, dtype=DOUBLE)]
    gradients = [torch.tensor([3.0], dtype=DOUBLE), torch.tensor([0.0, -4.0], dtype=DOUBLE)]
    _step(Optimiser("sgd", parameters), clipped(gradients, clip, by_member=False), 1.0)
    theirs = [nn.Parameter(torch.zeros_like(p)) for p in parameters]
    for p, g in zip(theirs, gradients, strict=True):
        p.grad = g.clone()
    nn.utils.clip_grad_norm_(theirs, clip)
    for p, q in zip(parameters, theirs, strict=True):
        assert q.grad is not None
        torch.testing.assert_close(p, -q.grad, rtol=0, atol=1e-15)
    assert gradients[0] == 3


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule(), {0: 1, 0.5: 1, 1: 1, 3: 1}),
        (
            StepsSchedule(at=(0.5, 0.8), scale=0.1),
            {0: 1, 0.49: 1, 0.5: 0.1, 0.79: 0.1, 0.8: 0.01, 1: 0.01, 9: 0.01},
        ),
        (LinearSchedule(scale=0.2), {0: 1, 0.5: 0.6, 1: 0.2, 2: 0.2}),
        (CosineSchedule(scale=0.2), {0: 1, 0.5: 0.6, 1: 0.2, 2: 0.2}),
        (CosineSchedule(scale=0.0), {0.25: 0.5 + math.sqrt(0.125)}),
        (Schedule(warmup=0.2), {0: 0, 0.1: 0.5, 0.2: 1, 1: 1}),
        (CosineSchedule(scale=0.0, warmup=0.5), {0.25: 0.5 * (0.5 + math.sqrt(0.125)), 1: 0}),
        (LinearSchedule(scale=0.0, warmup=0.5), {0.25: 0.5 * 0.75, 0.5: 0.5, 1: 0}),
    ],
)
def test_schedules_at_their_corners(schedule: Schedule, values: dict[float, float]) -> None:
    for progress, value in values.items():
        assert schedule(progress) == pytest.approx(value, abs=1e-12), progress


def test_a_rate_counts_steps_of_its_horizon_and_holds_beyond() -> None:
    rate = Rate(base=0.1, run_steps=200, schedule=StepsSchedule(at=(0.5,), scale=0.5))
    assert [rate(step) for step in (0, 99, 100, 200, 10**9)] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.05])
    assert Rate(base=0.1, run_steps=0)(5) == 0.1


# --- stacked ---------------------------------------------------------------------------------------------


Options = dict[str, Any]
DOUBLE_STACKED_OPTIMISER = torch.float64
STACKED_TORCHS: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
KINDS: list[tuple[str, Options]] = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    ("adam", {}),
    ("adam", {"weight_decay": 0.1}),
    ("adamw", {"weight_decay": 0.1}),
]
SHAPES = [(5, 3), (3,), (), (2, 3, 7)]
every_kind = pytest.mark.parametrize(("kind", "options"), KINDS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stacks(n: int, g: torch.Generator, dtype: torch.dtype = DOUBLE_STACKED_OPTIMISER) -> list[Tensor]:
    return [torch.randn(n, *shape, dtype=dtype, generator=g) for shape in SHAPES]


def some(n: int, g: torch.Generator) -> list[bool]:
    return [bool(moves) for moves in torch.rand(n, generator=g) < 0.5]


def members_of(parameters: Sequence[Tensor], kind: str, **options: Any) -> list[Optimiser]:
    return [Optimiser(kind, [p[n] for p in parameters], **options) for n in range(len(parameters[0]))]


def numbers_of(stacked: StackedOptimiser) -> list[Tensor]:
    return [*stacked.parameters, *(t for tensors in stacked.state.values() for t in tensors)]


def same(one: Sequence[Tensor], other: Sequence[Tensor], member: int | None = None) -> None:
    """Both have the same bits; of one member, where it is named."""
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b) if member is None else torch.equal(a[member], b[member])


class Torchs:
    """One of torch's optimisers for each member."""

    def __init__(self, parameters: Sequence[Tensor], kind: str, **options: Any) -> None:
        self.own = [[p[n].clone().requires_grad_() for p in parameters] for n in range(len(parameters[0]))]
        options = {"weight_decay": 0.0} | options
        self.optimisers = [STACKED_TORCHS[kind](own, lr=1.0, **options) for own in self.own]

    def step(self, gradients: Sequence[Tensor], rate: float, members: Sequence[bool]) -> None:
        for n, (own, optimiser) in enumerate(zip(self.own, self.optimisers, strict=True)):
            if members[n]:
                optimiser.param_groups[0]["lr"] = rate
                for p, g in zip(own, gradients, strict=True):
                    p.grad = g[n].clone()
                optimiser.step()

    def equal(self, parameters: Sequence[Tensor]) -> None:
        for n, own in enumerate(self.own):
            for p, q in zip(parameters, own, strict=True):
                torch.testing.assert_close(p[n], q.data, atol=1e-12, rtol=0)


Made = tuple[list[Tensor], Torchs, StackedOptimiser, torch.Generator]


def made(n: int, kind: str, options: Options) -> Made:
    g = generator()
    parameters = stacks(n, g)
    return (
        parameters,
        Torchs(parameters, kind, **options),
        StackedOptimiser(kind, parameters, **options),
        g,
    )


@pytest.mark.long
@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.none() | st.lists(st.booleans(), min_size=4, max_size=4), min_size=10, max_size=20),
    st.integers(0, 1000),
)
def test_it_equals_torchs_whoever_steps_when(
    of: tuple[str, Options], pattern: list[list[bool] | None], seed: int
) -> None:
    kind, options = of
    g = generator(seed)
    parameters = stacks(4, g)
    theirs = Torchs(parameters, kind, **options)
    members = members_of(parameters, kind, **options)
    mine = StackedOptimiser.of(members, parameters)
    for step, chosen in enumerate(pattern):
        gradients, rate = stacks(4, g), 0.05 / (1 + step)
        before = [t.clone() for t in numbers_of(mine)]
        theirs.step(gradients, rate, chosen or [True] * 4)
        at = torch.tensor(rate, dtype=DOUBLE_STACKED_OPTIMISER) if step % 3 else rate
        _step(mine, gradients, at, torch.tensor(chosen) if chosen and step % 2 else chosen)
        for n in range(4):
            if chosen and not chosen[n]:
                same(before, numbers_of(mine), n)
    theirs.equal(parameters)
    if kind != "sgd":
        counts = [sum(c is None or c[n] for c in pattern) for n in range(4)]
        assert [int(m.state["steps"][0]) for m in members] == counts


@pytest.mark.parametrize(("kind", "options"), KINDS[3:])
def test_a_member_has_the_same_bits_in_any_stack_and_with_any_others(kind: str, options: Options) -> None:
    g, dtype = generator(), torch.float32
    first = stacks(7, g, dtype)
    chosen = torch.tensor([1, 2, 6])

    def stack_of(rows: list[Tensor]) -> StackedOptimiser:
        padded = [torch.stack(list(row), out=padded_zeros(row.shape, row)) for row in rows]
        return StackedOptimiser(kind, padded, **options)

    whole, part = stack_of(first), stack_of([row[chosen] for row in first])
    for step in range(30):
        gradients, members = stacks(7, g, dtype), some(7, g)
        members = [True] * 7 if step % 3 == 0 else members
        _step(whole, gradients, 0.03, members)
        _step(part, [row[chosen] for row in gradients], 0.03, [members[n] for n in chosen.tolist()])
    for k, n in enumerate(chosen.tolist()):
        same([t[n] for t in numbers_of(whole)], [t[k] for t in numbers_of(part)])


@every_kind
def test_where_told_to_skip_nobody_moves_and_no_step_is_counted(kind: str, options: Options) -> None:
    skipped, taken = (Skip(torch.tensor(flag), torch.tensor(1.0 - flag)) for flag in (1.0, 0.0))
    parameters, theirs, mine, g = made(4, kind, options)
    for step in range(12):
        gradients, members = stacks(4, g), some(4, g)
        if step % 3 == 0:
            before = [t.clone() for t in numbers_of(mine)]
            poisoned = [torch.full_like(x, torch.nan) for x in gradients]
            mine.skip = skipped
            _step(mine, poisoned, 0.1, members)
            same(before, numbers_of(mine))
        mine.skip = taken
        _step(mine, gradients, torch.tensor(0.1, dtype=DOUBLE_STACKED_OPTIMISER), members)
        theirs.step(gradients, 0.1, members)
    theirs.equal(parameters)
