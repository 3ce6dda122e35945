"""What an agent reads, and what an objective says of a window, by hand (semantics 1, 18, 19, 21)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from antiphon import Simulation
from antiphon.nets.random import seed_for, uniform
from tests.contracts.builders import Document
from tests.numerics.linear import GOAL, assert_close, descend, leaves, said, simulation_of
from tests.numerics.played import Played
from tests.numerics.recurring import BATCH, LENGTHS, STEPS, flags, played
from tests.reference.backend import Chosen, reference

SEED = 3
DROP = 0.5


def echo(inputs: int, outputs: int) -> nn.Module:
    """A network that says what it reads: an agent of it shows by its messages what reached it."""
    assert inputs == outputs
    return nn.Identity()


def reader(
    source: Played,
    link: dict[str, Any],
    observes: tuple[str, ...] = ("age",),
    *,
    clocks: tuple[Any, Any] = ({}, {}),
    align: bool = False,
    backend: Chosen = "cohort",
    **channel: Any,
) -> Simulation:
    size = 2 * (3 if channel.get("read") == "concat" else 1) + sum(1 if s == "age" else 3 for s in observes)
    agents = {
        "a": {"observes": ["x"], "clock": clocks[0]},
        "b": {"network": echo, "observes": list(observes), "clock": clocks[1], "align": align},
        "c": {"objective": GOAL},
    }
    sent = {"from": "b", "to": "c", "size": size, "coupling": "detached"}
    return simulation_of(agents, [{"from": "a", "to": "b", "link": link, **channel}, sent], source, backend)


def shown(simulation: Simulation, steps: int = STEPS) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """What `b` read at each of its ticks, and what `a` sent, by step."""
    read: dict[int, Tensor] = {}
    sent: dict[int, Tensor] = {}
    for step in range(steps):
        simulation.step()
        for found, name in ((read, "b->c"), (sent, "a->b")):
            if step in (messages := simulation.channels[name].messages):
                found[step] = messages[step].value.clone()
    return read, sent


def lost(stamp: int) -> Tensor:
    """[B] bool: where the link from a to b loses a message."""
    return uniform(seed_for(SEED, "link", "a->b"), stamp, BATCH) < DROP


@pytest.mark.cases(2)
@pytest.mark.parametrize("clocks", [(1, 1), (4, 1), (3, 2), (1, 3)])
@pytest.mark.parametrize("delay", [0, 2])
def test_a_message_that_is_held_grows_older_in_ticks_of_its_sender(
    delay: int, clocks: tuple[int, int]
) -> None:
    periods = [{"period": period} for period in clocks]
    with reader(played(endless=True), {"delay": delay}, clocks=(periods[0], periods[1])) as simulation:
        read, sent = shown(simulation, 20)
    assert list(read) == list(range(0, 20, clocks[1]))
    for step, found in read.items():
        stamp = (step - delay) // clocks[0] * clocks[0]
        age = 0.0 if stamp < 0 else (step - stamp) / clocks[0]
        message = torch.zeros(BATCH, 2, dtype=torch.float64) if stamp < 0 else sent[stamp]
        assert torch.equal(found, torch.cat([torch.full((BATCH, 1), age, dtype=torch.float64), message], 1))


@pytest.mark.cases(1)
@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize("ends", [{"endless": True}, {"truncated": flags(1, 2)}])
def test_of_what_a_link_loses_the_newest_that_came_is_read_until_its_episode_ends(
    ends: dict[str, Any], backend: Chosen
) -> None:
    source = played(**ends)
    with reader(source, {"delay": 1, "drop": DROP}, backend=backend) as simulation:
        read, sent = shown(simulation)
    held, stamps = torch.zeros(BATCH, 2, dtype=torch.float64), torch.full((BATCH,), -1)
    for step in range(1, STEPS):
        ended = torch.logical_or(*source.ends(step - 1))
        came = ~lost(step - 1) & ~ended
        held = torch.where(
            (came | ended).unsqueeze(1), torch.where(came.unsqueeze(1), sent[step - 1], 0.0), held
        )
        stamps = torch.where(came, step - 1, torch.where(ended, -1, stamps))
        age = torch.where(stamps >= 0, step - stamps, 0)
        assert torch.equal(read[step], torch.cat([age.unsqueeze(1).double(), held], 1))


@pytest.mark.parametrize("coupling", ["decoupled", "unlocked"])
@pytest.mark.parametrize("context", ["x", "held"])
def test_what_stands_in_is_predicted_from_what_was_known_when_the_message_was_made(
    context: str, coupling: str
) -> None:
    """An unlocked receiver reads what stands in even where the message has come; it is as old as what it stands for."""
    stand_in = {"context": [context], "optimiser": {"kind": "sgd", "lr": 0.05}}
    link = {"delay": 2, "drop": DROP}
    with reader(played(endless=True), link, coupling=coupling, input=stand_in) as simulation:
        sent: dict[int, Tensor] = {}
        held, predicted = torch.zeros(BATCH, 2, dtype=torch.float64), 0
        for step in range(14):
            p = leaves(simulation.channels["a->b"].synthetic_input)
            simulation.step()
            sent[step] = simulation.channels["a->b"].messages[step].value.clone()
            if step < 2:
                continue
            seen = played().at(step - 2)["x"] if context == "x" else held
            missing = lost(step - 2) | (coupling == "unlocked")
            expected = torch.where(missing.unsqueeze(1), said(p, "last", seen), sent[step - 2])
            age, value = simulation.channels["b->c"].messages[step].value.split([1, 2], 1)
            assert age.eq(2).all()
            torch.testing.assert_close(value, expected.detach(), atol=1e-14, rtol=0)
            held = torch.where(lost(step - 2).unsqueeze(1), held, sent[step - 2])
            predicted += int(expected.detach()[missing].abs().max() > 0.01)
        assert predicted > 4


@pytest.mark.parametrize("stands_in", [False, True])
def test_an_aligned_agent_sees_what_the_message_it_reads_was_made_from(stands_in: bool) -> None:
    more = {"input": {"context": ["x"]}} if stands_in else {}
    link = {"delay": 2, "drop": DROP}
    with reader(played(endless=True), link, ("x",), align=True, **more) as simulation:
        read, _ = shown(simulation, 16)
    stamps = torch.full((BATCH,), -1)
    for step in range(2, 16):
        stamps = torch.where(lost(step - 2) & (not stands_in), stamps, step - 2)
        expected = torch.stack([played().at(s)["x"] for s in range(step)])[stamps, torch.arange(BATCH)]
        assert torch.equal(read[step][:, :3][stamps >= 0], expected[stamps >= 0])


@pytest.mark.parametrize("ends", [{"terminated": flags(1, 2)}, {"lengths": LENGTHS}])
def test_nothing_of_an_episode_reaches_the_next(ends: dict[str, Any]) -> None:
    with reader(played(**ends), {"delay": 2}) as simulation:
        read, _ = shown(simulation)
    starts = [0, *torch.tensor(LENGTHS).cumsum(0).tolist()]
    for step, found in read.items():
        for lane in range(BATCH):
            ended = "lengths" in ends or lane in (1, 2)
            start = max(s for s in starts if s <= step) if ended else 0
            assert bool(found[lane].any()) == (step - start >= 2)


def test_several_messages_are_read_as_old_as_the_newest() -> None:
    with reader(played(endless=True), {"delay": 1}, clocks=({}, {"period": 3}), read="concat") as simulation:
        found, sent = shown(simulation, 12)
    for step in (6, 9):
        expected = torch.cat([sent[stamp] for stamp in range(step - 3, step)], 1)
        assert found[step][:, 0].eq(1).all()
        torch.testing.assert_close(found[step][:, 1:], expected, atol=1e-14, rtol=0)


# --- losses of a window ----------------------------------------------------------------------------------


def masked(present: Tensor) -> Played:
    """Targets that are no number where there is none."""
    source = played(endless=True)
    source.shown["y"] = torch.where(present.unsqueeze(2), source.shown["y"], torch.nan)
    source.shown["_y"] = present
    return source


SOME = torch.zeros(STEPS, BATCH, dtype=torch.bool)
SOME[0, :3] = SOME[2, 1] = True


@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("present", [torch.ones(STEPS, BATCH, dtype=torch.bool), SOME], ids=["all", "some"])
def test_losses_are_summed_over_ticks_and_divided_by_the_batch_however_few_have_a_target(
    present: Tensor, weight: float, backend: Chosen
) -> None:
    """The score is the mean of what has a target, and has no weight."""
    source = masked(present)
    agents = {"a": {"observes": ["x"], "clock": {"unroll": 3}, "objective": {**GOAL, "scale": weight}}}
    with simulation_of(agents, [], source, backend) as simulation:
        p = leaves(simulation.agents["a"])
        losses = []
        for step in range(3):
            seen = source.at(step)
            each = (said(p, "objective", seen["x"]) - seen["y"].nan_to_num()).square().mean(1)
            losses.append(torch.where(present[step], each, 0.0))
            info = simulation.step()
        total = weight * torch.stack(losses).sum() / BATCH
        torch.testing.assert_close(info["losses"]["a"], total.detach(), atol=1e-13, rtol=0)
        assert_close(simulation.agents["a"], descend(p, total))


@pytest.mark.parametrize(("when", "counted"), [("each", range(6)), ("last", (2, 5))])
def test_only_an_examples_last_step_counts_where_that_is_asked(when: str, counted: Any) -> None:
    env = {"id": "antiphon/Digits-v0", "hold": 3, "episode": "example"}
    goal: Document = {"kind": "classification", "target": "label", "read": when}
    found = []
    for own in (goal, {**goal, "read": "each"}):
        agents = {"a": {"observes": ["image"], "objective": own}}
        with simulation_of(agents, [], env, batch=4, optimiser={"kind": "sgd", "lr": 1e-300}) as simulation:
            found.append([float(simulation.step()["losses"].get("a", 0.0)) for _ in range(6)])
    assert found[0] == [loss if step in counted else 0.0 for step, loss in enumerate(found[1])]
    assert min(found[1]) > 0
