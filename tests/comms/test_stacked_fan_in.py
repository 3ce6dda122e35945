"""Stacked fan-in: the messages of several stacks of channels become each member's inputs as its own channels' would."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from antiphon.comms.links import InputSegment, ReducedSegment, StackedFanIn, join
from antiphon.engine.core.masks import mask_fill_zero
from tests.engine.numbers import close

BATCH = 3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def segment(places: list[tuple[int, int]], width: int, sizes: list[int]) -> InputSegment:
    """Inputs from (stack, channel), `width` for each member in turn, out of stacks of so many channels."""
    used = sorted({stack for stack, _ in places})
    first = {stack: sum(sizes[other] for other in used if other < stack) for stack in used}
    index = [first[stack] + channel for stack, channel in places]
    total = sum(sizes[stack] for stack in used)
    whole = index == list(range(total))
    return InputSegment(tuple(used), None if whole else torch.tensor(index), width, total)


def side_by_side(
    messages: list[Tensor], members: int, parts: list[tuple[list[tuple[int, int]], int]]
) -> Tensor:
    """What each member reads, [N, B, …], one message after the other."""
    rows = []
    for n in range(members):
        read = [
            messages[stack].view(-1, BATCH, *messages[stack].shape[1:])[channel]
            for places, width in parts
            for stack, channel in places[n * width : (n + 1) * width]
        ]
        rows.append(torch.cat(read, 1))
    return torch.stack(rows)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)])
@pytest.mark.parametrize("seed", range(6))
def test_concat_puts_each_member_s_own_messages_side_by_side(seed: int, shape: tuple[int, ...]) -> None:
    """Segments of several stacks, in any order, a message for many or for none."""
    chance = random.Random(seed)
    members, sizes = chance.randint(1, 4), [chance.randint(1, 5) for _ in range(3)]
    parts: list[tuple[list[tuple[int, int]], int]] = []
    for _ in range(chance.randint(1, 3)):
        width = chance.randint(1, 3)
        everything = [(b, k) for b in chance.sample(range(3), chance.randint(1, 3)) for k in range(sizes[b])]
        places = [chance.choice(everything) for _ in range(members * width)]
        parts.append((places, width))
    messages = [drawn(size * BATCH, *shape, seed=seed + i) for i, size in enumerate(sizes)]
    fan_in = StackedFanIn(
        "concat", members, BATCH, [segment(places, width, sizes) for places, width in parts]
    )
    found = fan_in.join([], messages, [True] * 3)
    expected = side_by_side(messages, members, parts)
    assert torch.equal(found, expected.flatten(0, 1))
    seen = drawn(members * BATCH, *shape, seed=99)
    found = fan_in.join([seen], messages, [True] * 3)
    assert torch.equal(found, torch.cat([seen, expected.flatten(0, 1)], 1))


def test_a_message_read_by_several_members_gets_the_gradient_of_all() -> None:
    message = drawn(2 * BATCH, 4).requires_grad_()
    fan_in = StackedFanIn("concat", 3, BATCH, [segment([(0, 1), (0, 1), (0, 0)], 1, [2])])
    found = fan_in.join([], [message], [True])
    (gradient,) = torch.autograd.grad(found.sum(), [message])
    assert torch.equal(gradient.view(2, BATCH, 4)[:, 0, 0], torch.tensor([1.0, 2.0], dtype=torch.float64))


# --- sums and means --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fan_in", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_sums_and_means_are_those_of_each_member(fan_in: str, shape: tuple[int, ...], seed: int) -> None:
    """Members of different in-degrees, one without any; messages that came everywhere, nowhere or here and there."""
    chance = random.Random(seed)
    members, sizes = 4, [chance.randint(1, 6) for _ in range(4)]
    give = [torch.tensor([chance.randrange(members - 1) for _ in range(size)]) for size in sizes]
    some = drawn(sizes[2] * BATCH, seed=5) > 0
    came: list[bool | Tensor] = [True, False, some, drawn(sizes[3] * BATCH, seed=6) > 0.5]
    messages = [
        mask_fill_zero(there, drawn(size * BATCH, *shape, seed=seed + i))
        for i, (size, there) in enumerate(zip(sizes, came, strict=True))
    ]
    reduced = [ReducedSegment((i,), None, to) for i, to in enumerate(give)]
    rows = StackedFanIn(fan_in, members, BATCH, (), reduced).join([], messages, came)
    found = rows.view(members, BATCH, *shape)
    for n in range(members):
        own, valid = [], []
        for rows, there, to in zip(messages, came, give, strict=True):
            for k in (to == n).nonzero().flatten().tolist():
                own.append(rows.view(-1, BATCH, *shape)[k])
                valid.append(there.view(-1, BATCH)[k] if isinstance(there, Tensor) else there)
        close(found[n], join(fan_in, (), own, valid) if own else torch.zeros_like(found[n]))
