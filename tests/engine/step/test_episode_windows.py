"""Windows that are episodes whose length is known only when each begins (semantics 14, 16, 20)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.comms.links import Link
from antiphon.engine.core.clock import Clock, EpisodeWindows, Sends
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.mailbox import Mailbox
from antiphon.engine.core.records import StepSignals
from antiphon.engine.simulation import Simulation
from tests.engine.recurring import FROZEN, GOAL, LENGTHS, LINEAR, STEPS, make, played
from tests.numerics.played import Played

STARTS = [0, *torch.tensor(LENGTHS).cumsum(0).tolist()]
EPISODE = {"clock": {"unroll": "episode"}}
MIND: dict[str, Any] = {"network": {"kind": "gru", "size": 3}, "objective": GOAL, **EPISODE}
LOCKED = {"from": "a", "to": "b", "size": 2, "norm": "none", "coupling": "locked"}


# --- the windows themselves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(3, 1, 4, 2), (1, 1, 1), (4,), (2, 4, 4, 1)])
def test_windows_of_episodes_agree_with_counting(lengths: tuple[int, ...]) -> None:
    windows, start = EpisodeWindows(4), 0
    for number, length in enumerate(lengths):
        windows.begin(start, length, number)
        last = start + length - 1
        assert windows.end(number) == last
        for tick in range(start, last + 1):
            assert windows.number(tick) == number
            assert windows.ending(tick) == (number if tick == last else None)
        for later in range(last + 1, last + 9):  # of what is to come it is known that it comes
            assert windows.number(later) == number + 1
            assert windows.ending(later) is None
        assert windows.end(number + 1) == last + 4  # at the latest
        if number:
            assert windows.number(start - 1) == number - 1
        start += length


def test_a_message_that_outlives_its_episode_is_done_with_when_the_next_one_is() -> None:
    windows = EpisodeWindows(6)
    windows.begin(0, 3, 0)
    ledger = GradientLedger("a->b", Sends(Clock(4)), Clock(), windows, Link(name="a->b"), wants_deltas=True)
    message = torch.ones(2, 1, dtype=torch.float64)
    record = ledger.send(0, message, StepSignals(0, {}))
    assert record.waiting == {0, 1}
    assert record.deadline == 2 + 6
    use = ledger.use(0, Mailbox(ledger).receive(0))
    assert use is not None
    ledger.book(use, 3 * message)
    ledger.cut(2, True)
    ledger.close(0, 2)
    assert record.finished is None
    windows.begin(3, 1, 1)
    assert ledger.use(3, Mailbox(ledger).receive(3)) is None
    ledger.close(1, 3)
    assert record.finished == 3
    assert ledger.take(3) == [record]
    assert torch.equal(record.delta, 3 * message)  # type: ignore[arg-type]


# --- who learns when, and from what --------------------------------------------------------------------------


def learned(simulation: Simulation, steps: int = STEPS) -> dict[int, dict[str, list[Tensor]]]:
    """By step: the gradients that each agent followed."""
    found: dict[int, dict[str, list[Tensor]]] = {}
    for info in (simulation.step() for _ in range(steps)):
        for update in simulation.learned.updates:
            for name, gradients in update.gradients.items():
                found.setdefault(info["step"], {})[name] = [g for g in gradients if g is not None]
    return found


@pytest.mark.parametrize("link", [{}, {"delay": 2}])
def test_a_group_learns_each_episode_as_if_there_were_no_other(link: dict[str, int]) -> None:
    source, told = played(lengths=LENGTHS), [{**LOCKED, "link": link}]
    own: dict[str, Any] = {"unroll": "episode", "others": {"b": MIND}, "channels": told}
    own["training"] = {"optimiser": FROZEN}
    with make(source, "locked", **own) as simulation:
        found = learned(simulation)
    assert list(found) == [start - 1 for start in STARTS[1:]]
    for begin, end in itertools.pairwise(STARTS[:4]):
        part = {name: values[begin:end] for name, values in source.shown.items()}
        with make(Played(part, source.hidden, lengths=(end - begin,)), "locked", **own) as alone:
            (expected,) = learned(alone, end - begin).values()
        assert found[end - 1].keys() == expected.keys() == {"a", "b"}
        for name, gradients in expected.items():
            for x, y in zip(gradients, found[end - 1][name], strict=True):
                torch.testing.assert_close(x, y, atol=1e-12, rtol=0)
                assert bool(x.any())


def test_who_ticks_rarely_learns_at_the_end_of_those_episodes_in_which_it_did() -> None:
    clock = {"period": 8, "phase": 1, "unroll": "episode"}  # ticks at 1, 9, 17 and 25
    with make(played(lengths=LENGTHS), "detached", clock=clock) as simulation:
        assert list(learned(simulation)) == [5, 9, 20, 29]


def test_who_ticks_more_rarely_than_episodes_end_waits_late() -> None:
    """It is told by one and tells another late: episodes in which it does not tick are windows too."""
    others = {
        "b": {"network": {"kind": "mlp", "hidden": []}, "objective": GOAL},
        "c": {"observes": ["x"], "network": {"kind": "mlp", "hidden": [4]}},
    }
    channels = [
        {"from": "c", "to": "a", "size": 2, "gradient": LINEAR},
        {"from": "a", "to": "b", "size": 3, "coupling": "delayed", "staleness": 1},
    ]
    clock = {"period": 21, "unroll": "episode"}
    with make(played(lengths=LENGTHS), others=others, channels=channels, clock=clock) as simulation:
        simulation.run(2 * STEPS + 10)
        assert simulation.now == 2 * STEPS + 10


# --- what a predictor is told of the place in an episode -------------------------------------------------------


@pytest.mark.parametrize("end", ["from.phase", "to.phase"])
@pytest.mark.parametrize("link", [{}, {"delay": 1}, {"delay": 1, "back": 3}, {"delay": 2, "back": 0}])
def test_a_phase_is_that_of_the_messages_own_episode(link: dict[str, int], end: str) -> None:
    others = {"b": {"network": {"kind": "mlp", "hidden": []}, "objective": GOAL, **EPISODE}}
    gradient = {"kind": "linear", "context": [end]}
    channel = {"from": "a", "to": "b", "size": 3, "gradient": gradient, "link": link}
    stamps: dict[tuple[float, ...], int] = {}
    seen: list[tuple[int, int]] = []
    with make(played(lengths=LENGTHS), unroll="episode", others=others, channels=[channel]) as simulation:
        ledger = simulation._system.channels["a->b"].ledger
        for step in range(STEPS):
            simulation.step()
            if step in ledger.records:
                stamps[tuple(ledger.records[step].message.flatten().tolist())] = step
            lesson = simulation.learned.predictor_updates.get("a->b")
            for example in lesson.examples if lesson is not None else []:
                assert example.context is not None
                stamp = stamps[tuple(example.message.flatten().tolist())]
                seen.append((stamp, int(example.context[0].argmax())))
    assert len(seen) > 10
    late = link.get("delay", 0) if end == "to.phase" else 0
    for stamp, phase in seen:
        assert phase == stamp + late - max(start for start in STARTS if start <= stamp)
