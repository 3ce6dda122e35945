"""Stacked optimisers against as many of torch's, whoever takes a step; who does not keeps every bit."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from antiphon.nets import optimisers
from antiphon.nets.optimisers import Optimiser, Skip, StackedOptimiser, padded_zeros

Options = dict[str, Any]
DOUBLE = torch.float64
TORCHS: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
KINDS: list[tuple[str, Options]] = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    ("adam", {}),
    ("adam", {"betas": (0.5, 0.9), "weight_decay": 0.1}),
    ("adamw", {"weight_decay": 0.1}),
]
SHAPES = [(5, 3), (3,), (), (2, 3, 7)]
every_kind = pytest.mark.parametrize(("kind", "options"), KINDS)
full_and_half = pytest.mark.parametrize("share", [1.0, 0.5])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stacks(n: int, g: torch.Generator, dtype: torch.dtype = DOUBLE) -> list[Tensor]:
    return [torch.randn(n, *shape, dtype=dtype, generator=g) for shape in SHAPES]


def some(n: int, g: torch.Generator, share: float = 0.5) -> list[bool]:
    return [bool(moves) for moves in torch.rand(n, generator=g) < share]


def members_of(parameters: Sequence[Tensor], kind: str, **options: Any) -> list[Optimiser]:
    return [Optimiser(kind, [p[n] for p in parameters], **options) for n in range(len(parameters[0]))]


def move(members: list[Optimiser], gradients: list[Tensor], chosen: list[bool]) -> None:
    for n, member in enumerate(members):
        if chosen[n]:
            member.step([g[n] for g in gradients], 0.03)


def numbers_of(stacked: StackedOptimiser | Optimiser) -> list[Tensor]:
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


class Watch(TorchDispatchMode):
    """Notes each operation by name, and how many tensors each call of a fused kernel moves."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []
        self.calls: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        if "_fused_" in func.name():
            self.calls.append(len(args[0]))
        return func(*args, **(kwargs or {}))


Made = tuple[list[Tensor], Torchs, StackedOptimiser, torch.Generator]


def made(n: int, kind: str, options: Options) -> Made:
    g = generator()
    parameters = stacks(n, g)
    return parameters, Torchs(parameters, kind, **options), StackedOptimiser(kind, parameters, **options), g


@every_kind
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_it_equals_torchs(kind: str, options: Options, share: float) -> None:
    parameters, theirs, mine, g = made(6, kind, options)
    for step in range(40):
        gradients, members, rate = stacks(6, g), some(6, g, share), 0.05 / (1 + step)
        theirs.step(gradients, rate, members)
        mine.step(gradients, torch.tensor(rate, dtype=DOUBLE) if step % 2 else rate, members)
    theirs.equal(parameters)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.none() | st.lists(st.booleans(), min_size=4, max_size=4), min_size=30, max_size=45),
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
    mine = StackedOptimiser.from_members(members, parameters)
    for step, chosen in enumerate(pattern):
        gradients, rate = stacks(4, g), 0.05 / (1 + step)
        before = [t.clone() for t in numbers_of(mine)]
        theirs.step(gradients, rate, chosen or [True] * 4)
        mine.step(gradients, rate, torch.tensor(chosen) if chosen and step % 2 else chosen)
        for n in range(4):
            if chosen and not chosen[n]:
                same(before, numbers_of(mine), n)
    theirs.equal(parameters)
    if kind != "sgd":
        counts = [sum(c is None or c[n] for c in pattern) for n in range(4)]
        assert [int(m.state["steps"][0]) for m in members] == counts


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize(("kind", "options"), KINDS[3:])
def test_a_member_has_the_same_bits_in_any_stack_and_with_any_others(
    kind: str, options: Options, dtype: torch.dtype
) -> None:
    g = generator()
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


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize(("kind", "options"), KINDS[3:])
def test_some_members_step_with_the_bits_of_separate_optimisers_where_they_fill_whole_lines(
    kind: str, options: Options, dtype: torch.dtype
) -> None:
    g = generator()

    def filled() -> list[Tensor]:
        return [torch.randn(7, *shape, generator=g, dtype=dtype) for shape in [(5, 16), (32,)]]

    parameters = filled()
    alone = members_of([p.clone() for p in parameters], kind, **options)
    mine = StackedOptimiser(kind, parameters, **options)
    for _ in range(30):
        gradients, members = filled(), [False, *some(6, g)]  # never all
        mine.step(gradients, 0.03, members)
        move(alone, gradients, members)
    for n, optimiser in enumerate(alone):
        same([t[n] for t in numbers_of(mine)], numbers_of(optimiser))


@pytest.mark.parametrize(("kind", "options"), [KINDS[2], KINDS[4]])
@full_and_half
def test_each_member_is_clipped_by_its_own_gradients(kind: str, options: Options, share: float) -> None:
    g = generator()
    parameters = stacks(5, g)
    alone = members_of([p.clone() for p in parameters], kind, clip=1.5, **options)
    mine = StackedOptimiser(kind, parameters, clip=1.5, **options)
    lengths = torch.tensor([0.0, 0.01, 0.2, 1.0, 30.0], dtype=DOUBLE)  # some longer than allowed, some not
    for _ in range(30):
        gradients = [x * lengths.view(5, *[1] * (x.ndim - 1)) for x in stacks(5, g)]
        members = some(5, g, share)
        unread = torch.tensor([n for n in range(5) if not members[n]], dtype=torch.long)
        mine.step([x.index_fill(0, unread, torch.nan) for x in gradients], 0.03, members)
        move(alone, gradients, members)
    for n, optimiser in enumerate(alone):
        for p, q in zip(parameters, optimiser.parameters, strict=True):
            torch.testing.assert_close(p[n], q, atol=1e-12, rtol=0)


@every_kind
@pytest.mark.parametrize("clip", [None, 1.0])
@full_and_half
def test_memory_layout_does_not_matter(kind: str, options: Options, clip: float | None, share: float) -> None:
    g = generator()
    plain = torch.randn(4, 3, 5, dtype=DOUBLE, generator=g)
    strided = plain.clone().transpose(1, 2).contiguous().transpose(1, 2)
    one, other = (StackedOptimiser(kind, [p], clip=clip, **options) for p in (plain, strided))
    for _ in range(5):
        gradient, members = torch.randn(4, 3, 5, dtype=DOUBLE, generator=g), some(4, g, share)
        one.step([gradient.permute(1, 2, 0).contiguous().permute(2, 0, 1)], 0.1, members)
        other.step([gradient], 0.1, members)
        one.step([gradient[:1].expand(4, 3, 5)], 0.1, members)
        other.step([gradient[:1].expand(4, 3, 5)], 0.1, members)
    torch.testing.assert_close(plain, strided, atol=1e-12, rtol=0)


@every_kind
def test_members_are_right_at_any_time_and_may_step_alone(kind: str, options: Options) -> None:
    g = generator()
    parameters = stacks(4, g)
    alone = members_of([p.clone() for p in parameters], kind, **options)
    members = members_of(parameters, kind, **options)

    def compare() -> None:
        for own, other in zip(members, alone, strict=True):
            assert list(own.state) == list(other.state)
            torch.testing.assert_close(numbers_of(own), numbers_of(other), atol=1e-12, rtol=0)

    for _ in range(3):  # they come with a past
        gradients, chosen = stacks(4, g), some(4, g)
        move(members, gradients, chosen)
        move(alone, gradients, chosen)
    held = [tensor for m in members for tensor in numbers_of(m)]
    stacked = StackedOptimiser.from_members(members, parameters)
    compare()
    for step in range(12):
        gradients, chosen = stacks(4, g), some(4, g) if step % 3 else [True] * 4
        if step % 4 == 2:
            move(members, gradients, chosen)
            stacked.refresh()
        else:
            stacked.step(gradients, 0.03, chosen)
        move(alone, gradients, chosen)
        compare()
    now = [tensor for m in members for tensor in numbers_of(m)]
    assert all(a is b for a, b in zip(held, now, strict=True)), "who held a tensor of a member still does"


@every_kind
@pytest.mark.parametrize("read", [False, True])
def test_a_state_goes_from_stack_to_stack_whether_or_not_it_was_read(
    kind: str, options: Options, read: bool
) -> None:
    g = generator()
    parameters = stacks(4, g)
    alone = members_of([p.clone() for p in parameters], kind, **options)
    members = members_of(parameters, kind, **options)
    for _ in range(2):
        stacked = StackedOptimiser.from_members(members, parameters)
        held = [tensor for m in members for tensor in m.tensors()] if read else []
        for _ in range(3):
            gradients, chosen = stacks(4, g), some(4, g)
            stacked.step(gradients, 0.03, chosen)
            move(alone, gradients, chosen)
    for own, other in zip(members, alone, strict=True):
        torch.testing.assert_close(own.state, other.state, atol=1e-12, rtol=0)
    now = [tensor for m in members for tensor in m.tensors()] if read else []
    assert all(a is b for a, b in zip(held, now, strict=True))


def test_counts_that_meet_again_and_counts_that_are_loaded_are_seen() -> None:
    g = generator()
    parameters = stacks(3, g)
    theirs, members = Torchs(parameters, "adam"), members_of(parameters, "adam")
    mine = StackedOptimiser.from_members(members, parameters)

    def tensors_moved(chosen: list[bool]) -> int:
        gradients = stacks(3, g)
        theirs.step(gradients, 0.1, chosen)
        with Watch() as watch:
            mine.step(gradients, 0.1, chosen)
        moved: int = watch.calls[0] // len(SHAPES)
        return moved

    everyone = [True] * 3
    assert tensors_moved(everyone) == 1
    assert tensors_moved([True, False, True]) == 2
    assert tensors_moved(everyone) == 3
    assert tensors_moved([False, True, False]) == 1
    assert tensors_moved(everyone) == 1
    theirs.equal(parameters)
    members[1].state["steps"][0].copy_(torch.tensor(2.0))
    mine.refresh()
    assert tensors_moved(everyone) == 3
    mine.state["steps"][0].fill_(7)
    mine.refresh()
    assert tensors_moved(everyone) == 1
    assert [int(m.state["steps"][0]) for m in members] == [8, 8, 8]


def test_members_may_have_rates_of_their_own() -> None:
    parameters, theirs, mine, g = made(4, "adam", {})
    masks = {0.1: [True, False, True, False], 0.02: [False, True, False, False]}
    for _ in range(30):
        gradients = stacks(4, g)
        for rate, members in masks.items():
            mine.step(gradients, rate, members)
            theirs.step(gradients, rate, members)
    theirs.equal(parameters)


@every_kind
@full_and_half
def test_where_told_to_skip_nobody_moves_and_no_step_is_counted(
    kind: str, options: Options, share: float
) -> None:
    skipped, taken = (Skip(torch.tensor(flag), torch.tensor(1.0 - flag)) for flag in (1.0, 0.0))
    parameters, theirs, mine, g = made(4, kind, options)
    for step in range(30):
        gradients, members = stacks(4, g), some(4, g, share)
        if step % 3 == 0:
            before = [t.clone() for t in numbers_of(mine)]
            poisoned = [torch.full_like(x, torch.nan) for x in gradients]
            mine.step(poisoned, 0.1, members, skip=skipped)
            same(before, numbers_of(mine))
        with Watch() as watch:
            mine.step(gradients, torch.tensor(0.1, dtype=DOUBLE), members, skip=taken)
        assert "aten::_local_scalar_dense" not in watch.names, "the host asks for no number"
        theirs.step(gradients, 0.1, members)
    theirs.equal(parameters)


def test_a_copy_goes_its_own_way() -> None:
    g = generator()
    parameters = stacks(4, g)
    members = members_of(parameters, "adam")
    mine = StackedOptimiser.from_members(members, parameters)
    mine.step(stacks(4, g), 0.1, [True, False, True, False])
    before = [t.clone() for t in numbers_of(mine)]
    others, other = copy.deepcopy((members, mine))
    gradients = stacks(4, g)
    other.step(gradients, 0.1, [False, True, True, False])
    same(before, numbers_of(mine))
    mine.step(gradients, 0.1, [False, True, True, False])
    same(numbers_of(mine), numbers_of(other))
    for one, two in zip(members, others, strict=True):
        same(numbers_of(one), numbers_of(two))


@every_kind
def test_nothing_to_move_and_nobody_else(kind: str, options: Options) -> None:
    empty = StackedOptimiser.from_members([Optimiser(kind, [], **options) for _ in range(3)], [])
    empty.step([], 0.1)
    empty.step([], 0.1, [True, False, True])
    parameters, theirs, mine, g = made(1, kind, options)
    for chosen in ([True], [False], None):
        gradients = stacks(1, g)
        mine.step(gradients, 0.1, chosen)
        theirs.step(gradients, 0.1, chosen or [True])
    theirs.equal(parameters)


def test_parameters_may_ask_for_gradients() -> None:
    p = torch.ones(2, 3, requires_grad=True)
    for chosen in ([True, False], None):
        StackedOptimiser("sgd", [p]).step([torch.ones(2, 3)], 0.1, chosen)
    torch.testing.assert_close(p.detach(), torch.tensor([[0.8], [0.9]]).expand(2, 3))


def test_moments_that_take_no_memory_before_the_first_step_have_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(5, 3, 7, generator=generator), torch.randn(5, 7, generator=generator)]
    gradients = [torch.randn(p.shape, generator=generator) for p in start]
    found = []
    for large in (optimisers._LARGE, 1):  # the second: every stack
        monkeypatch.setattr(optimisers, "_LARGE", large)
        stacks = [torch.stack(list(p), out=padded_zeros(p.shape, p)) for p in start]
        optimiser = StackedOptimiser("adam", stacks)
        for members in (None, torch.tensor([True, False, True, True, False])):
            optimiser.step(gradients, 0.1, members)
        found.append([*stacks, *optimiser.tensors()])
    for usual, pages in zip(*found, strict=True):
        assert torch.equal(usual, pages)
    assert found[0][2].untyped_storage().nbytes() == found[1][2].untyped_storage().nbytes()
