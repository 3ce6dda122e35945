"""The report as a whole: its sections, and that no name in it is ever more than text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from antiphon.telemetry.report.report import report
from antiphon.telemetry.report.run import Picture, ReportRun
from tests.telemetry.report.made import HOSTILE, Elements, curve, data, run
from tests.telemetry.report.test_ranking import ABLATION, VALUE

SECTIONS = ["summary", "graph", "ranking", "curves", "timing", "representations", "scenario", "provenance"]


def named(names: tuple[str, ...], place: int) -> ReportRun:
    """Return a run that uses names wherever a run directory may hold any."""
    one, two, three, four, five = names
    facts = {
        "scenario": one,
        "variant": two,
        "values": {three: four, "width": place},
        "exit": five,
        "error": one,
        "device": two,
        "git": three,
        "command": [four, five],
        "versions": {one: two},
        "warnings": [three],
        "seed": four,
        "started": five,
    }
    found = run(f"{one}{place}", place, facts=facts)
    table = replace(found.table, agents={(two, "loss"): curve(1.0, 2.0)}, env={three: curve(1.0, 2.0)})
    ablation = {
        **ABLATION,
        "kind": one,
        "split": two,
        "channels": dict(zip((three, four), ABLATION["channels"].values(), strict=True)),
    }
    rows = [{**VALUE["rows"][0], "name": five}, {**VALUE["rows"][3], "name": one, "why": two}]
    return replace(
        found,
        path=two,
        result={"readout": two, "loss": 1.0, "env": {three: 1.0}, "channels": {four: {}}},
        text=f"{one}{place}",
        document={"description": one, two: three, four: [{"name": five, one: place}]},
        measured={"ablation": ablation, "value": {**VALUE, "rows": rows, "horizon": three}},
        table=table,
        data=data(one, (two, three)),
        pictures=[Picture(four, "image/png", b"")],
        digests={five: one},
        notes=[two],
    )


def page(*runs: ReportRun) -> str:
    return report(runs, made="now")


def test_every_section_is_there_with_a_sentence() -> None:
    text = page(run())
    assert re.findall(r'<section id="(\w+)">', text) == SECTIONS
    for section in re.findall(r"<section.*?</section>", text, re.DOTALL):
        assert re.search(r'<p class="(says|empty)[^"]*">[A-Z][^<]{20,}', section), section[:200]
    assert re.findall(r'href="#(\w+)"', text) == SECTIONS
    assert "seeds" in re.findall(r'<section id="(\w+)">', page(run("a"), run("b", 1)))


def test_hostile_names_change_no_element_of_the_page() -> None:
    """The same report with names of letters, as long: element by element, attribute by attribute the same page."""
    for turn in range(len(HOSTILE)):
        names = (*HOSTILE[turn:], *HOSTILE[:turn])
        letters = tuple(letter * len(name) for letter, name in zip("pqrst", names, strict=True))
        tame = Elements(page(named(letters, 0), named(letters, 1)))
        hostile = Elements(page(named(names, 0), named(names, 1)))
        assert hostile.found == tame.found
        assert set(names) <= set(hostile.texts)


def test_nothing_is_fetched_from_anywhere() -> None:
    text = page(named(HOSTILE, 0), run("b", 1))
    for address in Elements(text).addresses:
        assert address.startswith(("#", "data:image/png;base64,")), address
    sheets = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert not re.search(r"url\(|@import|//", re.sub(r"/\*.*?\*/", "", sheets, flags=re.DOTALL))
    assert len(re.findall("<script", text)) == 3


def test_runs_without_data_have_all_other_sections() -> None:
    text = page(run(data=None))
    assert re.findall(r'<section id="(\w+)">', text) == SECTIONS
    assert "No run holds data of the Channels tab." in text
    assert "<script" not in text
    assert "for want of data of the Channels tab: b." in page(run("a"), run("b", data=None))


def test_a_run_of_which_nothing_can_be_read_has_a_report() -> None:
    bare = ReportRun(name="bare", path="bare", facts={})
    text = page(bare)
    assert "Report on no name" in text
    assert "There is no scenario.yaml" in text


def test_what_the_scenario_says_of_itself_stands_on_top() -> None:
    told = run(document={"description": "Two agents that talk."})
    assert "Two agents that talk." in page(told)
    assert "Two agents that talk." not in page(told, run("b", facts={"scenario": "t"}))


@pytest.mark.parametrize("most", [1_600_000])
def test_a_large_report_is_thinned_to_what_it_may_take(most: int) -> None:
    large = run(data=data(rows=40_000))
    text = report([large], made="now", most=most)
    assert len(text.encode()) <= most
    assert "of 40,000 logged rows are in this page" in text
