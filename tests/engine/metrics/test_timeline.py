"""The timeline of a system against rasters written by hand, and against a running simulation's ledgers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from antiphon import ScenarioError, Simulation
from antiphon.comms import Coupling, CreditedMessage
from antiphon.errors import RunError
from antiphon.scenarios import Scenario, load
from antiphon.telemetry import Timeline, raster_lines
from tests.engine.numbers import one_line
from tests.kit.commands import Commands
from tests.kit.documented import timeline

GOAL = {"kind": "classification", "target": "label"}
LSTM = {"kind": "lstm", "size": 4}
SMALL = {"kind": "mlp", "hidden": [4]}


def agent(period: int = 1, phase: int = 0, unroll: int | str = 1, **more: Any) -> dict[str, Any]:
    clock = {"period": period, "phase": phase, "unroll": unroll}
    return {"observes": ["image"], "network": SMALL, "objective": GOAL, "clock": clock, **more}


def channel(ends: str = "a->b", coupling: Any = "decoupled", **more: Any) -> dict[str, Any]:
    sender, receiver = ends.split("->")
    return {"from": sender, "to": receiver, "size": 4, "coupling": coupling, **more}


def state(name: str, coupling: str) -> dict[str, Any]:
    return {"from": name, "to": name, "key": "state", "coupling": coupling}


def scenario(agents: dict[str, Any], channels: list[dict[str, Any]], **env: Any) -> Scenario:
    return Scenario(
        scenario="made",
        env={"id": "antiphon/Digits-v0", **env},
        agents=agents,
        channels=channels,
        training={"batch": 4},
    )


def look(made: Scenario, steps: int = 8, start: int = 0) -> Timeline:
    return timeline(Simulation(made), start, steps)


def raster(found: Timeline) -> dict[str, str]:
    """The text's rows without couplings, one space between cells: what the tests below write by hand."""
    rows: dict[str, str] = {}
    above = ""
    for line in raster_lines(found, width=10_000):
        if not line:
            break
        name = line.split()[0]
        cells = [word for word in line.replace("|", " ").split()[1:] if not word.startswith("(")]
        rows[f"{above} credit" if name == "credit" else name] = " ".join(cells)
        above = name
    return rows


@pytest.mark.parametrize(
    ("sender", "receiver", "delay", "cells"),
    [
        ((1, 0), (1, 0), 0, "0 0 0 0 0 0 0 0"),
        ((1, 0), (1, 0), 2, "- - 2 2 2 2 2 2"),
        ((1, 0), (2, 0), 0, "0 x 0 x 0 x 0 x"),
        ((1, 0), (2, 0), 1, "-x . 1x . 1x . 1x ."),
        ((1, 0), (4, 3), 0, "x x x 0 x x x 0"),
        ((2, 0), (1, 0), 0, "0 1 0 1 0 1 0 1"),
        ((2, 1), (1, 0), 0, "- 0 1 0 1 0 1 0"),
        ((4, 3), (1, 0), 1, "- - - - 1 2 3 4"),
        ((2, 0), (3, 1), 0, ". 1 x . 0 . . 1"),
    ],
)
def test_ages_follow_the_clocks(
    sender: tuple[int, int], receiver: tuple[int, int], delay: int, cells: str
) -> None:
    agents = {"a": agent(*sender), "b": agent(*receiver)}
    found = look(scenario(agents, [channel(link={"delay": delay})]))
    assert raster(found)["a->b"] == cells


def everyone(names: str, **own: Any) -> dict[str, Any]:
    return {name: agent(**own) for name in names}


def by_turns(coupling: str) -> Scenario:
    """The sender ticks at even steps, the receiver at odd ones."""
    return scenario({"a": agent(2, 0), "b": agent(2, 1)}, [channel(coupling=coupling)])


def remembering(coupling: str | None, unroll: int | str = 3, **env: Any) -> Scenario:
    """One agent with a state."""
    states = [] if coupling is None else [state("a", coupling)]
    return scenario({"a": agent(unroll=unroll, network=LSTM)}, states, **env)


def two_levels() -> Scenario:
    """A fast agent, and a slow one that reads all of its messages and tells it what it makes of them."""
    agents = {"low": agent(unroll=4, network=LSTM), "high": agent(4, -1, 2, network=LSTM, observes=[])}
    up = channel("low->high", key="up", read="concat")
    down = channel("high->low", "detached", key="down", link={"delay": 1})
    return scenario(agents, [up, down, state("low", "decoupled")])


LATER = {"link": {"delay": 1}}
EXAMPLES = {"hold": 3, "episode": "example"}
RASTERS: dict[str, tuple[Scenario, dict[str, str]]] = {
    "windows of agents that learn alone": (
        scenario({"a": agent(unroll=3), "b": agent(4, -1, 2)}, [channel()]),
        {"a": "o o # o o # o o", "b": ". . . o . . . #"},
    ),
    "a locked group learns at its common window": (
        scenario({"a": agent(unroll=3), "b": agent(2, 0)}, [channel(coupling="locked")]),
        {"a": "o o o o o # o o", "b": "o . o . o : o ."},
    ),
    "a lossy link is drawn as one that loses nothing": (
        scenario(everyone("ab"), [channel(link={"drop": 0.5})]),
        {"a->b": "0 0 0 0 0 0 0 0"},
    ),
    "what an episode leaves behind is not read": (
        scenario({"a": agent(objective=None), "b": agent()}, [channel(**LATER)], **EXAMPLES),
        {"a->b": "- 1 1x - 1 1x - 1"},
    ),
    # The sender's tick, one step before, lies in the window of a locked group alone.
    "credit, locked": (by_turns("locked"), {"b credit": "1 1 1 1"}),
    "credit, detached": (by_turns("detached"), {"b credit": "0 0 0 0"}),
    "credit, decoupled": (by_turns("decoupled"), {"b credit": "0+ 0+ 0+ 0+"}),
    "credit, delayed": (by_turns("delayed"), {"b credit": "0~ 0~ 0~ 0~"}),
    "credit goes back through a locked group to its window's start": (
        scenario(everyone("abc", unroll=4), [channel(ends, "locked", **LATER) for ends in ("a->b", "b->c")]),
        {
            "a credit": "0 0 0 0 0 0 0 0",
            "b credit": "0 1 1 1 0 1 1 1",
            "c credit": "0 1 2 2 0 1 2 2",
            "b->c": "- 1 1 1 1! 1 1 1",
        },
    ),
    "credit reaches as far as the farthest of several senders": (
        scenario(
            {**everyone("bc", unroll=4), "a": agent(unroll=4, network=LSTM)},
            [channel(ends, "locked") for ends in ("a->c", "b->c")],
        ),
        {"b credit": "0 0 0 0 0 0 0 0", "c credit": "0 1 2 3 0 1 2 3"},
    ),
    "round a locked cycle credit reaches the whole window": (
        scenario(everyone("ab", unroll=4), [channel(ends, "locked", **LATER) for ends in ("a->b", "b->a")]),
        {"a credit": "0 1 2 3 0 1 2 3"},
    ),
    "an implicit state carries credit to its window's start": (
        remembering(None),
        {"a credit": "0 1 2 0 1 2 0 1", "a->a:state": "- 1 1 1! 1 1 1! 1"},
    ),
    "and a decoupled one, beyond which its gradient stands for the rest": (
        remembering("decoupled"),
        {"a credit": "0 1 2 0+ 1+ 2+ 0+ 1+", "a->a:state": "- 1 1 1 1 1 1 1"},
    ),
    "a locked state carries credit through the episode": (
        remembering("locked", "episode", hold=4, episode="example"),
        {"a credit": "0 1 2 3 0 1 2 3", "a->a:state": "- 1 1 1x - 1 1 1x"},
    ),
    "an episode's end within a window ends credit": (
        remembering("decoupled", 4, **EXAMPLES),
        {"a credit": "0 1 2 0 0+ 1+ 0 1"},
    ),
    **{
        f"what brings nothing back stands for nothing: {gradient}": (
            scenario(everyone("ab"), [channel(gradient=gradient)]),
            {"b credit": "0 0 0 0 0 0 0 0"},
        )
        for gradient in (
            {"kind": "local", "target": "label"},
            {"scale": 0, "discount": 0},
            {"scale": 0, "discount": 0},
        )
    },
    "two levels": (
        two_levels(),
        {
            "low": "o o o # o o o #",
            "low credit": "0 1 2 3 0+ 1+ 2+ 3+",
            "high": ". . . o . . . #",
            "high credit": "0+ 4+",
            "low->high:up": ". . . 0–3 . . . 0–3",
            "high->low:down": "- - - - 1 2 3 4",
        },
    ),
}


@pytest.mark.parametrize("name", RASTERS)
def test_rasters_by_hand(name: str) -> None:
    made, expected = RASTERS[name]
    found = raster(look(made))
    assert {row: found[row] for row in expected} == expected


def test_a_timeline_may_begin_in_mid_window() -> None:
    made = scenario({"a": agent(unroll=4), "b": agent(2, 1, 2)}, [channel(coupling="locked")])
    whole, late = look(made, steps=12), look(made, steps=5, start=6)
    assert late.agents[1].since.tolist() == whole.agents[1].since[6:11].tolist()
    assert raster(late)["step"] == "7 8 9 10 11"
    assert late.channels[0].stamps == whole.channels[0].stamps[6:11]


# --- state and levels ---------------------------------------------------------------------------------------


def test_episodes_of_varying_length_are_taken_to_be_as_long_as_the_present_one() -> None:
    with Simulation(load("copy").resolve("locked").with_training(batch=4)) as simulation:
        length = int(timeline(simulation, 0, 99).episode_ends.argmax()) + 1
        simulation.run(steps=length + 1)
        found = timeline(simulation, simulation.now, 2 * length)
    ends = [step for step in range(2 * length) if found.episode_ends[step]]
    assert ends == [length - 2, 2 * length - 2]
    assert found.agents[0].ends.tolist() == found.episode_ends.tolist()
    assert found.agents[0].since.tolist() == [length] * (length - 1) + [2 * length] * length + [3 * length]


def test_a_slow_reader_of_the_mean_reads_all_and_a_fast_one_the_last() -> None:
    agents = {"a": agent(2), "b": agent(3, 2)}
    ways = [channel(read="mean"), channel("b->a", read="mean", link={"delay": 1})]
    found = look(scenario(agents, ways), steps=9)
    assert [found.channels[0].stamps[step] for step in (2, 5, 8)] == [(0, 2), (4,), (6, 8)]
    assert [found.channels[1].stamps[step] for step in range(0, 9, 2)] == [(), (), (2,), (5,), (5,)]


# --- against what runs --------------------------------------------------------------------------------------

PAIRS = [(1, 0, 1), (2, 1, 2), (3, 1, 2)]


@pytest.mark.parametrize(("sender", "receiver"), list(itertools.permutations(PAIRS, 2)), ids=str)
def test_gradients_are_back_when_the_timeline_says(
    sender: tuple[int, int, int], receiver: tuple[int, int, int]
) -> None:
    made = scenario({"a": agent(*sender), "b": agent(*receiver)}, [channel(link={"delay": 1})])
    with Simulation(made) as simulation:
        one = timeline(simulation, 0, 14).channels[0]
        recording = simulation.channels["a->b"].record(["delta", "prediction"])
        simulation.run(steps=14)
    assert sorted({step for step in one.back.tolist() if 0 <= step < 14}) == recording.steps["delta"]
    assert sorted({step for step in one.trained.tolist() if 0 <= step < 14}) == recording.steps["prediction"]


@pytest.mark.parametrize(("horizon", "delay"), [(8, 0), (1, [1, 2])], ids=str)
@pytest.mark.parametrize(("sender", "receiver"), list(itertools.product(PAIRS, PAIRS)), ids=str)
def test_a_sender_that_waits_learns_when_the_timeline_says(
    sender: tuple[int, int, int], receiver: tuple[int, int, int], horizon: int, delay: int | list[int]
) -> None:
    """A window is learned from as a later one ends, after the step at which its gradients are whole; one that is given up, never."""
    late = channel(coupling="delayed", horizon=horizon, link={"delay": delay})
    agents = {"a": {**agent(*sender), "objective": None}, "b": agent(*receiver)}
    with Simulation(scenario(agents, [late])) as simulation:
        found = timeline(simulation, 0, 40).channels[0]
        learned, before = [], 0
        for step in range(40):
            simulation.step()
            updates = simulation.agents["a"].updates
            learned += [step] * (updates > before)
            before = updates
    assert sorted({step for step in found.trained.tolist() if 0 <= step < 40}) == learned


def patient(steps: int) -> type[Coupling]:
    """A coupling whose sender waits for a gradient so many steps, and takes the predicted one where it has not come."""

    class Patient(Coupling):
        predicts = uses_returned = waits = True

        def waits_for(self, stamp: int, step: int) -> bool:
            return step < stamp + steps

        def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
            return (
                message.applied_prediction if message.returned_gradient is None else message.returned_gradient
            )

    return Patient


def test_an_error_of_a_couplings_waits_for_names_channel_and_line() -> None:
    class Fails(Coupling):
        uses_returned = waits = True
        fails = False

        def waits_for(self, stamp: int, step: int) -> bool:
            if self.fails:
                raise ValueError("no\npatience")
            return True

        def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
            return message.returned_gradient

    agents = {"a": {**agent(), "objective": None}, "b": agent()}
    line = r"^channels\.a->b: .*Fails\.waits_for failed at test_timeline\.py:\d+: ValueError: no$"
    with Simulation(scenario(agents, [channel(coupling=Fails, link={"delay": 1})])) as simulation:
        Fails.fails = True
        with one_line(line, RunError):
            timeline(simulation, 0, 9)


@pytest.mark.parametrize("steps", [0, 3, 7, 99])
@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_sender_learns_when_its_coupling_no_longer_waits(steps: int) -> None:
    """Window k of `a`, of steps 4k to 4k + 3, waits for the message of step 4k + 2, whose gradient is back three ends later."""
    link = {"delay": [2, 10]}
    late = channel(coupling=patient(steps), link=link, gradient={"kind": "linear", "context": ["label"]})
    agents = {"a": {**agent(unroll=4), "objective": None}, "b": agent(4, 0)}
    with Simulation(scenario(agents, [late])) as simulation:
        found = timeline(simulation, 0, 40)
        recording = simulation.channels["a->b"].record(["prediction"])
        simulation.run(steps=40)
    trained = found.channels[0].trained
    assert sorted({step for step in trained.tolist() if 0 <= step < 40}) == recording.steps["prediction"]
    assert trained[2] == {0: 3, 3: 7, 7: 11, 99: 15}[steps]
    assert found.agents[1].late_credit.any() == (steps > 1)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_a_returned_gradient_is_learned_from_if_it_is_back_as_its_own_window_is(waits: bool) -> None:
    """Also where that window waits for the gradients of another channel."""
    credited: dict[int, int] = {}

    class InTime(Coupling):
        uses_returned = True

        def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
            if message.returned_gradient is not None:
                credited[message.stamp] = step
            return message.returned_gradient

    agents = {"a": {**agent(unroll=4), "objective": None}, "b": agent(), "c": agent()}
    channels = [channel(coupling=InTime, link={"delay": 1})]
    channels += [channel("a->c", coupling="delayed", link={"delay": 2})] if waits else []
    with Simulation(scenario(agents, channels)) as simulation:
        trained = timeline(simulation, 0, 12).channels[0].trained
        simulation.run(steps=12)
    assert credited == {stamp: step for stamp, step in enumerate(trained.tolist()) if 0 <= step < 12} != {}


# --- the unhappy paths --------------------------------------------------------------------------------------


def test_a_span_that_is_none_is_refused() -> None:
    made = scenario({"a": agent()}, [])
    with pytest.raises(ScenarioError, match=r"^timeline: steps is 0; it must be at least 1$"):
        look(made, 0)
    with pytest.raises(ScenarioError, match=r"^timeline: start is -1; it must be at least 0$"):
        look(made, 4, start=-1)


@pytest.mark.parametrize(("unroll", "hold", "steps"), [(1, 1, 8), (6, 1, 12), (40, 1, 32), (1, 10, 10)])
def test_two_windows_and_an_episode_are_shown_where_nobody_says_how_many_steps(
    unroll: int, hold: int, steps: int, here: Path, cli: Commands
) -> None:
    episodes = {"hold": hold, "episode": "example"} if hold > 1 else {}
    (here / "made.yaml").write_text(scenario({"a": agent(unroll=unroll)}, [], **episodes).to_yaml())
    assert cli.json("show made.yaml --timeline")["steps"] == steps
