"""Calls of all parts where some are started again, with answers that are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from antiphon import RunError
from antiphon.distributed.ray import ray_parts
from antiphon.distributed.ray.ray_parts import RayParts
from antiphon.distributed.ray.worker import Begun, Listening, StepsTaken
from antiphon.telemetry import PartMetrics


def made(answers: dict[str, list[Any]]) -> Any:
    """One part that does not wait, and the answers to what is called."""
    parts: Any = object.__new__(RayParts)
    parts._free, parts._count, parts._calls, parts._breaks = True, 1, 0, 0
    parts._submit = lambda index, method, *arguments, **options: method
    parts._submit_listen, parts._submit_begin_alone = (
        (lambda index: "listen"),
        (lambda index, answer: "begin"),
    )
    parts._note = lambda *arguments: None
    parts._answer = lambda index, ref: answers[ref].pop(0)
    ready = lambda refs, timeout: ([ref for ref in refs if answers[ref]], [])
    parts._ray = SimpleNamespace(wait=ready, available_resources=lambda: {"CPU": 0.0})
    return parts


METRICS = PartMetrics(part=0)


def test_a_part_that_begins_again_while_the_run_ends_still_answers_the_call() -> None:
    answers = {
        "advance": [None, (METRICS, StepsTaken())],
        "listen": [(METRICS, Listening((1, "host", 1)))],
        "begin": [(METRICS, Begun())],
    }
    (answer,) = made(answers)._call("advance", 9, None, lambda: True)
    assert isinstance(answer[1], StepsTaken)


def test_a_part_that_does_not_come_back_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_parts, "_STARTED_WITHIN", 0.0)
    parts = made({"advance": [None], "listen": []})
    with pytest.raises(RunError, match=r"^ray: part 0 has not started within 0 s; 0 CPUs"):
        parts._call("advance", 9, None, lambda: False)


@pytest.mark.parametrize(("crossing", "kept"), [(0.1, 30.0), (5.0, 500.0)])
def test_a_state_is_kept_as_seldom_as_it_takes_long_to_cross_the_first_one_too(
    monkeypatch: pytest.MonkeyPatch, crossing: float, kept: float
) -> None:
    """The parts' first state crosses as they begin: that says how long the next takes."""
    now = [0.0]
    monkeypatch.setattr(ray_parts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(ray_parts, "merge_states", lambda states: {})

    def cross(*_: Any) -> list[Any]:
        now[0] += crossing
        return []

    parts = made({})
    parts._free, parts._shares, parts._keep_every, parts._keep_at, parts._at = False, [], 30.0, 0.0, 0
    parts._metrics, parts._log_steps = [METRICS], None
    parts._begin = parts._all = cross
    parts._exchanged = lambda index: {}
    parts._take_steps = lambda until, stop: {until}
    taken = []
    gather = parts.gather
    parts.gather = lambda: taken.append(now[0]) or gather()
    parts.scatter({})
    for step in range(1, 2100):
        now[0] += 0.5
        parts.advance(step)
    first, second = taken[:2]
    assert first == pytest.approx(crossing + kept, abs=0.6)
    assert second - first == pytest.approx(crossing + kept, abs=0.6)
