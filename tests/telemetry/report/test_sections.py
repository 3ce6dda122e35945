"""The sections of the report: that what they say is what the runs say."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from antiphon.telemetry.report.learning import learning
from antiphon.telemetry.report.provenance import difference, differences, provenance
from antiphon.telemetry.report.report import graph_picture
from antiphon.telemetry.report.representations import representations
from antiphon.telemetry.report.run import Picture, ReportRun, Table, grouped
from antiphon.telemetry.report.summary import lede, over_seeds, summary
from antiphon.telemetry.report.timing import timing
from tests.some import some
from tests.telemetry.report.made import Elements, curve, data, run


def cells(page: str) -> list[list[str]]:
    """Return the rows of all tables, cell by cell."""
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [Elements(row.replace("</t", "\0</t")).text.split("\0")[:-1] for row in rows]


# --- summary ------------------------------------------------------------------------------------------------


def test_the_summary_is_a_line_per_run() -> None:
    broken = run(
        "two",
        1,
        facts={"exit": "diverged", "error": "a: loss is nan", "step": 12},
        result={},
        notes=["x is gone."],
    )
    head, first, second = cells(summary([run(), broken]))
    assert head == ["run", "scenario", "variant", "seed", "steps", "accuracy", "loss", "seconds", "exit"]
    assert first == ["one", "s", "default", "0", "30", "90.00 %", "0.500", "1.50", "done"]
    assert second == ["two", "s", "default", "1", "12 of 30", "–", "–", "1.50", "diverged: a: loss is nan"]
    assert "two: x is gone." in Elements(summary([broken])).text


def test_over_seeds_counts_those_that_came_to_their_end() -> None:
    runs = [run(str(seed), seed, accuracy=0.8 + 0.1 * seed) for seed in range(2)]
    runs.append(run("2", 2, facts={"exit": "diverged"}, accuracy=0.0))
    page = some(over_seeds(grouped(runs)))
    head, accuracy, _ = cells(page)
    assert head[-1] == "median"
    assert accuracy == ["s", "accuracy", "2 of 3", "85.00 ± 5.00 %", "85.00 %"]


def test_the_middle_half_is_told_from_five_seeds_on() -> None:
    page = some(over_seeds(grouped([run(str(s), s, accuracy=0.1 * s) for s in range(5)])))
    assert cells(page)[1][-2] == "20.00 %"
    assert over_seeds(grouped([run()])) is None


def test_the_first_lines_say_how_it_ended() -> None:
    alone = [run()]
    assert lede(alone, grouped(alone)) == "One run of s. Accuracy on the test split 90.00 %."
    runs = [run("a"), run("b", 1, accuracy=0.8), run("c", facts={"variant": "w", "exit": "diverged"})]
    said = lede(runs, grouped(runs))
    assert (
        said
        == "3 runs of s; 2 came to the end. default: accuracy on the test split 85.00 ± 5.00 % (2 seeds)."
    )


def test_returns_are_of_episodes_and_not_of_a_split() -> None:
    runs = [run(result={"return": 480.25, "readout": "b", "env": {"episode_return": 431.0}})]
    head, first = cells(summary(runs))
    assert head[5:7] == ["return", "episode return"]
    assert first[5:7] == ["480", "431"]
    says = Elements(summary(runs)).text
    assert "Returns are of whole episodes, with the most likely actions." in says
    assert "test split" not in says
    assert lede(runs, grouped(runs)) == "One run of s. Return 480."
    both = Elements(summary([*runs, run("two", 1)])).text
    assert "on the test split" in both
    table = Table(agents={("b", "return"): curve(1.0, 2.0)}, env={"episode_return": curve(20.0, 400.0)})
    page = learning(grouped([run(table=table)]))
    assert lines(page, "return in training (b)") == ["s"]
    assert lines(page, "episode return") == ["s"]


# --- curves -------------------------------------------------------------------------------------------------


def lines(page: str, title: str) -> list[str]:
    """Return the names of the lines in the chart under a title."""
    for found in re.findall(r"<figure>(.*?)</figure>", page):
        if f"<figcaption>{title}" in found:
            return re.findall(r"<g><title>(.*?)</title>", found)
    return []


def test_curves_are_means_over_seeds_in_a_band() -> None:
    page = learning(grouped([run("a", 0, accuracy=0.9), run("b", 1, accuracy=0.7)]))
    assert lines(page, "accuracy in training (b)") == ["s"]
    assert page.count('class="band') == 3  # accuracy, loss, cosine
    assert "one standard error" in page
    assert "band" not in learning(grouped([run()]))


def test_groups_are_lines_with_a_legend_and_scenarios_stand_apart() -> None:
    other = run("b", facts={"variant": "w"})
    page = learning(grouped([run("a"), other]))
    assert lines(page, "accuracy") == ["default", "w"]
    assert '<ul class="legend">' in page
    apart = learning(grouped([run("a"), run("c", facts={"scenario": "t"})]))
    assert Elements(apart).texts.count("accuracy in training (b)") == 2
    assert ["<h3>s</h3>" in apart, "<h3>t</h3>" in apart] == [True, True]


def test_alignment_comes_with_its_caution_once() -> None:
    page = learning(grouped([run()]))
    (caution,) = re.findall(r'<p class="caution">(.*?)</p>', page)
    assert caution.startswith("cosine: Alignment misleads")


def test_a_figure_that_was_never_a_number_has_no_chart() -> None:
    table = Table(agents={("b", "loss"): curve(math.nan, math.nan), ("b", "accuracy"): curve(math.nan, 0.5)})
    page = learning(grouped([run(table=table)]))
    assert lines(page, "accuracy")
    assert not lines(page, "loss")
    assert "No run has a curve" in learning(grouped([run(table=Table())]))


# --- first steps --------------------------------------------------------------------------------------------


def test_the_first_steps_show_ticks_ages_and_reach() -> None:
    page = timing([run()])
    ticks = re.findall(r'd="([^"]*)" class="tick"', page)
    assert [path.count("z") for path in ticks] == [4, 2]
    ends = re.findall(r'd="([^"]*)" class="end"', page)
    assert [path.count("v16") for path in ends] == [2, 1]
    assert re.findall(r'class="in">(\d+)<', page) == ["1", "2", "0"]
    assert len(re.findall(r'class="unread"', page)) == 1
    assert page.count('class="episode"') == 3


def test_agents_that_do_the_same_share_a_row_and_runs_share_a_picture() -> None:
    found = data()
    assert found.timeline is not None
    alike = replace(found, timeline={**found.timeline, "agents": [found.timeline["agents"][0]] * 2})
    assert "a + 1 more" in timing([run(data=alike)])
    assert Elements(timing([run("one"), run("two")])).count("figure") == 1
    both = Elements(timing([run("one"), run("two"), run("three", data=alike)]))
    assert both.count("figure") == 2
    assert "one, two" in both.texts


@pytest.mark.parametrize(
    "timeline",
    [
        {},
        {"start": 0, "steps": "x"},
        {"start": 0, "steps": 4, "episode_ends": [], "agents": [{}], "channels": []},
    ],
)
def test_a_damaged_timeline_is_said_to_be_damaged(timeline: dict[str, Any]) -> None:
    assert "damaged" in timing([run(data=replace(data(), timeline=timeline))])


def test_runs_without_a_timeline_say_so() -> None:
    assert "No run says what happens" in timing([run(data=None), run(data=replace(data(), timeline=None))])


# --- representations ----------------------------------------------------------------------------------------


def test_messages_are_drawn_at_the_first_the_middle_and_the_last_step() -> None:
    page = representations(grouped([run(data=data(rows=5))]))
    assert re.findall(r"step (\d+)<", page) == ["10", "30", "50"]
    assert page.count('class="point k1"') == 4  # three planes and the legend
    assert "--represent" in page


def test_messages_of_many_channels_are_of_different_senders_first() -> None:
    found = data()
    channels = [{"name": f"c{n}", "from": int(n > 6), "to": 1} for n in range(8)]
    many = replace(
        found,
        graph={**found.graph, "channels": channels},
        messages=dict.fromkeys(range(8), found.messages[0]),
    )
    page = representations(grouped([run(data=many)]))
    shown = re.findall(r"<figcaption>(c\d)<", page)
    assert len(shown) == 6
    assert "c7" in shown
    assert "2 more channels" in page


def test_pictures_are_in_the_page() -> None:
    page = representations(grouped([run(data=None, pictures=[Picture("rdm.png", "image/png", b"\x89PNG")])]))
    assert 'src="data:image/png;base64,iVBORw=="' in page
    assert "This draws them" not in page


def test_messages_that_are_not_numbers_are_left_out() -> None:
    found = data()
    samples = [np.full((2, 3), np.nan, np.float32)] * 3
    page = representations(
        grouped([run(data=replace(found, messages={0: found.messages[0]._replace(samples=samples)}))])
    )
    assert "nan" not in page
    assert 'class="point' not in page


# --- scenarios and provenance -------------------------------------------------------------------------------


def test_differences_are_paths_with_the_values_of_each() -> None:
    first = {
        "a": {"x": 1, "y": [1, 2]},
        "channels": [{"from": "p", "to": "q", "delay": 1}, {"from": "q", "to": "p"}],
    }
    second = {
        "a": {"x": 2, "y": [1, 2]},
        "channels": [{"from": "q", "to": "p"}, {"from": "p", "to": "q", "delay": 3}],
    }
    third = {**second, "only": {"deep": {"er": True}}}
    assert differences([first, second]) == [("a.x", ["1", "2"]), ("channels[p->q].delay", ["1", "3"])]
    assert differences([second, third]) == [("only", ["–", '{"deep": {"er": true}}'])]
    assert differences([second, second]) == []
    assert differences([{"a": 1}, {"a": True}, {"a": {"b": 1}}])[0][1][2] == '{"b": 1}'


def test_paths_that_differ_alike_share_a_row_and_many_rows_are_folded() -> None:
    def one(name: str, drops: list[float], value: int) -> ReportRun:
        channels = [{"from": "a", "to": f"n{n}", "drop": drop} for n, drop in enumerate(drops)]
        document = {"channels": channels, **{f"p{n:02}": value for n in range(12)}}
        return run(name, facts={"scenario": "s"}, text=str(document), document=document)

    page = difference([one("a", [0.1, 0.1, 0.1], 1), one("b", [0.2, 0.2, 0.3], 2)])
    rows = cells(page)
    assert rows[1] == ["channels[a->n0].drop and 1 more like it", "0.1", "0.2"]
    assert ["channels[a->n2].drop", "0.1", "0.3"] in rows
    assert len(rows) == 2 + 2 + 12  # two tables with their headings
    assert "4 more paths" in Elements(page).texts


def test_parts_of_one_name_are_told_by_their_place() -> None:
    twice = [{"from": "a", "to": "b", "x": 1}, {"from": "a", "to": "b", "x": 2}]
    changed = [twice[0], {**twice[1], "x": 3}]
    assert differences([{"channels": twice}, {"channels": changed}]) == [("channels[a->b:1].x", ["2", "3"])]


def test_only_scenarios_of_one_name_are_compared() -> None:
    def one(name: str, scenario: str, value: int) -> ReportRun:
        document = {"scenario": scenario, "x": value}
        return run(name, facts={"scenario": scenario}, text=str(document), document=document)

    page = difference([one("a", "s", 1), one("b", "s", 2), one("c", "s", 1), one("d", "t", 9)])
    assert cells(page) == [["path", "a and 1 more", "b"], ["x", "1", "2"]]
    assert Elements(page).count("details") == 3
    assert "Cannot be read: b." in difference([one("a", "s", 1), replace(one("b", "s", 2), document={})])
    assert "differ in their seeds alone" in difference([one("a", "s", 1), one("b", "s", 1)])
    page = difference([one("a", "s", 1), replace(one("b", "s", 1), not_recorded=["env"])])
    assert "cannot be known: the code of Python objects is not recorded (env)" in page
    assert "alone" not in page


def test_provenance_says_once_what_all_runs_share() -> None:
    page = provenance([run("a", 0, digests={"x.csv": "ab12"}), run("b", 1)])
    found = Elements(page)
    assert found.texts.count("python 3.11") == 1
    assert ["seed", "0", "1"] in cells(page)
    assert ["SHA-256 of x.csv", "ab12", "–"] in cells(page)
    many = provenance([run(str(seed), seed) for seed in range(6)])
    assert Elements(many).count("details") == 6


# --- the still picture --------------------------------------------------------------------------------------


def test_the_graph_on_paper_has_all_agents_and_channels() -> None:
    page = some(graph_picture(run()))
    found = Elements(page)
    assert {"a", "b", "a->b", "b->a"} <= set(found.texts)
    assert page.count('class="edge') == 2
    assert page.count('class="edge s5 late"') == 1  # the larger figure, and a delay
    assert found.count("rect") == found.count("circle") == 1  # a readout and an agent
    assert graph_picture(run(data=None)) is None


def test_a_graph_with_odd_places_and_a_loop_is_drawn() -> None:
    found = data()
    agents = [{"name": "a", "x": math.inf, "y": "high"}, {"name": "b", "x": -5, "y": 7}]
    channels = [{"name": "a->a", "from": 0, "to": 0}, {"name": "a->a:1", "from": 0, "to": 0, "delay": "x"}]
    page = graph_picture(
        run(data=replace(found, graph={**found.graph, "agents": agents, "channels": channels}))
    )
    assert page is not None
    assert "nan" not in page
    assert "inf" not in page.replace("information", "")
    many = [{"name": str(n), "x": 0.5, "y": 0.5} for n in range(201)]
    assert graph_picture(run(data=replace(found, graph={**found.graph, "agents": many}))) is None
