"""Reach: a member takes a step where, alone, anything of the learning signal would have come to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from antiphon.engine.core.records import members_and
from antiphon.engine.core.updates import Update
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.backward import reached
from antiphon.scenarios import Scenario
from tests.contracts.builders import LABEL, OWN, Document, Play, document, levels, ring
from tests.contracts.twins import agree, made, side_by_side
from tests.engine.scenes import ENDS, LSTM, QUARANTINE, gradient, states
from tests.engine.stacks import both, channel_stacks, engine_of, mask, stack_of, stacks

LOCKED: Document = {"coupling": "locked"}
LATER: Document = {"coupling": "locked", "link": {"delay": 1}}
UNROLLED: Document = {"clock": {"unroll": 2}}


def on_updates(simulation: Simulation, look: Callable[[Update], None]) -> None:
    """Have every update looked at before it is applied."""
    backend: Any = simulation.backend
    follow = backend._apply

    def looked(updates: list[Update], step: int) -> None:
        for update in updates:
            look(update)
        follow(updates, step)

    backend._apply = looked


def told(
    pairs: list[tuple[str, str, Document]], own: dict[str, Document], env: Any = None, **training: Any
) -> Document:
    """Agents by their first letters: b… and c… have objectives."""
    names = sorted({name for a, b, _ in pairs for name in (a, b)})
    agents = {
        n: {**OWN, **({"objective": LABEL} if n[0] in "bc" else {}), **own.get(n[0], {}), **own.get(n, {})}
        for n in names
    }
    return document(agents, [{"from": a, "to": b, **how} for a, b, how in pairs], env, **training)


PORT: Document = {"port": "p", "size": 4}
DETACHED: Document = {**PORT, "coupling": "detached"}
SENT: Document = {**PORT, **gradient()}
SIGHT: Document = {"observes": ["y"]}

SCENES: dict[str, Document] = {
    "own objectives": ring(),
    "injections": levels(),
    "injected for some alone": told(
        [("a0", "b0", SENT), ("a1", "b0", DETACHED), ("a2", "b0", SENT), ("a1", "b1", DETACHED)], {"b": SIGHT}
    ),
    "shadows": levels(channel=gradient(apply=False)),
    "followed by others alone": levels(channel=gradient(scale=0.0)),
    "nothing returned yet": levels(channel={"link": {"delay": 6}}, high={"clock": {"period": 3}}),
    "read by none of the window": levels(
        channel={**LOCKED, "link": {"delay": 2}}, low=UNROLLED, high=UNROLLED
    ),
    "read by a later tick": levels(channel=LATER, low=UNROLLED, high=UNROLLED),
    "locked to who learns and to who does not": told(
        [("a0", "c", LATER), ("a1", "z", LATER), ("z", "c2", {"coupling": "detached"})],
        {"a": UNROLLED, "c": {**UNROLLED, **SIGHT}, "z": {**UNROLLED, **SIGHT}},
    ),
    "locked, drawn": levels(channel=LOCKED, low={"p_update": 0.5}, high={"p_update": 0.5}),
    "locked, drawn, a chain": told(
        [
            *[(f"a{i}", f"y{(i + 1) % 4}", LOCKED) for i in range(4)],
            *[(f"y{i}", f"c{(i + 3) % 4}", LOCKED) for i in range(4)],
        ],
        {"a": {"p_update": 0.6}, "y": {"p_update": 0.6, **SIGHT}, "c": {"p_update": 0.6}},
    ),
    "locked, several periods": levels(
        channel=LATER, low={"clock": {"unroll": 4}}, high={"clock": {"period": 2, "phase": 1, "unroll": 2}}
    ),
    "locked and put": told(
        [
            *[(f"a{i}", f"b{i}", {**LOCKED, **PORT}) for i in range(3)],
            *[
                ("a1", "d0", {**SENT, "key": "k"}),
                ("d0", "b0", {"coupling": "detached", "link": {"delay": 1}}),
            ],
        ],
        {"b": {"p_update": 0.5}, "d": SIGHT},
    ),
    "targets now and then": levels(env=Play(gaps=0.7), batch=1, channel={"coupling": "detached"}),
    "locked, targets now and then": levels(env=Play(gaps=0.7), batch=1, channel=LOCKED),
    "episodes end": levels(env=Play(share=0.4), batch=1, channel={"link": {"delay": 2}}),
    "episodes end on the way": levels(
        env=Play(share=0.4), batch=1, channel=LATER, low=UNROLLED, high=UNROLLED
    ),
    "episodes end, all at once": levels(
        env=Play(lengths=(3, 2)), channel=LATER, low={"clock": {"unroll": 4}}, high={"clock": {"unroll": 4}}
    ),
    "episodes end, quarantine": levels(
        env=Play(share=0.4), batch=1, channel={"link": {"delay": 2}}, **QUARANTINE
    ),
    "the group of one is dead": told(
        [("a0", "c", LATER), ("a1", "z", LATER)],
        {
            "a": {"clock": {"unroll": 4}},
            "c": {**SIGHT, "clock": {"unroll": 4}},
            "z": {"clock": {"period": 2, "phase": 1, "unroll": 2}, "objective": LABEL},
        },
        Play(share=0.3),
        batch=1,
    ),
    "through agents that stand alone": told(
        [
            *[("a0", "y", LOCKED), ("a1", "z", LOCKED), ("a2", "y", LOCKED), ("y", "c", LOCKED)],
            *[("z", "w", {**SENT, "link": {"delay": 1}}), ("w", "c2", {"coupling": "detached"})],
        ],
        {
            "y": {**SIGHT, "p_update": 0.7},
            "z": {"p_update": 0.7},
            "w": SIGHT,
            "c": {"observes": ["x", "y"], "p_update": 0.7},
            "c2": SIGHT,
        },
    ),
    "auxiliary": document(
        {f"n{i}": {**OWN, **LSTM} for i in range(3)} | {"b": {**OWN, "objective": LABEL}},
        [
            *[{"from": f"n{i}", "to": "b", "coupling": "detached"} for i in range(3)],
            *states(["n0", "n1", "n2"], **gradient(auxiliary=0.5)),
        ],
        ENDS,
    ),
    "states": document(
        {f"n{i}": {**OWN, **LSTM} for i in range(3)} | {"b": {**OWN, "objective": LABEL}},
        [
            *[{"from": f"n{i}", "to": "b", "coupling": "detached"} for i in range(3)],
            *states(["n0", "n1", "n2"], **gradient()),
        ],
        ENDS,
    ),
}


@pytest.mark.parametrize("name", SCENES)
def test_a_member_is_reached_where_it_would_be_alone(name: str) -> None:
    """Else it would have taken another number of steps, and its optimiser would have another state."""
    single, cohort = both(SCENES[name])
    assert stacks(engine_of(cohort).stacked)
    side_by_side(single, cohort, 12)
    assert any(agent.updates for agent in single.agents.values())


# --- members of several seeds, whose episodes end apart ------------------------------------------------------

SEEDS = (3, 4)
APART = Play(share=0.4)


def stack_of_seeds(scene: Document) -> tuple[list[list[bool]], list[list[bool]]]:
    """Run two seeds of a scene in one program, and hold each to the reference at every step.

    Returns:
        By step, of either seed: whether its one episode ended, and whether its a0 took an optimiser step.
    """
    together = Seeds(Scenario.model_validate(scene), SEEDS, dtype=torch.float64)
    assert together.sequential_reason is None
    alone = [made(scene, "reference", seed=seed) for seed in SEEDS]
    ended, moved = [], []
    for _ in range(12):
        before = [own.agents["a0"].updates for own in alone]
        infos = [own.step() for own in alone]
        together.step()
        for own, simulation in zip(alone, together.simulations, strict=True):
            agree(own, simulation)
        ended.append([bool(torch.as_tensor(info["ended"]).all()) for info in infos])
        moved.append([own.agents["a0"].updates > n for own, n in zip(alone, before, strict=True)])
    return ended, moved


def test_the_sender_of_a_message_that_is_dead_when_it_is_read_is_not_reached() -> None:
    """It is made at a window's first tick and read at the second; the other seed's is alive."""
    ended, moved = stack_of_seeds(
        levels(count=1, env=APART, batch=1, channel=LATER, low=UNROLLED, high=UNROLLED)
    )
    assert any(first != second for first, second in ended[::2])
    assert not any(one for step in moved[::2] for one in step)
    assert moved[1::2] == [[not one for one in step] for step in ended[::2]]


def test_the_sender_of_a_message_that_nothing_is_injected_into_is_not_reached() -> None:
    """Its episode ends before it could be read; into the other seed's there is an injection."""
    ended, moved = stack_of_seeds(levels(count=1, env=APART, batch=1, channel={"link": {"delay": 1}}))
    assert any(first != second for first, second in ended)
    assert moved == [[not one for one in step] for step in ended]


# --- by hand ---------------------------------------------------------------------------------------------


def test_members_of_both() -> None:
    one, other = mask(1, 1, 0, 0), mask(1, 0, 1, 0)
    assert members_and(None, None) is None
    assert members_and(one, None) is one
    assert members_and(None, other) is other
    both = members_and(one, other)
    assert both is not None
    assert both.tolist() == [True, False, False, False]


@pytest.mark.parametrize("judged", [(1, 0, 0, 0), (0, 1, 0, 1), (0, 0, 0, 0), (1, 1, 1, 1)])
def test_a_window_is_read_backwards_along_each_member_s_own_channels(judged: tuple[int, ...]) -> None:
    """a tells y, and y tells c, each in an order of its own; some of c's members had no target."""
    _, cohort = both(
        told(
            [
                *[(f"a{i}", f"y{(i + 1) % 4}", LATER) for i in range(4)],
                *[(f"y{i}", f"c{(i + 3) % 4}", LOCKED) for i in range(4)],
            ],
            dict.fromkeys("ayc", UNROLLED) | {"y": {**UNROLLED, **SIGHT}},
        )
    )
    backend = engine_of(cohort)
    found: list[dict[str, list[bool]]] = []

    def look(update: Update) -> None:
        last = stack_of(backend.stacked, "c0")
        update.window_loss.losses[last.name].count = torch.tensor(judged)
        who = {}
        for name in update.group.members:
            agent = backend.system.agents[name]
            members = reached(backend.system, update, agent)
            who[name[0]] = [True] * 4 if members is None else members.tolist()
        found.append(who)

    on_updates(cohort, look)
    cohort.run(2)
    expected = [bool(one) for one in judged]
    by_y = [expected[(i + 3) % 4] for i in range(4)]
    by_a = [by_y[(i + 1) % 4] for i in range(4)]
    assert found == [{"c": expected, "y": by_y, "a": by_a}]


def test_members_with_a_disabled_predictor_inject_nothing() -> None:
    _, cohort = both(levels(count=4, **QUARANTINE))
    backend = engine_of(cohort)
    (channels,) = channel_stacks(backend.stacked)
    channels.predictors_disabled = mask(0, 1, 0, 1)
    found: list[Any] = []

    def look(update: Update) -> None:
        for name in update.group.members:
            agent = backend.system.agents[name]
            if agent.names[0] == "a0":
                found.append(reached(backend.system, update, agent))

    on_updates(cohort, look)
    cohort.step()
    (members,) = found
    assert members.tolist() == [True, False, True, False]


def test_members_with_a_disabled_state_predictor_have_no_auxiliary_task() -> None:
    names = ["n0", "n1", "n2"]
    scene = document(
        {name: {**OWN, **LSTM} for name in names} | {"b": {**OWN, "objective": LABEL}},
        [
            *[{"from": name, "to": "b", "coupling": "detached"} for name in names],
            *states(names, **gradient(auxiliary=0.5)),
        ],
        **QUARANTINE,
    )
    _, cohort = both(scene)
    backend = engine_of(cohort)
    agent = stack_of(backend.stacked, "n0")
    assert agent.memory is not None
    agent.memory.predictors_disabled = mask(0, 1, 0)
    found: list[Any] = []

    def look(update: Update) -> None:
        if agent.name in update.group.members:
            assert agent.name in update.auxiliary
            found.append(reached(backend.system, update, agent))

    on_updates(cohort, look)
    cohort.run(3)
    (members,) = found
    assert members.tolist() == [True, False, True]


def test_each_consumption_of_a_window_is_listed_once() -> None:
    _, cohort = both(
        levels(wide=True, high={"clock": {"unroll": 3}}, channel={"port": "p", "link": {"delay": 1}})
    )
    seen: list[tuple[list[tuple[str, Any]], Update]] = []
    on_updates(cohort, lambda update: seen.append((update.tape.consumptions(), update)))
    cohort.run(3)
    uses, update = next((uses, update) for uses, update in seen if uses)
    assert len({id(use) for _, use in uses}) == len(uses) == 2  # of the messages of steps 0 and 1
    (channels,) = channel_stacks(engine_of(cohort).stacked)
    assert {name for name, _ in uses} == {channels.name}
    entries = [
        e for tick in update.tape.ticks for part in tick.parts for e in part.consumed if e.use is not None
    ]
    assert len(entries) >= len(uses)
