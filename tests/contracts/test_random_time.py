"""Recurrent agents, clocks, reads, ways back and episodes at random: a running simulation against the event simulator.

Held together: at which step each agent learns, and from which of its doings, in which environment; which examples each
predictor gets at each step, in which environments, and where their gradient is zero.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from tests.contracts.event_scene import Clock, Link, Scene, state_of
from tests.contracts.event_simulator import World
from tests.contracts.scripted import KINDS, agree

COUPLINGS = ("locked", "delayed", "detached", "decoupled", "unlocked")
HORIZON = 20


def drawn_ends(rng: random.Random, batch: int, share: float) -> dict[tuple[int, int], bool]:
    """Ends of episodes, each environment's own."""
    places = itertools.product(range(HORIZON), range(batch))
    return {place: rng.random() < 0.5 for place in places if rng.random() < share}


def drawn_clock(rng: random.Random) -> Clock:
    period = rng.choice([1, 1, 2, 3, 4])
    return Clock(period, rng.randrange(-period, period), rng.choice([1, 1, 2, 3]))


def drawn_link(rng: random.Random, sender: str, receiver: str, clocks: dict[str, Clock]) -> Link:
    delay = rng.choice([0, 0, 1, 2, 5]) if sender < receiver else rng.choice([1, 2, 3])
    coupling = rng.choice(COUPLINGS)
    stand_in = coupling == "unlocked" or (coupling == "decoupled" and rng.random() < 0.3)
    link = Link(f"{sender}->{receiver}", sender, receiver, delay, coupling, rng.choice([1, 2, 16]))
    link = replace(link, stand_in=stand_in, back=rng.choice([None, None, 0, 1, 4]))
    if stand_in or rng.random() < 0.5:
        drop = 0.0 if coupling == "locked" else rng.choice([0.0, 0.0, 0.3])
        return replace(link, drop=drop)
    whole = clocks[receiver].period % clocks[sender].period == 0
    return replace(link, read=rng.choice(["last", "concat" if whole else "last"]))


def looks_far(scene: Scene) -> bool:
    """Whether some message or state of an episode is due in a later one than the next, where windows are episodes."""
    world = World(scene)
    world.play()
    sender = {link.name: link.sender for link in scene.links} | {state_of(a): a for a in scene.memories}
    return any(
        scene.clocks[use.reader].unroll is None and use.window[1] > world.window(sender[name], stamp)[1] + 1
        for (name, stamp), uses in world.uses.items()
        for use in uses
    )


def drawn_scene(rng: random.Random) -> tuple[Scene, dict[str, str], frozenset[str]]:
    names = "abcd"[: rng.randint(1, 4)]
    clocks = {name: drawn_clock(rng) for name in names}
    pairs = [pair for pair in itertools.permutations(names, 2) if rng.random() < 0.5]
    links = [drawn_link(rng, sender, receiver, clocks) for sender, receiver in pairs]
    batch = rng.choice([1, 2, 4])
    lengths: tuple[int, ...] = ()
    if rng.random() < 0.4:
        lengths = tuple(rng.choice([1, 2, 3, 5]) for _ in range(rng.randint(1, 3)))
        after = itertools.accumulate(itertools.islice(itertools.cycle(lengths), HORIZON))
        over = {end - 1: rng.random() < 0.5 for end in after if end <= HORIZON}
        ends = {(step, row): kind for step, kind in over.items() for row in range(batch)}
        if rng.random() < 0.6:
            whole = {name: replace(clock, unroll=None) for name, clock in clocks.items()}
            clocks = whole if rng.random() < 0.5 or links else clocks
    else:
        ends = drawn_ends(rng, batch, rng.choice([0.0, 0.05, 0.2]))
    kinds = {name: rng.choice(KINDS) for name in names if rng.random() < 0.7}
    memories = {}
    for name in kinds:
        free = ("locked",) if clocks[name].unroll is None else ()
        memories[name] = rng.choice(["detached", "decoupled", "decoupled", *free])
    heard = {link.sender for link in links}
    judged = frozenset(name for name in names if name not in heard or rng.random() < 0.5) or frozenset("a")
    scene = Scene(clocks, links, HORIZON, memories, batch, ends=ends, lengths=lengths, judged=judged)
    if looks_far(scene):
        return drawn_scene(rng)
    return scene, kinds, frozenset(name for name in names if rng.random() < 0.2)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "seed",
    [
        *range(2),
        *(pytest.param(s, marks=pytest.mark.long if s < 5 else pytest.mark.nightly) for s in range(2, 30)),
    ],
)
def test_random_scenes_agree_with_the_event_simulator(seed: int) -> None:
    for number in range(12):
        agree(*drawn_scene(random.Random(f"{seed}/{number}")))


def test_an_agent_may_tick_more_rarely_than_episodes_end() -> None:
    ends = {(step, 0): True for step in range(HORIZON) if step % 5 in (2, 4)}
    clock = Clock(4, 3, None)
    scene = Scene(
        {"a": clock}, [], HORIZON, {"a": "detached"}, ends=ends, lengths=(3, 2), judged=frozenset("a")
    )
    agree(scene, {"a": "leaky"})
