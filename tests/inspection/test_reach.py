"""How far ahead effects lie (`look_ahead`), by hand and against the gradients themselves."""

from __future__ import annotations

import pytest

from antiphon import Simulation
from tests.inspection.probed import EYE, JUDGE, chain, corporation, look_ahead, make, timescales
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


@pytest.mark.parametrize("read", ["last", "mean", "concat"])
def test_a_message_that_is_read_beside_a_newer_one_has_an_effect(read: str) -> None:
    judge = {**JUDGE, "clock": {"period": 2}}
    simulation = make({"a": EYE, "b": judge}, [{"from": "a", "to": "b", "read": read}])
    simulation.run(5)
    reach = look_ahead(simulation, ["a->b"], 5)  # the tick at 6 reads the message of 6 too
    assert reach == (0 if read == "last" else 1)
    assert simulation.probe(reach)["a->b"].true.any() == (read != "last")
