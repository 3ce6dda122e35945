"""The benchmark of predictions: what is predicted for two machines with a link, and what the error is."""

from __future__ import annotations

import sys

import pytest

from benchmarks import prediction


@pytest.mark.parametrize(("delay", "latency", "seconds"), [(1, 0.0, 0.02), (1, 0.03, 0.045), (8, 0.03, 0.02)])
def test_lockstep_waits_where_messages_take_longer_than_the_lookahead(
    delay: int, latency: float, seconds: float
) -> None:
    assert prediction.predicted("lockstep", delay, [0.02, 0.01], latency) == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize("latency", [0.0, 0.03])
def test_a_free_part_waits_for_messages_alone(latency: float) -> None:
    assert prediction.predicted("free", 1, [0.02, 0.01], latency) == pytest.approx(0.02, rel=0.1)


def test_a_part_that_sends_and_receives_waits_for_the_way_there_and_back() -> None:
    seconds = [prediction.predicted("free-back", 1, [0.02, 0.01], latency) for latency in (0.0, 0.03, 0.06)]
    assert seconds[0] < seconds[1]
    assert seconds[2] - seconds[1] == pytest.approx(seconds[1] - seconds[0], rel=0.5)


@pytest.mark.parametrize("mode", ["lockstep", "free", "free-back"])
def test_parts_of_a_case(mode: str) -> None:
    parts = [prediction.made(mode, 1, 0.02, index) for index in range(2)]
    assert [part.neighbours for part in parts] == [(1,), (0,)]
    assert [part.free for part in parts] == [mode != "lockstep"] * 2
    assert [part.work for part in parts] == [0.02, 0.02 if mode == "lockstep" else 0.01]
    for part in parts:
        part.close()


def test_the_error_of_a_prediction() -> None:
    row = prediction.figures(0.05, [0.05, 0.06, 0.07])
    assert (row["predicted_ms"], row["measured_ms"]) == (50.0, 60.0)
    assert row["error"] == pytest.approx(-1 / 6, abs=1e-3)
    assert row["met"]
    assert not prediction.figures(0.08, [0.05, 0.06, 0.07])["met"]


def test_arguments_that_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prediction.py", "--work", "0"])
    with pytest.raises(SystemExit) as caught:
        prediction.main()
    assert caught.value.code == 2
    assert "--work more than 0" in capsys.readouterr().err
