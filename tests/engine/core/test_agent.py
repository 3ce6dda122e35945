"""Cohorts, bundles, links and worlds: what is said of members is said of each as it would be alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.comms.link import Link, StackedLinks
from antiphon.engine.build.stacking import Stacked
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.mask import EnvMask
from antiphon.engine.core.message import Record
from antiphon.engine.core.replicas import Replicas, select_rows
from tests.engine.alike import (
    BATCH,
    GOAL,
    LABEL,
    OWN,
    Document,
    Sights,
    document,
    gradient,
    levels,
    only_channel_stack,
    only_stack,
    ring,
    stack_of,
    stacked_system,
)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask(*members: int) -> Tensor:
    return torch.tensor(members) > 0


def by_rows(members: Sequence[int]) -> list[bool]:
    return [bool(member) for member in members for _ in range(BATCH)]


# --- worlds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("each", "count"), [([0, 0, 0], 1), ([0], 1), ([0, 1, 2], 3), ([2, 0, 0, 1], 3), ([1, 1], 2), ([1, 0], 2)]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_a_member_s_rows_of_a_signal_are_its_world_s(
    each: list[int], count: int, shape: tuple[int, ...]
) -> None:
    worlds = Replicas(each, count, BATCH)
    signal = drawn(count * BATCH, *shape)
    expected = [signal[world * BATCH : (world + 1) * BATCH] for world in each]
    assert torch.equal(worlds.by_member(signal), torch.stack(expected))
    assert torch.equal(worlds.to_rows(signal), torch.cat(expected))


# --- links -----------------------------------------------------------------------------------------------


LINKS: dict[str, dict[str, Any]] = {
    "plain": {"delay": 2},
    "drop": {"drop": 0.4},
    "noise": {"noise": 0.3},
    "bits": {"bits": 3},
    "all": {"delay": 1, "drop": 0.3, "noise": 0.1, "bits": 4},
}


def links(name: str) -> list[Link]:
    return [Link(name=f"a{k}->b{k % 2}", seed=7 + k // 2, **LINKS[name]) for k in range(5)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LINKS)
def test_links_do_to_each_message_what_its_own_does_bit_by_bit(name: str, dtype: torch.dtype) -> None:
    own = links(name)
    together = StackedLinks(own, BATCH)
    assert (together.delay, together.drop, together.noise, together.bits) == (
        own[0].delay,
        own[0].drop,
        own[0].noise,
        own[0].bits,
    )
    message = drawn(5 * BATCH, 6, dtype=dtype)
    message[BATCH : BATCH + 2] = 0.0
    for stamp in (0, 1, 17, 2**40):
        apart = [link.carry(stamp, m) for link, m in zip(own, torch.split(message, BATCH), strict=True)]
        assert torch.equal(together.carry(stamp, message), torch.cat(apart))
        lost = [link.lost(stamp, BATCH, "cpu") for link in own]
        found = together.lost(stamp, 5 * BATCH, "cpu")
        if found is None:
            assert lost == [None] * 5
        else:
            assert torch.equal(found, torch.cat([one for one in lost if one is not None]))


def test_links_of_equal_names_and_seeds_lose_the_same_and_others_do_not() -> None:
    one, other = Link(name="a->b", drop=0.5, seed=1), Link(name="a->b", drop=0.5, seed=2)
    found = StackedLinks([one, one, other], 64).lost(3, 192, "cpu")
    assert found is not None
    first, second, third = torch.split(found, 64)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert 10 < int(first.sum()) < 54


@pytest.mark.parametrize("name", ["noise", "bits", "all"])
def test_the_gradient_passes_links_straight_through(name: str) -> None:
    message = drawn(5 * BATCH, 6).requires_grad_()
    received = StackedLinks(links(name), BATCH).carry(4, message)
    assert not torch.equal(received, message)
    assert torch.equal(received, StackedLinks(links(name), BATCH).carry(4, message.detach()))
    (back,) = torch.autograd.grad(received.sum(), message)
    assert torch.equal(back, torch.ones_like(message))


# --- cohorts ---------------------------------------------------------------------------------------------


def members(count: int = 4, **keys: Any) -> Stacked:
    return stacked_system(ring(count, agent={"clock": {"unroll": 2}, **keys}))


@pytest.mark.parametrize("p_update", [0.05, 0.5, 0.95])
def test_who_learns_from_a_window_is_drawn_as_alone(p_update: float) -> None:
    found = members(6, p_update=p_update)
    cohort = only_stack(found)
    for window in (*range(30), 5, 7, 7):
        own = [agent.participates(window) is True for agent in cohort.members]
        learning = cohort.learning(window)
        assert learning is not None
        assert learning.tolist() == own
        lanes = cohort.participates(window)
        if all(own) or not any(own):
            assert lanes is own[0]
        else:
            assert isinstance(lanes, Tensor)
            assert lanes.tolist() == by_rows([int(one) for one in own])


def test_without_draws_everybody_learns_but_who_is_silent() -> None:
    cohort = only_stack(members())
    assert cohort.learning(3) is None
    assert cohort.participates(3) is True
    cohort.disable(mask(0, 1, 0, 0))
    cohort.disable(mask(0, 0, 0, 1))
    lanes = cohort.participates(3)
    assert isinstance(lanes, Tensor)
    assert lanes.tolist() == by_rows([1, 0, 1, 0])
    assert cohort.learning(3) is None  # whoever is silent


def test_who_is_silent_is_not_drawn() -> None:
    cohort = only_stack(members(6, p_update=0.5))
    cohort.disable(mask(1, 0, 0, 0, 1, 0))
    for window in range(12):
        own = [agent.participates(window) is True for agent in cohort.members]
        own[0] = own[4] = False
        lanes = cohort.participates(window)
        found = lanes.tolist() if isinstance(lanes, Tensor) else [lanes] * (6 * BATCH)
        assert found == by_rows([int(one) for one in own])


def test_totals_and_rows_of_members() -> None:
    cohort = only_stack(members())
    rows = drawn(4 * BATCH)
    assert torch.equal(cohort.total(rows), torch.stack([own.sum() for own in torch.split(rows, BATCH)]))
    assert cohort.rows_of(mask(0, 1, 1, 0)).tolist() == by_rows([0, 1, 1, 0])
    signal = drawn(BATCH, 3)
    assert torch.equal(cohort.to_rows(signal), signal.repeat(4, 1))


SEEN = {"x": (4,), "y": (3,), "z": (4,), "image": (1, 6, 6)}


def scene(*looks: list[str], worlds: int = 1, kind: str = "mlp") -> tuple[Agent, Stacked]:
    """A cohort whose members see these signals, turn by turn in the worlds."""
    network: Document = {"kind": kind, "hidden": [4], "norm": "layer"}
    if kind == "conv":
        network = {"kind": kind, "hidden": [2], "filter": 3}
    agents = {
        f"n{i}": {**OWN, "objective": LABEL, "observes": look, "network": network}
        for i, look in enumerate(looks)
    }
    found = stacked_system(document(agents, [], Sights()))
    cohort = only_stack(found)
    cohort.replicas = Replicas([n % worlds for n in range(len(looks))], worlds, BATCH)
    return cohort, found


@pytest.mark.parametrize("worlds", [1, 2])
@pytest.mark.parametrize(
    "looks",
    [
        [["x"], ["x"], ["x"]],
        [["x"], ["z"], ["x"], ["z"]],
        [["z"], ["x"], ["z"], ["z"]],
        [["x", "y", "z"], ["z", "y", "x"]],
        [["x", "z"], ["x", "z"]],
    ],
)
def test_each_sees_what_it_looks_at_in_its_own_world(looks: list[list[str]], worlds: int) -> None:
    cohort, found = scene(*looks, worlds=worlds)
    for seed in (0, 1):  # the order is remembered
        signals = {
            name: drawn(worlds * BATCH, *SEEN[name], seed=seed + i, dtype=torch.float32)
            for i, name in enumerate(SEEN)
        }
        seen = cohort.observations(signals, found.system)
        assert len(seen) == len(looks[0])
        for n, look in enumerate(looks):
            world = slice(n % worlds * BATCH, (n % worlds + 1) * BATCH)
            for value, name in zip(seen, look, strict=True):
                assert value.dtype is torch.float64
                assert torch.equal(value[n], signals[name][world].double())


def test_images_keep_their_shape_and_flat_networks_see_them_flat() -> None:
    signals = {"image": drawn(BATCH, 1, 6, 6)}
    cohort, found = scene(["image"], ["image"], kind="conv")
    assert cohort.observations(signals, found.system)[0].shape == (2, BATCH, 1, 6, 6)
    cohort, found = scene(["image"], ["image"])
    assert torch.equal(cohort.observations(signals, found.system)[0][1], signals["image"].flatten(1))


def test_before_its_first_message_an_aligned_agent_sees_blanks() -> None:
    found = stacked_system(levels(high={"align": True, "observes": ["y", "x"]}))
    seen = stack_of(found, "b0").observations({}, found.system)
    assert [value.shape for value in seen] == [(3, BATCH, 3), (3, BATCH, 4)]
    assert not any(bool(value.any()) for value in seen)


# --- bundles ---------------------------------------------------------------------------------------------


def crossed() -> Channel:
    """a2 and a0 tell b0, a0 tells b2, nobody tells b1 over this bundle's kind; a1 tells nobody by it."""
    agents = {f"a{i}": dict(OWN) for i in range(3)} | {
        f"b{i}": {**OWN, "objective": LABEL, "fan_in": "sum"} for i in range(3)
    }
    told = [("a2", "b0"), ("a0", "b0"), ("a0", "b2"), ("a1", "b1")]
    channels = [{"from": a, "to": b, "size": 4, "port": "p", **gradient()} for a, b in told]
    return only_channel_stack(stacked_system(document(agents, channels)))


def one_to_one() -> Channel:
    return only_channel_stack(stacked_system(ring(4)))


def broadcast() -> Channel:
    """Somebody alone tells three."""
    agents = {"s": dict(OWN)} | {f"b{i}": {**OWN, "objective": LABEL, "observes": ["y"]} for i in range(3)}
    return only_channel_stack(
        stacked_system(
            document(agents, [{"from": "s", "to": f"b{i}", "size": 4, "port": "p"} for i in range(3)])
        )
    )


BUNDLES = {"crossed": crossed, "one to one": one_to_one, "broadcast": broadcast}
PLACES: dict[str, tuple[list[int], list[int], int, int]] = {  # senders, receivers, how many of each there are
    "crossed": ([0, 0, 1, 2], [0, 2, 1, 0], 3, 3),
    "one to one": ([0, 1, 2, 3], [1, 2, 3, 0], 4, 4),
    "broadcast": ([0, 0, 0], [0, 1, 2], 1, 3),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_rows_go_by_sender_and_receiver(name: str) -> None:
    bundle = BUNDLES[name]()
    takes, gives, senders, receivers = PLACES[name]
    count = len(takes)
    ends = [(int(c.sender[1:] or 0), int(c.receiver[1:])) for c in bundle.members]
    assert ends == list(zip(takes, gives, strict=True))
    port, read = drawn(senders * BATCH, 4), drawn(receivers * BATCH)
    assert torch.equal(bundle.message_of(port), torch.cat([torch.split(port, BATCH)[a] for a in takes]))
    assert torch.equal(bundle.of_receiver(read), torch.cat([torch.split(read, BATCH)[b] for b in gives]))
    lanes = drawn(senders * BATCH) > 0
    found = bundle.of_sender(lanes)
    assert isinstance(found, Tensor)
    assert torch.equal(found, torch.cat([torch.split(lanes, BATCH)[a] for a in takes]))
    assert (bundle.of_sender(True), bundle.of_sender(False)) == (True, False)
    back = drawn(count * BATCH, 4)
    to_sender = bundle.to_sender(back)
    assert to_sender.shape == (senders * BATCH, 4)
    one, other = (
        (bundle.message_of(port) * back).sum(),
        (port * to_sender).sum(),
    )  # each the other's transpose
    torch.testing.assert_close(one, other)
    assert bundle.every_sender_sends is (name == "one to one")
    assert bundle.rows == count * BATCH


def test_of_one_channel_a_sender_s_lanes_are_all_or_none() -> None:
    agents = {f"a{i}": {**OWN, "objective": LABEL} for i in range(3)} | {"b": {**OWN, "objective": GOAL}}
    found = stacked_system(document(agents, [{"from": "a1", "to": "b"}]))
    bundle = only_channel_stack(found)
    assert (bundle.sender, bundle.receiver) == (found.place["a1"][0], "b")
    assert bundle.of_sender(mask(0, 1, 0).repeat_interleave(BATCH)) is True
    assert bundle.of_sender(mask(1, 0, 1).repeat_interleave(BATCH)) is False


def test_who_hears_anything_is_an_example() -> None:
    bundle = one_to_one()
    lanes = torch.zeros(4, BATCH, dtype=torch.bool)
    lanes[1, 2] = lanes[3] = True
    heard = bundle.examples_for(lanes.flatten())
    assert heard is not None
    assert heard.tolist() == [False, True, False, True]
    assert bundle.examples_for(True) is None
    assert bundle.examples_for(torch.ones(4 * BATCH, dtype=torch.bool)) is None
    bundle.disable(mask(0, 0, 0, 1))
    for lanes_or_all, expected in ((lanes.flatten(), mask(0, 1, 0, 0)), (True, mask(1, 1, 1, 0))):
        found = bundle.examples_for(lanes_or_all)
        assert found is not None
        assert torch.equal(found, expected)


def test_whose_predictor_has_diverged_says_nothing() -> None:
    bundle = one_to_one()
    rows = drawn(4 * BATCH, 4)
    assert bundle.enabled_predictions(rows) is rows
    assert bundle.stand_in_allowed is True
    bundle.disable(mask(0, 1, 0, 0))
    bundle.disable(mask(0, 0, 1, 0))
    rows[BATCH] = torch.nan
    found = bundle.enabled_predictions(rows)
    assert torch.equal(found[:BATCH], rows[:BATCH])
    assert torch.equal(found[3 * BATCH :], rows[3 * BATCH :])
    assert not bool(found[BATCH : 3 * BATCH].any())
    assert isinstance(bundle.stand_in_allowed, Tensor)
    assert bundle.stand_in_allowed.tolist() == by_rows([1, 0, 0, 1])


def test_a_message_is_unsound_for_all_of_a_member_or_nothing() -> None:
    bundle = one_to_one()
    message = drawn(4 * BATCH, 4)
    assert bundle.not_finite(message) is False
    message[2 * BATCH + 1, 3] = torch.inf
    lanes = bundle.not_finite(message)
    assert isinstance(lanes, Tensor)
    assert lanes.tolist() == by_rows([0, 0, 1, 0])


@pytest.mark.parametrize("dead", [False, torch.tensor([True] * BATCH + [True] + [False] * (3 * BATCH - 1))])
def test_a_dead_message_is_no_example_of_its_member(dead: EnvMask) -> None:
    bundle = one_to_one()
    message = drawn(4 * BATCH, 4)
    record = Record(0, message, message + 1, None, 1, set(), 0, void=dead)  # type: ignore[arg-type]
    arrived = drawn(4 * BATCH) > 0
    bundle.add_input_example(message, record, arrived)
    ((context, received, where),) = bundle.input_examples
    assert context is message
    assert received is record.received
    assert where is arrived
    (heard,) = bundle.input_example_members
    if dead is False:
        assert heard is None
    else:
        assert heard is not None
        assert heard.tolist() == [False, True, True, True]


def test_whose_input_has_diverged_hears_no_more() -> None:
    bundle = one_to_one()
    message = drawn(4 * BATCH, 4)
    bundle.input_models_disabled = mask(0, 1, 0, 0)
    for dead, expected in ((False, [1, 0, 1, 1]), (by_rows([1, 0, 0, 0]), [0, 0, 1, 1])):
        lanes: EnvMask = torch.tensor(dead) if isinstance(dead, list) else dead
        bundle.add_input_example(None, Record(0, message, message, None, 1, set(), 0, void=lanes), None)  # type: ignore[arg-type]
        heard = bundle.input_example_members[-1]
        assert heard is not None
        assert heard.tolist() == [bool(one) for one in expected]


def test_picking_rows() -> None:
    rows = drawn(3 * BATCH, 2)
    assert select_rows(rows, None, BATCH) is rows
    assert torch.equal(select_rows(rows, torch.tensor([2, 2]), BATCH), rows[2 * BATCH :].repeat(2, 1))
