"""Stacked fan-in: the messages of several stacks of channels become each member's inputs as its own channels' would."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from antiphon.comms.links import InputSegment, ReducedSegment, StackedFanIn, join
from antiphon.engine.core.masks import mask_fill_zero
from antiphon.engine.core.records import AgentTick, Tape
from antiphon.engine.simulation import Simulation
from tests.contracts.builders import LABEL, OWN, Document, Play, document, levels, ring
from tests.engine.numbers import close
from tests.engine.scenes import ENDS, Sights, gradient
from tests.engine.stacks import both, engine_of, layout_of, stack_of, stacked_system, stacks

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
@pytest.mark.parametrize("seed", range(12))
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


@pytest.mark.parametrize("stacks_read", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_of_an_order_goes_back_to_where_messages_came_from(seed: int, stacks_read: int) -> None:
    """Everything exactly once: a way of its own back; held to index_select's, a second time through too."""
    chance = random.Random(seed)
    sizes = [6] if stacks_read == 1 else [2, 4]
    places = [(b, k) for b, size in enumerate(sizes) for k in range(size)]
    chance.shuffle(places)
    messages = [drawn(size * BATCH, 4, seed=i).requires_grad_() for i, size in enumerate(sizes)]
    own = segment(places, 2, sizes)
    found = StackedFanIn("concat", 3, BATCH, [own]).join([], messages, [True] * stacks_read)
    assert own.index is not None
    assert found.grad_fn is not None
    assert "Index" not in _names(found)
    expected = side_by_side(messages, 3, [(places, 2)]).flatten(0, 1)
    assert torch.equal(found, expected)
    weight = drawn(*found.shape, seed=9)
    for _ in range(2):
        ours = torch.autograd.grad(found, messages, weight, retain_graph=True)
        theirs = torch.autograd.grad(expected, messages, weight, retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def _names(end: Tensor) -> str:
    """The operations that lead to a tensor."""
    todo, seen = [end.grad_fn], ""
    while todo:
        node = todo.pop()
        if node is not None:
            seen += f" {type(node).__name__}"
            todo += [before for before, _ in node.next_functions]
    return seen


def test_a_message_read_by_several_members_gets_the_gradient_of_all() -> None:
    message = drawn(2 * BATCH, 4).requires_grad_()
    fan_in = StackedFanIn("concat", 3, BATCH, [segment([(0, 1), (0, 1), (0, 0)], 1, [2])])
    found = fan_in.join([], [message], [True])
    (gradient,) = torch.autograd.grad(found.sum(), [message])
    assert torch.equal(gradient.view(2, BATCH, 4)[:, 0, 0], torch.tensor([1.0, 2.0], dtype=torch.float64))


# --- sums and means --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fan_in", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)])
@pytest.mark.parametrize("seed", range(8))
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


@pytest.mark.parametrize("fan_in", ["sum", "mean", "concat"])
def test_without_messages_only_observations_are_read(fan_in: str) -> None:
    seen = drawn(3 * BATCH, 4)
    assert torch.equal(StackedFanIn(fan_in, 3, BATCH).join([seen], [], []), seen)


# --- as built from a scenario ---------------------------------------------------------------------------


def inputs(simulation: Simulation, steps: int) -> dict[tuple[int, str], Tensor]:
    """What every agent's network read, [B, …], by step and agent."""
    found: dict[tuple[int, str], Tensor] = {}
    backend = engine_of(simulation)
    forward, gather = backend.forward_pass, backend.forward_pass.inputs

    def noted(part: AgentTick, tape: Tape) -> Tensor:
        rows = gather(part, tape)
        agent = backend.system.agents[part.agent]
        each = torch.split(rows, backend.system.batch)
        found.update({(simulation.now, name): own for name, own in zip(agent.names, each, strict=True)})
        return rows

    forward.inputs = noted  # type: ignore[method-assign]
    simulation.run(steps)
    return found


def crossed() -> Document:
    """Two stacks and a lone agent send messages of two sizes to a stack, in an order of their own."""
    layer = {"kind": "mlp", "hidden": [5], "norm": "layer"}
    agents: Document = {name: dict(OWN) for name in ("a0", "a2")}
    agents |= {name: {**OWN, "network": layer} for name in ("b0", "b1")}
    agents |= {"z": {**OWN, "network": {**layer, "hidden": [6]}}, "c": {**OWN, "objective": LABEL}}
    agents |= {f"r{i}": {**OWN, "objective": LABEL} for i in range(4)}
    told = [
        *[("a2", "r0", 4), ("b0", "r0", 3), ("z", "r0", 4)],
        *[("a0", "r1", 4), ("b1", "r1", 3), ("z", "r1", 4)],
        *[("b0", "r2", 4), ("b1", "r2", 3), ("z", "r2", 4)],
        *[("b1", "r3", 4), ("b1", "r3", 3), ("z", "r3", 4)],
        *[("a0", "c", 3), ("a2", "c", 3), ("z", "c", 3)],
    ]
    how = {"norm": "layer", "coupling": "decoupled", **gradient()}
    channels = [
        {"from": a, "to": b, "size": size, "key": f"k{i % 3}", "port": f"p{size}", **how}
        for i, (a, b, size) in enumerate(told)
    ]
    return document(agents, channels)


def aligned() -> Document:
    """Two sources, each with an agent aligned to its messages two steps later, and another one behind that."""
    agents: Document = {f"s{i}": dict(OWN) for i in range(2)}
    agents |= {f"{k}{i}": {**OWN, "align": True, "objective": LABEL} for k in "ab" for i in range(2)}
    links = [
        (f"{k}{i}", f"{to}{i}", delay) for i in range(2) for k, to, delay in (("s", "a", 2), ("a", "b", 1))
    ]
    channels = [{"from": a, "to": b, "size": 4, "link": {"delay": d}, **gradient()} for a, b, d in links]
    return document(agents, channels)


SCENES: dict[str, Document] = {
    "permuted pairs": ring(4, channel=[{"link": {"delay": 2}}] * 4, agent=[{"observes": ["x", "y"]}] * 4),
    "all to all": levels(wide=True, high={"observes": ["y", "x"]}),
    "sums": levels(wide=True, high={"fan_in": "sum"}),
    "means": levels(wide=True, high={"fan_in": "mean"}, channel={"link": {"drop": 0.4}}),
    "several reads": levels(wide=True, high={"clock": {"period": 2}}, channel={"read": "concat"}),
    "means of reads": levels(wide=True, high={"clock": {"period": 2}}, channel={"read": "mean"}),
    "images": levels(
        wide=True,
        channel={"size": [1, 6, 6], "coupling": "detached"},
        high={
            "network": {"kind": "conv", "hidden": [2], "filter": 3, "pool": ["none"]},
            "observes": ["image"],
        },
    ),
    "ages": levels(wide=True, high={"observes": ["age", "y"]}, channel={"link": {"delay": 1, "drop": 0.5}}),
    "nothing sent yet": levels(channel={"link": {"delay": 7}}),
    "locked": levels(
        channel={"coupling": "locked"}, low={"clock": {"unroll": 4}}, high={"clock": {"unroll": 4}}
    ),
    "crossed": crossed(),
    "unlike sights": ring(agent=[{"observes": ["x", "y"]}, {"observes": ["z", "y"]}], env=Sights()),
    "a chain of aligned agents": aligned(),
    "ends": levels(wide=True, env=ENDS),
    "episodes": levels(channel={"link": {"delay": 1}}, env=Play(lengths=(2, 3))),
}


@pytest.mark.parametrize("name", SCENES)
def test_members_read_what_they_would_read_alone(name: str) -> None:
    single, cohort = both(SCENES[name])
    alone, together = inputs(single, 6), inputs(cohort, 6)
    assert stacks(engine_of(cohort).stacked)
    assert alone.keys() == together.keys()
    for place, rows in alone.items():
        torch.testing.assert_close(together[place], rows, rtol=1e-9, atol=1e-9, msg=str(place))


def test_a_stack_reads_of_several_stacks_and_of_a_lone_agent() -> None:
    found = stacked_system(crossed())
    cohort = stack_of(found, "r0")
    assert cohort.names == ("r0", "r1", "r2", "r3")
    assert [part.width for part in layout_of(found, "r0").segments] == [1, 1, 1]
    assert [len(part.channels) for part in layout_of(found, "r0").segments] == [2, 1, 1]
    senders = {stack.sender for stack in cohort.incoming}
    assert senders == {found.place["a0"][0], found.place["b0"][0], "z"}
