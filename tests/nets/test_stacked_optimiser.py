"""Stacked optimisers against as many of torch's, whoever takes a step; who does not keeps every bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from antiphon.nets.optimisers import Optimiser, Skip
from antiphon.nets.stacked_optimiser import StackedOptimiser
from antiphon.nets.whole_lines import padded_zeros

Options = dict[str, Any]
DOUBLE = torch.float64
TORCHS: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
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


def stacks(n: int, g: torch.Generator, dtype: torch.dtype = DOUBLE) -> list[Tensor]:
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
        self.optimisers = [TORCHS[kind](own, lr=1.0, **options) for own in self.own]

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
        at = torch.tensor(rate, dtype=DOUBLE) if step % 3 else rate
        mine.step(gradients, at, torch.tensor(chosen) if chosen and step % 2 else chosen)
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
        whole.step(gradients, 0.03, members)
        part.step([row[chosen] for row in gradients], 0.03, [members[n] for n in chosen.tolist()])
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
            mine.step(poisoned, 0.1, members)
            same(before, numbers_of(mine))
        mine.skip = taken
        mine.step(gradients, torch.tensor(0.1, dtype=DOUBLE), members)
        theirs.step(gradients, 0.1, members)
    theirs.equal(parameters)
