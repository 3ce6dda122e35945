"""The timeline as plain text, and what is left out of it."""

from __future__ import annotations

import numpy as np

from antiphon.telemetry import AgentTimes, ChannelTimes, Timeline, raster_lines

FAST = AgentTimes(
    name="fast",
    ticks=np.ones(4, bool),
    ends=np.array([False, True, False, True]),
)
SLOW = AgentTimes(
    name="slow",
    ticks=np.array([False, True, False, True]),
    ends=np.array([False, False, True, True]),
)
UP = ChannelTimes(
    name="fast->slow",
    sender="fast",
    receiver="slow",
    coupling="locked",
    state=False,
    sent=np.ones(4, bool),
    stamps=((), (0, 1), (), (1,)),
    ages=np.array([-1, 0, -1, 2]),
    due=np.array([False, True, False, True]),
    unread=np.array([False, False, True, True]),
    cut=np.array([False, False, False, True]),
    back=np.array([1, 1, -1, -1]),
)
MADE = Timeline(
    start=0,
    steps=4,
    agents=(FAST, SLOW),
    channels=(UP,),
    episode_ends=np.array([False, True, False, False]),
)


def test_the_text_is_a_row_per_agent_and_channel() -> None:
    assert str(MADE).splitlines() == raster_lines(MADE)
    assert raster_lines(MADE)[:5] == [
        "step                 1   2  |3   4",
        "fast                 o   #  |o   #",
        "slow                 .   o  |:   #",
        "fast->slow (locked)  .   0–1|x   2!x",
        "",
    ]


def test_the_text_explains_the_signs() -> None:
    agents, channels = raster_lines(MADE)[5:]
    assert agents.startswith("agents:   o ticks · # ticks, and its window ends")
    assert "! sent before the window; no gradient returns" in channels


def test_many_steps_go_into_blocks_of_equal_length() -> None:
    lines = raster_lines(MADE, width=33)
    assert [line.split()[1:] for line in lines if line.startswith("step")] == [["1", "2", "|"], ["3", "4"]]
    assert max(map(len, lines[:-2])) <= 33
    narrow = raster_lines(MADE, width=1)
    assert len([line for line in narrow if line.startswith("step")]) == 4
