"""What is chosen for links that are `auto`, by what was measured of a line: the most bits and the fewest steps."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.distributed.automatic_link import LinkChoice, slowed_by_loss
from antiphon.distributed.ray.worker import MeasuredLine


def chosen(
    line: float,
    step: float,
    *,
    latency: float = 0.0,
    loses: bool = False,
    bits: Sequence[int] = (32, 16, 8, 4),
) -> LinkChoice:
    """What is chosen where exchanges of 320 bytes, 64 of them no components, take `line` seconds, and a step `step`."""
    lines = [MeasuredLine(0, 1, latency, 320, line, loses), MeasuredLine(1, 0, latency, 64, line / 5)]
    return LinkChoice.for_lines(lines, step, {one: [256 * (1 - one / 32), 0.0] for one in bits})


def test_the_fewest_steps_are_chosen_that_hide_an_exchange() -> None:
    """What leaves after step t is there when step t + delay begins, if the steps between take as long as the line."""
    for latency, step in ((0.0, 0.1), (0.1, 0.1), (0.1, 0.058), (0.135, 0.058), (1e-5, 1e-3), (10.0, 1e-4)):
        delay = chosen(0.0, step, latency=latency).delay
        assert (delay - 1 + 0.05) * step >= latency or delay == 1024
        assert delay == 1 or (delay - 2 + 0.05) * step < latency


def test_where_packets_are_lost_the_delay_hides_that_they_are_sent_again() -> None:
    assert chosen(0.01, 0.07, latency=0.025) == LinkChoice(delay=2, bits=32)
    assert chosen(0.01, 0.07, latency=0.025, loses=True) == LinkChoice(delay=3, bits=32)


def test_packets_lost_without_bbr_are_named() -> None:
    used = [("cubic", False), ("bbr", True), ("", True), ("cubic", True)]
    lines = [MeasuredLine(n, 9, 0.1, 320, 0.1, loses, name) for n, (name, loses) in enumerate(used)]
    assert slowed_by_loss(lines[:3]) is None
    line = slowed_by_loss(lines)
    assert line is not None
    assert line.startswith(
        "parts: packets from part 3 to part 9 are lost, which slows down a connection with cubic"
    )
    assert "`modprobe tcp_bbr`" in line


def test_as_many_bits_are_chosen_as_the_line_carries_in_a_step() -> None:
    """Of 320 bytes, 64 stay whatever the bits are: 192 are left with 16 bits, 128 with 8, 96 with 4."""
    speeds = ((0.08, 32), (0.1, 16), (0.14, 16), (0.2, 8), (0.25, 4), (0.29, 4), (5.0, 4))
    assert [(line, chosen(line, 0.1).bits) for line, _ in speeds] == list(speeds)
    assert chosen(5.0, 0.1, bits=[32]).bits == 32
    assert chosen(1e-3, 1e-4).bits == 32  # a millisecond, which the processors take


def test_where_the_line_is_slower_than_a_step_the_delay_is_in_steps_of_the_line() -> None:
    """An exchange of 4 bits takes 1.5 s, in which no more than one step is taken."""
    assert chosen(5.0, 0.1, latency=0.2) == LinkChoice(delay=3, bits=4)


def test_without_a_line_nothing_is_waited_for() -> None:
    assert LinkChoice.for_lines([], 0.1, {32: []}) == LinkChoice(1, 32)
