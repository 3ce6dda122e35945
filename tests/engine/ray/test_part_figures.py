"""Figures of a part over all its processes: totals go on after a restart, and what is gone waits for nobody."""

from __future__ import annotations

from antiphon.engine.ray.records import PartRecord
from antiphon.engine.ray.worker import Progress


def progress(process: int, **changes: object) -> Progress:
    given: dict[str, object] = {"machine": "node-1", "process": process, "now": 7, "computing": 2.0}
    return Progress(**{**given, "waiting": {1: 0.5}, "bytes_sent": 100, "calls": 3, **changes})  # type: ignore[arg-type]


def test_totals_go_on_over_a_restart() -> None:
    record = PartRecord()
    record.note(progress(11))
    record.note_death()
    record.note(progress(12, now=5, waiting={2: 1.0}))
    figures = record.figures(0, 9.0)
    assert (figures.steps_taken, figures.incarnation, figures.alive, figures.seconds) == (5, 1, True, 9.0)
    assert (figures.computing, figures.bytes_sent, figures.calls) == (4.0, 200, 6)
    assert figures.waiting == {1: 0.5, 2: 1.0}
    assert figures.machine == "node-1"


def test_a_part_is_blocked_on_whom_it_waits_for_while_it_runs() -> None:
    record = PartRecord()
    record.note(progress(11, waits_for=(2, 3)))
    assert record.figures(0, 1.0).blocked_on == (2, 3)
    record.note_death()
    gone = record.figures(0, 1.0)
    assert (gone.alive, gone.blocked_on) == (False, ())
