"""The report's section of parts: the newest row of each, whom it waited for, and which is gone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from antiphon.commands.report import report
from antiphon.telemetry.channels.documents import graph_document
from antiphon.telemetry.channels.series import RunData
from antiphon.telemetry.parts.parts_csv import PartsCsv
from antiphon.telemetry.report.html import size
from antiphon.telemetry.report.parts import parts
from antiphon.telemetry.report.report import graph_picture
from antiphon.telemetry.report.report import report as page_of
from antiphon.telemetry.report.run import ReportRun
from tests.some import some
from tests.telemetry.parts import made
from tests.telemetry.report.made import HOSTILE, Elements, run
from tests.telemetry.report.test_sections import cells

FACTS = {"parts": {"count": 3, "mode": "lockstep", "ray": "local", "placement": made.PLACEMENT}}


def divided(name: str = "one", step: int = 100) -> ReportRun:
    data = RunData(name, graph_document(made.description()))
    return replace(run(name, facts=FACTS), parts=made.rows(step), data=data)


def test_every_part_has_a_row() -> None:
    page = some(parts([divided()]))
    assert "3 parts, in lockstep, on Ray; 3 of 6 channels are cut." in Elements(page).text
    heads, *rows = cells(page)
    assert heads[:6] == ["part", "machine", "agents", "step", "computing s", "waiting s (for)"]
    assert [row[:6] for row in rows] == [
        ["0", "node-1", "2", "100", "5.00", "4.50 (part 2)"],
        ["1", "node-2", "2", "100", "5.00", "2.50 (part 0)"],
        ["2", "node-3", "2", "50", "2.50", "1.25 (part 1)"],
    ]
    costs, state = ["bytes sent", "bytes received", "calls"], ["blocked on", "restarts", "last heartbeat"]
    assert heads[6:] == [*costs, "staleness", *state]
    assert [row[-3] for row in rows] == ["part 2", "–", "–"]
    assert rows[2][6:] == ["150 kB", "100 kB", "50", "1.00", "–", "1", "5.00 s ago, gone"]
    assert "Gone: part 2 (node-3), last heartbeat 5.00 s ago." in Elements(page).text


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            {"parts": {"mode": "free"}, "virtual": {}},
            "3 parts, asynchronous, in virtual time: seconds are simulated.",
        ),
        ({"parts": {"mode": "lockstep"}}, "3 parts, in lockstep, in one process."),
        ({"parts": {"mode": 1, "ray": "local"}}, "3 parts, on Ray."),
    ],
)
def test_a_sentence_says_how_it_was_divided(facts: dict[str, Any], sentence: str) -> None:
    page = some(parts([replace(divided(), facts=facts)]))
    assert some(re.search(r"<p>(3 parts.*?)</p>", page))[1] == sentence


def test_while_all_run_none_is_gone() -> None:
    page = some(parts([divided(step=20)]))
    assert "one" not in Elements(page).text.split(), "it is the only run"
    assert "gone" not in page.lower()


def test_whom_a_part_waited_for_is_listed_the_longest_first() -> None:
    waiting = {1: 0.5, 2: 3.0, 0: 0.0}
    waiter = replace(made.part(3, 10), waiting=waiting)
    _, row = cells(some(parts([replace(divided(), parts=[waiter])])))
    assert row[5] == "3.50 (part 2: 3.00, part 1: 0.500)"
    _, row = cells(some(parts([replace(divided(), parts=[replace(waiter, waiting={})])])))
    assert row[5] == "0"


def test_of_many_parts_those_that_are_gone_and_that_waited_the_longest_are_listed() -> None:
    many = [made.part(number, 10, waiting={0: float(number)}) for number in range(1000)]
    many[5] = replace(many[5], alive=False)
    page = some(parts([replace(divided(), parts=many)]))
    _, *rows = cells(page)
    assert [int(row[0]) for row in rows] == [5, *range(937, 1000)]
    assert "64 of 1,000 parts" in Elements(page).text


def test_runs_in_one_process_have_no_such_section() -> None:
    assert parts([run()]) is None
    page = page_of([run()], made="now")
    assert 'href="#parts"' not in page
    both = page_of([run("plain"), divided("cut")], made="now")
    assert 'href="#parts"' in both
    assert len(re.findall(r'<section id="parts">', both)) == 1


def test_hostile_names_and_facts_are_text() -> None:
    rows = [replace(made.part(0, 10), machine=HOSTILE[0])]
    for facts in (
        {"parts": {"mode": HOSTILE[1], "placement": {HOSTILE[2]: 0}}},
        {"parts": [1]},
        {"parts": 2},
    ):
        page = some(parts([replace(run(facts=facts), parts=rows)]))
        assert HOSTILE[0] in Elements(page).text
        assert "script" not in {tag for tag, _ in Elements(page).found}


def test_the_graph_on_paper_has_rims_and_bars() -> None:
    picture = some(graph_picture(divided()))
    rims = re.findall(r'class="node(?: readout)? placed (k\d)"', picture)
    assert rims == ["k0", "k0", "k1", "k1", "k2", "k2"]
    assert picture.count('class="axis"') == 3
    assert "Two bars: a channel between parts." in picture
    plain = some(graph_picture(run()))
    assert "placed" not in plain
    assert 'class="axis"' not in plain


def test_the_command_reads_parts_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from antiphon.engine.simulation import Simulation

    folder = tmp_path / "run"
    with Simulation("digits-mlp", logdir=folder) as simulation:
        simulation.run(steps=2)
    recorder = PartsCsv(folder / "parts.csv")
    recorder.begin(made.description())
    for step in (50, 100):
        recorder.parts(step, made.rows(step))
    recorder.close()
    page = tmp_path / "report.html"
    report([folder], page, json=False)
    text = Elements(page.read_text(encoding="utf-8")).text
    assert "Gone: part 2 (node-3)" in text
    assert "SHA-256 of parts.csv" in text
    with (folder / "parts.csv").open("a") as file:
        file.write("what is this\n")
    report([folder], page, json=False)
    assert "parts.csv: does not fit" in capsys.readouterr().err
    assert "Gone: part" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (1_234_567, "1.23 MB"),
        (10**17, "100 PB"),
        (10**18, "1,000 PB"),
    ],
)
def test_sizes_have_units(count: int, text: str) -> None:
    assert size(count) == text
