"""How far ahead effects lie (`look_ahead`), by hand and against the gradients themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon import Simulation
from tests.engine.scenes import CLASSIFY
from tests.inspection.probed import EYE, JUDGE, SMOOTH, chain, corporation, look_ahead, make, timescales
from tests.numerics.recurring import LENGTHS, LINEAR, STATE, played
from tests.numerics.recurring import make as recurring


def test_delays_on_the_way_add_up() -> None:
    simulation = chain("decoupled")
    assert [look_ahead(simulation, [name], 5) for name in simulation.channels] == [0, 0, 0]
    simulation = chain("decoupled", link={"delay": 2})
    assert [look_ahead(simulation, [name], 5) for name in ("a->b", "b->c", "c->d")] == [6, 4, 2]
    assert look_ahead(simulation, ["c->d", "a->b"], 5) == 6
    simulation = timescales()
    assert look_ahead(simulation, ["slow->judge"], 30) == 0  # it does not send
    assert look_ahead(simulation, ["slow->judge"], 32) == 2


def test_an_episode_ends_every_path() -> None:
    """Only the last of four steps has a loss."""
    simulation = corporation("decoupled")
    assert [look_ahead(simulation, list(simulation.channels), stamp) for stamp in (0, 2, 3, 4)] == [
        3,
        1,
        0,
        3,
    ]
    assert look_ahead(simulation, ["e->d"], 2) == 1
    assert look_ahead(simulation, ["c->e"], 2) == 0  # d is two hops away, and the episode ends after one
    with Simulation("two-timescales") as simulation:
        assert [look_ahead(simulation, ["A->B"], step) for step in (3, 7, 11, 15)] == [
            12,
            8,
            4,
            0,
        ]
    for lengths, end in ((LENGTHS, 14), ((5,) * 6, 14)):
        with recurring(played(lengths=lengths), LINEAR, unroll=1) as simulation:
            simulation.run(12)
            assert look_ahead(simulation, [STATE], 12) == end - 12


def test_on_a_cycle_it_is_as_far_as_the_farthest_objective_first_reached() -> None:
    agents = {"a": EYE, "b": JUDGE, "c": JUDGE}
    channels = [
        {"from": s, "to": r, "link": {"delay": d}}
        for s, r, d in [("a", "b", 0), ("b", "c", 3), ("c", "a", 1)]
    ]
    simulation = make(agents, channels)
    assert look_ahead(simulation, ["a->b"], 10) == 3
    assert look_ahead(simulation, ["c->a"], 10) == 4
    assert look_ahead(simulation, ["b->c"], 10) == 4  # round to b


def test_a_cycle_that_never_reads_what_is_sent_is_left_at_last() -> None:
    agents: dict[str, Any] = {
        "a": EYE,
        "b": {"network": SMOOTH},
        "c": {"network": SMOOTH, "clock": {"period": 2, "phase": 1}, "objective": CLASSIFY},
    }
    channels = [{"from": s, "to": r, "link": {"delay": 1}} for s, r in ("ab", "ba", "ac")]
    simulation = make(agents, channels)
    assert look_ahead(simulation, ["a->b"], 0) == 3
    assert look_ahead(simulation, ["a->c"], 1) == 0  # due at step 2, and replaced before c ticks at 3


@pytest.mark.parametrize("read", ["last", "mean", "concat"])
def test_a_message_that_is_read_beside_a_newer_one_has_an_effect(read: str) -> None:
    judge = {**JUDGE, "clock": {"period": 2}}
    simulation = make({"a": EYE, "b": judge}, [{"from": "a", "to": "b", "read": read}])
    simulation.run(5)
    reach = look_ahead(simulation, ["a->b"], 5)  # the tick at 6 reads the message of 6 too
    assert reach == (0 if read == "last" else 1)
    assert simulation.probe(reach)["a->b"].true.any() == (read != "last")


@pytest.mark.long
@pytest.mark.parametrize("now", [30, 32])
def test_nothing_lies_beyond_on_clocks_of_all_periods_without_a_cycle(now: int) -> None:
    agents: dict[str, Any] = {
        "fast": {**EYE, "clock": {"unroll": 2}},
        "slow": {"network": SMOOTH, "clock": {"period": 3, "phase": -1}},
        "even": {"network": SMOOTH, "clock": {"period": 2}},
        "judge": JUDGE,
    }
    pairs = [("fast", "slow", 0), ("slow", "even", 2), ("even", "judge", 1), ("fast", "judge", 0)]
    channels = [{"from": s, "to": r, "size": 4, "norm": "layer", "link": {"delay": d}} for s, r, d in pairs]
    simulation = make(agents, channels)
    simulation.run(now)
    for name, probe in simulation.probe(12).items():
        reach = look_ahead(simulation, [name], now)
        near = simulation.probe(reach)[name].true
        torch.testing.assert_close(near, probe.true, atol=1e-14, rtol=0)
        if reach:
            nearer = simulation.probe(reach - 1)[name].true
            assert not torch.allclose(nearer, probe.true, atol=1e-9)
