"""The lives of five messages, step by step (semantics 17, 18, 20, 27b); by hand, and computed by both engines.

Agent a ticks at every step and learns from windows of 4 ticks, agent b at every 4th step from windows of 2 ticks. Both
channels take 2 steps, for messages and for gradients. At step 7 the episode ends in environments 0 and 1 of 4.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.scenarios import Scenario
from tests.numerics.played import Played
from tests.reference.backend import Chosen, reference

STEPS, BATCH = 18, 4
LIVES = {
    # b reads it at step 8, after the end; its window ends at 12, and the gradient is back at 14 = 12 + 2
    ("a->b", "decoupled", 6): """
        step  void  void_unread  counted  gradient
        6     -     -            -        -
        7     01    01           -        -
        8     01    01           -        -
        12    01    01           23       23
        14    01    01           23       23
        15    gone""",
    # a reads it at steps 6 to 9, in two windows: what it read before the end counts; it is back at 13 = 11 + 2
    ("b->a", "decoupled", 4): """
        step  void  void_unread  counted  gradient
        4     -     -            -        -
        6     -     -            -        -
        7     01    -            0123     0123
        8     01    -            0123     0123
        11    01    -            0123     0123
        13    01    -            0123     0123
        16    gone""",
    # a's window 1 waits from step 7 on; the gradient is back at 14, and the window learns at a's next end, 15
    ("a->b", "delayed", 6): """
        step  void  void_unread  counted  gradient
        6     -     -            -        -
        7     01    01           -        -
        12    01    01           23       23
        15    01    01           23       23
        16    gone""",
    # one group with windows of 8 steps: it is read in the window after its own, and has no credit
    ("a->b", "locked", 6): """
        step  void  void_unread  counted  gradient
        6     -     -            -        -
        7     01    01           -        -
        15    01    01           -        -
        16    gone""",
    # the graph has its credit: nothing is booked
    ("a->b", "locked", 10): """
        step  void  void_unread  counted  gradient
        10    -     -            -        -
        12    -     -            -        -
        15    -     -            -        -
        16    gone""",
}
"""By channel, coupling of a->b, and the step of sending: environments in which the message is void, became void before any
tick read it, has a read that counted, and has a returned gradient."""
LINEAR = {"kind": "mlp", "hidden": [], "norm": "none"}


def simulation_of(
    ends_at: int, backend: Chosen, coupling: str = "decoupled", horizon: int | None = None
) -> Simulation:
    """The two agents; the episodes of environments 0 and 1 end at a step. `coupling`, `horizon`: of a->b."""
    noise = torch.Generator().manual_seed(0)
    terminated = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    terminated[ends_at, :2] = True
    shown = {
        name: torch.randn(STEPS, BATCH, size, generator=noise, dtype=torch.float64)
        for name, size in (("x", 3), ("goal", 1))
    }
    agents = {
        name: {
            "observes": ["x"],
            "network": LINEAR,
            "clock": clock,
            "objective": {"kind": "regression", "target": "goal"},
        }
        for name, clock in (("a", {"unroll": 4}), ("b", {"period": 4, "unroll": 2}))
    }
    channel = {"size": 2, "norm": "none", "link": {"delay": 2}}
    predicted = {"gradient": {"context": ["goal"]}}
    there: dict[str, Any] = predicted if coupling == "decoupled" else {"coupling": coupling}
    there |= {} if horizon is None else {"horizon": horizon}
    document = {
        "scenario": "life",
        "env": Played(shown, (), terminated, torch.zeros_like(terminated)),
        "agents": agents,
        "channels": [
            channel | {"from": "a", "to": "b"} | there,
            channel | {"from": "b", "to": "a"} | predicted,
        ],
        "training": {"batch": BATCH, "steps": STEPS},
    }
    return Simulation(Scenario.model_validate(document), dtype=torch.float64, backend=backend)


def lived(
    channel: str, stamp: int, ends_at: int, backend: Chosen, coupling: str = "decoupled"
) -> dict[int, list[str]]:
    """The columns of the table by step, from the step of sending until the message is gone."""
    life: dict[int, list[str]] = {}
    with simulation_of(ends_at, backend, coupling) as simulation:
        for step in range(STEPS - 1):
            simulation.step()
            message = simulation.channels[channel].messages.get(stamp)
            if message is None:
                if life:
                    life[step] = ["gone"]
                    break
                continue
            none = torch.zeros(BATCH, dtype=torch.bool)
            gradient = none if message.gradient is None else message.gradient.any(1)
            life[step] = [places(m) for m in (message.void, ~message.injects, message.counted, gradient)]
    return life


def places(mask: Tensor) -> str:
    """The environments of a mask."""
    return "".join(map(str, mask.nonzero().flatten().tolist())) or "-"


@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize(("channel", "coupling", "stamp"), LIVES)
def test_lives(channel: str, coupling: str, stamp: int, backend: Chosen) -> None:
    life = lived(channel, stamp, 7, backend, coupling)
    rows = [line.split() for line in LIVES[channel, coupling, stamp].split("\n")[2:]]
    assert {int(step): life[int(step)] for step, *_ in rows} == {int(step): row for step, *row in rows}
    assert (min(life), max(life)) == (stamp, int(rows[-1][0]))


@pytest.mark.parametrize(
    ("coupling", "gone"), [("decoupled", (8, 10)), ("delayed", (16, 16)), ("locked", (8, 10))]
)
def test_messages_that_no_tick_reads_stay_until_their_window_injects_no_more(
    coupling: str, gone: tuple[int, int]
) -> None:
    for stamp, step in zip((5, 7), gone, strict=True):
        life = lived("a->b", stamp, 7, "cohort", coupling)
        assert (min(life), max(life)) == (stamp, step)
        assert {facts[2] for facts in life.values() if len(facts) > 1} == {"-"}


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_an_end_after_the_tick_that_reads_it_takes_nothing_back(backend: Chosen) -> None:
    assert lived("a->b", 6, 9, backend)[12] == ["01", "-", "0123", "0123"]


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_an_end_cuts_the_message_of_its_own_step_and_none_that_is_sent_later(backend: Chosen) -> None:
    life = lived("a->b", 6, 6, backend)
    assert (life[6], life[12]) == (["01", "01", "-", "-"], ["01", "01", "23", "23"])
    assert lived("a->b", 6, 5, backend)[12] == ["-", "-", "0123", "0123"]


def test_the_predictor_learns_when_the_gradient_is_back() -> None:
    with simulation_of(7, "cohort") as simulation:
        predictor = simulation.channels["a->b"].synthetic_gradient
        assert predictor is not None
        counts = []
        for _ in range(STEPS - 1):
            simulation.step()
            counts.append(predictor.updates)
    assert [step for step in range(1, len(counts)) if counts[step] > counts[step - 1]] == [6, 14]
