"""The report: its tables and curves, and that no name in it is ever more than text."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from antiphon.base.text_table import TextTable
from antiphon.telemetry import Series
from antiphon.telemetry.html_report import ReportRun, ReportSection, grouped, report
from antiphon.telemetry.tab.tags import LOST_SIGNALS
from antiphon.telemetry.tab.verdict_series import with_verdicts
from tests.kit.some import some
from tests.telemetry.made import HOSTILE, Elements, data, run


def page(*runs: ReportRun) -> str:
    return report(runs, footer="now")


def tables(text: str) -> list[list[list[str]]]:
    """The cells of the tables of a page."""
    found = []
    for table in re.findall("<table[^>]*>.*?</table>", text):
        rows = re.findall("<tr>.*?</tr>", table)
        found.append([re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in rows])
    return found


def charts(text: str) -> dict[str, list[dict[str, Any]]]:
    """The lines of the charts of a page, by title."""
    pattern = r'<script type="application/json" id="antiphon-chart-data">(.*?)</script>'
    return {chart["title"]: chart["lines"] for chart in json.loads(some(re.search(pattern, text))[1])}


def measured(low: tuple[float, float], high: tuple[float, float]) -> ReportRun:
    """A run whose channels are measured by ablation."""
    found = data()
    ends = {"ablation_zero": np.mean([low, high], 0), "ablation_zero_low": low, "ablation_zero_high": high}
    series = {
        ("channel", metric): Series(np.array([30]), np.array([row], np.float32))
        for metric, row in ends.items()
    }
    return run(data=replace(found, metrics={**found.metrics, **series}))


def test_results_are_a_table_of_runs() -> None:
    failed = run("b", 1, facts={"exit": "failed", "error": "no room", "step": 7, "seconds": None}, result={})
    _, (head, first, second) = tables(page(run(), failed))
    assert head == [
        "run",
        "scenario",
        "variant",
        "exit",
        "seed",
        "steps",
        "seconds",
        "test accuracy",
        "test loss",
        "solved",
    ]
    assert first == ["one", "s", "–", "done", "0", "30 of 30", "1.5", "90.00 %", "0.5", "3"]
    assert second == ["b", "s", "–", "failed: no room", "1", "7 of 30", "–", "–", "–", "–"]


def test_a_count_has_all_its_digits() -> None:
    *_, (_, row) = tables(page(run(facts={"seconds": 19870.0})))
    assert row[6] == "19,870"


def test_runs_that_differ_in_their_seed_alone_have_a_mean_and_its_interval() -> None:
    runs = [run(str(seed), seed, accuracy=value) for seed, value in enumerate((0.8, 0.9, 1.0))]
    (head, row), _ = tables(page(*runs))
    assert head == ["runs that differ only in their seed", "done", "test accuracy", "test loss", "solved"]
    accuracy = "90.00 % [65.16 %, 100.00 %]"  # 0.9 ± 4.303 · 0.1 / √3, of a share at most 1
    assert row == ["s", "3 of 3", accuracy, "0.5 [0.5, 0.5]", "3 [3, 3]"]
    assert len(tables(page(run()))) == 1


def test_groups_of_seeds_have_their_differences_from_the_best_with_intervals() -> None:
    """Of their first score; of a loss the lowest is the best. Nothing stands there of one group, or of single runs."""

    def seeds(lr: float, *values: float, **scores: Any) -> list[ReportRun]:
        facts = {"values": {"lr": lr}}
        return [
            run(f"{lr}-{at}", at, facts=facts, accuracy=value, **scores) for at, value in enumerate(values)
        ]

    good, bad = seeds(0.1, 0.8, 0.82), seeds(0.5, 0.5, 0.5)
    text = page(*good, *bad)
    # 0.01 * 12.706 is half of an interval
    assert (
        "mean test accuracy is that of lr=0.1; differences from it: lr=0.5 −31 [−43.7, −18.3] points." in text
    )
    lossy = data()
    channels = [{**channel, "drop": 0.5} for channel in lossy.graph["channels"]]
    lossy = replace(lossy, graph={**lossy.graph, "channels": channels})
    text = page(*good, *(replace(one, data=replace(lossy, name=one.name)) for one in bad))
    assert "test accuracy, over perfect links, without what lost messages cost, is that of" in text

    def over_own_links(one: ReportRun, score: float, step: int = 30) -> ReportRun:
        of = ("test_accuracy_as_run", score, step), ("test_accuracy", one.result["accuracy"], 30)
        scored = {
            ("headline", metric): Series(np.array([at]), np.array([[value, np.nan, 1]], np.float32))
            for metric, value, at in of
        }
        return replace(one, data=replace(lossy, name=one.name, metrics={**lossy.metrics, **scored}))

    own = [over_own_links(one, score) for one, score in zip(bad, (0.25, 0.27), strict=True)]
    text = page(*good, *own)
    assert (
        "mean test accuracy, each over its own links, is that of lr=0.1; differences from it: lr=0.5 −55 [−73, −37] points."
        in text
    )
    (head, *rows), *_ = tables(text)
    column = head.index("test accuracy, links as in the run")
    assert [row[column][:7] for row in rows] == ["81.00 %", "26.00 %"], "a run that loses none has its score"
    for half in (
        [own[0], replace(bad[1], data=replace(lossy, name=bad[1].name))],
        [own[0], over_own_links(bad[1], 0.2, 20)],
    ):
        assert "test accuracy, over perfect links" in page(*good, *half), "all seeds are known so, or none is"
    losses = [replace(one, result={"loss": one.result["accuracy"]}) for one in (*good, *bad)]
    text = page(*losses)
    assert (
        "The lowest mean test loss is that of lr=0.5; differences from it: lr=0.1 0.31 [0.183, 0.437]."
        in text
    )
    for alone in (good, [good[0], bad[0]]):
        assert "differences from it" not in page(*alone)


def test_groups_are_named_by_what_tells_them_apart() -> None:
    def made(variant: str | None, seed: int, **values: Any) -> ReportRun:
        name = f"{variant}{seed}{values}"
        return run(
            name,
            seed,
            facts={"variant": variant, "values": {"coupling": variant, "data_seed": seed, **values}},
        )

    assert list(grouped([made("locked", 0), made("locked", 1), made("local", 0)])) == ["locked", "local"]
    assert list(grouped([made("locked", 0, width=8), made("locked", 0, width=9)])) == ["width=8", "width=9"]
    found = grouped([made("locked", 0, width=8), made("locked", 1, width=9), made("local", 1, width=9)])
    assert list(found) == ["locked · width=8", "locked · width=9", "local · width=9"]
    both = [made("locked", 0, width=8, steps=400, lr=0.3), made("locked", 0, width=8, steps=800, lr=0.1)]
    assert list(grouped(both)) == ["steps=400 · lr=0.3", "steps=800 · lr=0.1"]
    documents = [run(text, facts={"values": None}, document=text) for text in ("a: 1", "a: 2")]
    assert list(grouped(documents)) == ["scenario file 1", "scenario file 2"]
    known = [replace(of, settings={"a": of.document[3:], "b": "x"}) for of in documents]
    assert list(grouped(known)) == ["a=1", "a=2"]
    many = [replace(of, settings=dict.fromkeys("abcdef", of.document[3:])) for of in documents]
    assert list(grouped(many))[1] == "a=2, b=2, c=2, d=2, 2 more of scenario file 2"
    again = [run("before", 0), run("after", 0)]
    assert list(grouped(again)) == ["before", "after"]
    assert list(grouped([*again, made("local", 0)])) == ["default · before", "default · after", "local"]
    assert "differ only in their seed" not in page(*again)  # one seed, of which there is no deviation


def test_runs_of_several_seeds_bear_the_name_that_they_have_in_the_tab() -> None:
    """And in what they differ stands beside it; a single run bears its own."""

    def seed(name: str, lr: float, place: int) -> ReportRun:
        found = data(name)
        graph = {**found.graph, "seed": place}
        return run(name, place, facts={"values": {"lr": lr}}, data=replace(found, graph=graph))

    quick = [seed(f"quick-s{place}", 0.5, place) for place in (0, 1)]
    text = page(*quick, *(seed(f"slow-s{place}", 0.25, place) for place in (0, 1)))
    (head, *rows), *_ = tables(text)
    assert head[:3] == ["runs that differ only in their seed", "differ in", "done"]
    assert [row[:2] for row in rows] == [["quick", "lr=0.5"], ["slow", "lr=0.25"]]
    assert [line["name"] for line in charts(text)["SG loss"]] == ["quick", "slow"]
    assert '"run":"quick · all seeds"' in text
    (head, *rows), *_ = tables(page(quick[0], seed("slow-s0", 0.25, 0)))
    assert head[:2] == ["run", "differs in"]
    assert [row[:2] for row in rows] == [["quick-s0", "lr=0.5"], ["slow-s0", "lr=0.25"]]


def test_no_group_takes_the_place_of_one_that_is_named_like_it() -> None:
    """As where a run of another variant is in a folder of the variant's name."""
    locked = [run(name, seed, facts={"variant": "locked"}) for seed, name in enumerate(("x", "y"))]
    text = page(run("locked", accuracy=0.1), *locked)
    (_, *rows), *_ = tables(text)
    assert [row[:3] for row in rows] == [["locked", "default", "1 of 1"], ["locked 2", "–", "2 of 2"]]
    assert [line["name"] for line in charts(text)["SG loss"]] == ["locked", "locked 2"]


def test_in_what_each_run_of_a_study_differs_stands_in_its_row() -> None:
    """Also where its seeds are told in the study's own table."""
    runs = [
        run(f"{name}-s{seed}", seed, facts={"values": {"width": width}}, data=None)
        for name, width in (("narrow", 8), ("wide", 16))
        for seed in (0, 1)
    ]
    section = ReportSection("it", "Study it", [one.name for one in runs])
    text = report(runs, footer="", sections=[section])
    head, *rows = next(table for table in tables(text) if table[0][0] == "run")
    assert head[1] == "differs in"
    assert [row[1] for row in rows] == ["width=8", "width=8", "width=16", "width=16"]


def test_many_channels_are_behind_a_fold_and_what_all_have_alike_is_said_once() -> None:
    found = some(measured((-0.4, 0.4), (-0.2, 0.6)).data)
    lossy = [channel | {"drop": 0.9} for channel in found.graph["channels"]]
    lost = replace(found, graph={**found.graph, "channels": lossy}, path="runs/lost")
    runs = [run(name, data=lost, facts={"variant": name}) for name in "abcdefg"]
    text = page(*runs)
    _, foremost, whole, *_ = tables(text)
    assert (len(foremost), len(whole)) == (1 + 12, 1 + 14)
    assert "<summary>All 14 rows</summary>" in text
    assert foremost[1][2] == "misleads", "what is bad stands first"
    assert text.index("each of 2 channels") < text.index("<table"), "the cause before all tables and curves"
    says = "90 % of its messages are lost, and the last one that arrived is read instead (what that costs is not logged)"
    assert (
        f"<li>a: each of 2 channels: {says}; try antiphon evaluate runs/lost --links as_run for the cost, or a smaller link.drop (a synthetic input that learns little may cost more).</li>"
        in text
    )
    assert {len(row) for row in whole} == {5}, "no column repeats it"
    assert "<details>" not in page(run(data=found))
    assert "of 14 channels with a result about 0.7 lie wholly above or below 0 by chance alone" in text
    unmeasured = replace(lost, metrics={})
    assert (
        f"<li>one: each of 2 channels: {says}; try antiphon evaluate runs/lost --links as_run for the cost, or a smaller link.drop (a synthetic input that learns little may cost more).</li>"
        in page(run(data=unmeasured))
    )


def test_curves_are_means_over_readouts_channels_and_seeds() -> None:
    other = run("b", 1, env={"solved": {10: 3.0, 20: 2.0, 30: math.nan}})
    found = charts(page(run(), other))
    assert found.keys() == {"training loss", "solved", "SG loss"}
    assert "bands: their 95 % intervals" in page(run(), other)
    (line,) = found["solved"]
    assert line["steps"] == [10, 20, 30]
    assert line["values"] == [2.0, 2.0, 3.0]
    assert line["low"] == [-10.706, 2.0, None]  # 2 - 12.706 · √2 / √2; of one value there is no interval
    assert line["high"] == [14.706, 2.0, None]
    (line,) = charts(page(run()))[
        "training loss"
    ]  # rows are [0, .2], [.4, .6], [.8, 1]; the second agent is the readout
    assert (line["name"], line["values"]) == ("one", [0.2, 0.6, 1.0])
    assert "low" not in line
    positive = re.findall(r'"title":"([^"]*)","says":"[^"]*","positive":true', page(run()))
    assert positive == ["SG loss"], "its axis may be logarithmic"
    (line,) = charts(page(run()))["SG loss"]
    assert line["values"] == pytest.approx([0.1, 0.5, 0.9])
    (line,) = charts(page(run(data=data(rows=5000))))["training loss"]
    assert len(line["steps"]) == 400
    assert line["steps"][-1] == 50_000


def test_a_metric_of_the_environment_is_no_score_of_the_test_split_whatever_its_name() -> None:
    (head, row), *_ = tables(
        page(run(result={"bits": None, "loss": 0.5, "env": {"bits": 0.25, "loss": 0.125}}))
    )
    assert (head[-3:], row[-3:]) == (
        ["test loss", "environment bits", "environment loss"],
        ["0.5", "0.25", "0.125"],
    )


def test_returns_of_the_test_and_of_the_training_have_names_of_their_own() -> None:
    acting = run(
        result={"return": 9.0, "env": {"episode_return": 7.0}}, env={"episode_return": {10: 1.0, 20: 7.0}}
    )
    text = page(acting)
    (head, row), *_ = tables(text)
    assert (head[-2:], row[-2:]) == (["test return", "episode return in training"], ["9", "7"])
    assert "Test return: mean over whole episodes" in text
    assert "Test return:" not in page(run())
    assert "episode return in training" in charts(text)


def test_a_loss_of_a_target_of_its_own_is_not_beside_losses_of_predicted_gradients() -> None:
    """Also where no cosine was logged, as at entries that fall on steps of an example that nothing returns to."""
    found = data()
    metrics = {key: series for key, series in found.metrics.items() if key[1] != "cosine"}
    own = {"kind": "local", "context": [], "scale": 1.0, "target": "label"}
    channels = [channel | {"predictor": own} for channel in found.graph["channels"]]
    local = replace(found, graph={**found.graph, "channels": channels})
    runs = [run("a", facts={"variant": "decoupled"}), run("b", facts={"variant": "local"})]
    drawn = charts(page(runs[0], replace(runs[1], data=replace(local, metrics=metrics))))
    assert [line["name"] for line in drawn["SG loss"]] == ["a"]
    assert [line["name"] for line in drawn["local loss"]] == ["b"]
    drawn = charts(page(run(data=replace(found, metrics=metrics))))
    assert "local loss" not in drawn
    assert "SG loss" in drawn


def test_a_return_of_the_environment_that_is_the_policys_is_drawn_once() -> None:
    acting, series = data(), Series(np.array([10, 20]), np.array([[0.0, 4.0], [0.0, 8.0]]))
    acting = replace(acting, metrics={**acting.metrics, ("agent", "return"): series})
    for same, env in ((True, {10: 4.0, 20: 8.0}), (False, {10: 4.0, 20: 9.0})):
        found = charts(page(run(data=acting, env={"episode_return": env})))
        assert "training return" in found
        assert ("episode return in training" in found) is not same


def test_a_section_comes_before_the_results_and_its_runs_are_in_no_table_of_seeds() -> None:
    table = TextTable(["variant", "accuracy %"], [["<b>", "9.5 ± 0.5"]], 1)
    drawn = {"drawing": "<svg/>", "drawn": "Lines."}
    runs = [run("one"), run("two", 1)]
    section = ReportSection(
        "mine", "Study mine", ["one", "two"], before=["x < y"], tables=[table], after=["z"], **drawn
    )
    text = report(runs, footer="now", sections=[section])
    assert "<h1>Report on mine</h1><section><h2>Study mine</h2><p>x &lt; y</p>" in text
    assert "</div><p>z</p><p>Lines.</p><img" in text
    assert tables(text)[0] == [["variant", "accuracy %"], ["&lt;b&gt;", "9.5 ± 0.5"]]
    assert "runs that differ only in their seed" not in text
    assert "runs that differ only in their seed" in page(*runs)


def test_what_holds_of_several_runs_with_other_numbers_is_said_once() -> None:
    def lost(name: str, cosine: float) -> ReportRun:
        medians = np.array([[cosine, cosine - 0.1, cosine + 0.1, 0.25, 0.2, 0.3, 1]], np.float32)
        found = data()
        return run(
            name,
            data=replace(found, metrics={**found.metrics, LOST_SIGNALS: Series(np.array([30]), medians)}),
        )

    text = page(lost("one", 0.0625), lost("two", 0.125), lost("three", 0.0625))
    assert re.findall(r"<li>(\w+): whether the learning signals", text) == ["one"]
    assert "do not measure this.</li><li>two, three: the same, with other numbers.</li>" in text


def test_a_test_return_has_the_error_of_its_single_reward() -> None:
    for errors, error in (({"reward": 0.25}, 0.25), ({}, None), ({"low": 0.25, "high": 0.5}, None)):
        assert run(result={"episodes": {"errors": errors}}).return_error == error
    assert run().return_error is None


def test_channels_are_ranked_with_their_intervals() -> None:
    found = measured((-0.1, 0.4), (0.2, 0.6))
    undefined = {"ablation_zero": {"step": 30, "reasons": {}, "links": "perfect links"}}
    text = page(replace(found, data=replace(some(found.data), undefined=undefined)))
    assert "one at step 30 over perfect links.</p>" in text
    _, whole, beside = tables(text)
    title = "loss by ablation (zero)"
    assert whole[0] == ["channel", "run", "verdicts", title, "cosine"]
    assert whole[2] == ["a-&gt;b", "one", "unresolved", "0.05 [−0.1, 0.2]", "0"]
    assert beside == [
        ["channel", "one"],
        ["b-&gt;a", "0.5 [0.4, 0.6] matters"],
        ["a-&gt;b", "0.05 [−0.1, 0.2] unresolved"],
    ]
    assert len(tables(page(run()))) == 1


def test_channels_over_seeds_have_means_verdicts_and_how_many_seeds_agree() -> None:
    """In a table before that of the single runs, and as a run of the graph; of two seeds it is said that an interval rests on them."""

    def seed(place: int, *values: float) -> ReportRun:
        ends = {
            "value": values,
            "value_low": [one - 0.15 for one in values],
            "value_high": [one + 0.15 for one in values],
        }
        found = data(f"s{place}")
        series = at_30({key: (row[0], row[1]) for key, row in ends.items()})
        graph = {**found.graph, "seed": place}
        return run(f"s{place}", place, data=replace(found, graph=graph, metrics={**found.metrics, **series}))

    runs = [seed(0, -0.5, 0.25), seed(1, -0.6, 0.5), seed(2, -0.55, 0.75)]
    text = page(*runs)
    _, _, whole, beside, single, *_ = tables(text)
    assert beside[0] == ["channel", "s · all seeds"]
    assert whole[0][:4] == ["channel", "run", "verdicts", "value"]
    assert whole[1][:4] == ["a-&gt;b", "s · all seeds", "harms", "−0.55 [−0.674, −0.426] (3 harm)"]
    assert whole[2][:4] == [
        "b-&gt;a",
        "s · all seeds",
        "unresolved",
        "0.5 [−0.121, 1.12] (3 help)",
    ]
    assert single[1][:2] == ["a-&gt;b", "s1"]
    assert "s · all seeds" in text
    assert "An interval of two seeds" not in text
    assert "An interval of two seeds" in page(*runs[:2])
    assert "all seeds" not in page(runs[0])


def test_channels_over_seeds_have_what_to_try_and_the_interval_of_a_seed_that_was_measured_alone() -> None:
    """Though what to try is said of the whole run too: the table is where a channel is looked up."""

    def seed(place: int, *values: float) -> ReportRun:
        found = data(f"s{place}")
        ends = {"value": 0.0, "value_low": -0.5, "value_high": 0.5} if values else {}
        series = {**at_30({end: tuple(value + by for value in values) for end, by in ends.items()})}
        series |= at_30({"cosine": (-0.5, -0.5), "cosine_low": (-0.6,) * 2, "cosine_high": (-0.4,) * 2})
        quick = {"predictor": {"context": ["label"], "fast": ("it learns too fast", "a lower sg_lr")}}
        channels = [{**channel, **quick} for channel in found.graph["channels"]]
        graph = {**found.graph, "seed": place, "channels": channels}
        return run(f"s{place}", place, data=replace(found, graph=graph, metrics={**found.metrics, **series}))

    tables_of = tables(page(seed(0, 0.25, 0.3), seed(1), seed(2)))
    whole = next(table for table in tables_of if table[0][:3] == ["channel", "run", "verdicts"])
    assert whole[0][-2:] == ["hint at the cause", "try"]
    assert [row[-1] for row in whole[1:]] == ["a lower sg_lr"] * 2
    assert sorted(row[3] for row in whole[1:]) == [
        "0.25 [−0.25, 0.75] of one seed (1 unresolved)",
        "0.3 [−0.2, 0.8] of one seed (1 unresolved)",
    ]


def test_runs_of_a_scenario_stand_side_by_side_and_others_apart() -> None:
    """In the tables of their channels, and in the curves."""
    first, other = measured((-0.1, 0.4), (0.2, 0.6)), measured((0.3, 0.4), (0.5, 0.6))
    second = replace(other, name="two", facts={**other.facts, "variant": "other"})
    apart = replace(other, name="three", facts={**other.facts, "scenario": "elsewhere"})
    text = page(first, second, apart)
    beside = [table for table in tables(text) if table[0][0] == "channel" and "run" not in table[0]]
    assert [table[0] for table in beside] == [["channel", "one", "two"], ["channel", "three"]]
    assert beside[0][1] == ["b-&gt;a", "0.5 [0.4, 0.6] matters", "0.5 [0.4, 0.6] matters"]
    assert {title.partition(": ")[2] for title in charts(text)} <= {str(first.facts["scenario"]), "elsewhere"}


def test_a_hint_is_a_row_though_no_channel_has_a_verdict() -> None:
    found = data()
    channels = [{**found.graph["channels"][0], "name": f"c{at}"} for at in range(5)]
    channels[3] = {**channels[3], "drop": 0.3}
    graph = {**found.graph, "channels": channels}
    text = page(run(data=replace(found, graph=graph, metrics=at_30({"cosine": (0.5,) * 5}), messages={})))
    _, first, *_ = tables(text)[1]
    assert first[:3] == ["c3", "one", "–"]
    assert first[-2].startswith("30 % of its messages are lost")


def test_what_the_run_is_warned_of_by_name_is_the_first_row_though_nothing_is_measured() -> None:
    """Before what is bad; with what to try."""
    found = data()
    channels = [{**found.graph["channels"][at % 2], "name": f"c{at}"} for at in range(5)]
    channels[4] = {**channels[4], "drop": 0.9}
    rows = {"cosine": (0.5,) * 4 + (np.nan,), "parameter_cosine": (-0.5, *[0.5] * 4)}
    rows |= {
        f"parameter_cosine_{end}": tuple(value + by for value in rows["parameter_cosine"])
        for end, by in (("low", -0.1), ("high", 0.1))
    }
    graph = {**found.graph, "channels": channels}
    text = page(run(data=replace(found, graph=graph, metrics=at_30(rows), messages={})))
    _, first, second, *_ = tables(text)[1]
    assert (first[0], first[-1].partition(",")[0]) == ("c4", "evaluate --links as_run for the cost")
    assert second[0] == "c0"


def test_a_verdict_that_may_be_chance_is_so_in_every_table() -> None:
    found = data()
    channels = [{**found.graph["channels"][0], "name": f"c{at}"} for at in range(30)]
    values = (-0.5, *[0.0] * 29)
    ends = {"": 0.0, "_low": -0.1, "_high": 0.1}
    rows = {f"ablation_zero{end}": tuple(value + by for value in values) for end, by in ends.items()}
    graph = {**found.graph, "channels": channels}
    text = page(run(data=replace(found, graph=graph, metrics=at_30(rows), messages={})))
    told = [row for table in tables(text) for row in table if row[0] == "c0"]
    assert len(told) > 1
    assert all("misleads (may be chance)" in " ".join(row) for row in told)


def scored(name: str, accuracy: float, own: float | None = None) -> ReportRun:
    """A run with a channel that misleads, its score, and that over its own links."""
    made = measured((-0.6, -0.5), (-0.4, -0.3))
    scores = {"test_accuracy": accuracy} | ({} if own is None else {"test_accuracy_as_run": own})
    series = {
        ("headline", metric): Series(np.array([30]), np.array([[score, np.nan, 1]], np.float32))
        for metric, score in scores.items()
    }
    logged = {
        ("agent", metric): Series(np.array([30]), np.array([[np.nan, score]], np.float32))
        for metric, score in scores.items()
    }
    found = some(made.data)
    metrics = {**found.metrics, **series, **logged}
    facts = {**made.facts, "variant": name}
    return replace(made, name=name, facts=facts, data=replace(found, name=name, metrics=metrics))


def test_the_run_that_lost_most_comes_first_and_scores_over_its_own_links_are_told() -> None:
    text = page(scored("good", 0.96), scored("lossy", 0.95, 0.8), scored("poor", 0.9))
    results, judged, *_ = tables(text)
    own, perfect = (results[0].index(f"test accuracy{links}") for links in (", links as in the run", ""))
    assert own + 1 == perfect, "what a run does as it is comes first"
    assert [row[own] for row in results[1:]] == ["90.00 %", "80.00 %", "90.00 %"], "without losses its own"
    assert [row[1] for row in judged[1:]] == ["lossy"] * 2 + ["poor"] * 2 + ["good"] * 2


def test_a_channel_that_harms_has_what_to_try() -> None:
    """With its numbers, as in the tab."""
    found = data()
    ends = {"value": (-0.5, 0.5), "value_low": (-0.6, 0.4), "value_high": (-0.4, 0.6)}
    ends |= {"true_cosine": (0.05, 0.3), "cosine_ceiling": (0.5, 0.4)}
    series = {
        ("channel", metric): Series(np.array([30]), np.array([row], np.float32))
        for metric, row in ends.items()
    }
    text = page(run(data=replace(found, metrics={**found.metrics, **series})))
    harming, helping = tables(text)[1][1:]
    assert harming[:4] == ["a-&gt;b", "one", "harms", "−0.5 [−0.6, −0.4]"]
    assert "true cosine 0.05, of the best linear prediction 0.5" in harming[5]
    assert harming[6] == "more steps, or another rate of learning (training.predictor.lr)"
    assert helping[4:] == ["0.2", "–", "–"]


def at_30(rows: dict[str, tuple[float, ...]]) -> dict[tuple[str, str], Series]:
    """Metrics of channels at step 30."""
    return {
        ("channel", key): Series(np.array([30]), np.array([row], np.float32)) for key, row in rows.items()
    }


def test_of_channels_that_harm_the_worst_is_first() -> None:
    found = data()
    series = at_30({"value": (-0.5, -5), "value_low": (-0.6, -6), "value_high": (-0.4, -4)})
    series |= at_30({"true_cosine": (0.05, 0.05), "cosine_ceiling": (0.5, 0.5)})
    text = page(run(data=replace(found, metrics={**found.metrics, **series})))
    assert [row[0] for row in tables(text)[1][1:]] == ["b-&gt;a", "a-&gt;b"]


@pytest.mark.parametrize("measure", ["value", "own_gain"])
def test_a_measure_of_worth_alone_gives_verdicts(measure: str) -> None:
    """Nothing else is logged at its step: no cosine, and no loss of the receiver."""
    ends = {measure: (-0.5, 0.5), f"{measure}_low": (-0.6, 0.4), f"{measure}_high": (-0.4, 0.6)}
    later = {("channel", "cosine"): Series(np.array([100]), np.array([[0.1, 0.2]], np.float32))}
    text = page(run(data=replace(data(), metrics=at_30(ends) | later)))
    assert "a-&gt;b" in text


def test_channels_are_ranked_at_the_step_at_which_the_tab_opens() -> None:
    """That of the newest results, of few channels too, and the step is named."""
    found = some(measured((-0.1, 0.4), (0.2, 0.6)).data)
    series = dict(found.metrics)
    for metric, numbers in {
        "ablation_zero": [0.7, np.nan],
        "ablation_zero_low": [-0.1, np.nan],
        "ablation_zero_high": [1.5, np.nan],
    }.items():
        rows = np.array([series["channel", metric].values[0], numbers])
        series["channel", metric] = Series(np.array([30, 60]), rows)
    text = page(run(data=replace(found, metrics=series)))
    _, *rows = tables(text)[2]
    assert rows == [["a-&gt;b", "0.7 [−0.1, 1.5] unresolved"]]
    assert "one at step 60. " in text


def named(names: tuple[str, ...], place: int) -> ReportRun:
    """Return a run that uses names wherever a run directory may hold any."""
    one, two, three, four, five = names
    facts = {
        "scenario": one,
        "variant": two,
        "values": {three: four, "width": place},
        "exit": five,
        "error": one,
        "seed": four,
    }
    return run(
        f"{one}{place}",
        place,
        facts=facts,
        path=two,
        result={"readout": two, "loss": 1.0, "env": {three: 1.0}},
        document=f"{one}{place}",
        data=data(one, (two, three)),
        env={three: {1: 1.0}},
        notes=[two],
    )


def test_hostile_names_change_no_element_of_the_page() -> None:
    """The same report with names of letters, as long: element by element, attribute by attribute the same page."""
    for turn in range(len(HOSTILE)):
        names = (*HOSTILE[turn:], *HOSTILE[:turn])
        letters = tuple(letter * len(name) for letter, name in zip("pqrst", names, strict=True))
        tame = Elements(page(named(letters, 0), named(letters, 1)))
        hostile = Elements(page(named(names, 0), named(names, 1)))
        assert hostile.found == tame.found
        assert {names[1], names[2]} <= set(hostile.texts)


def test_nothing_is_fetched_from_anywhere() -> None:
    text = page(named(HOSTILE, 0), run("b", 1))
    assert Elements(text).addresses == []
    sheets = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert not re.search(r"url\(|@import|//", re.sub(r"/\*.*?\*/", "", sheets, flags=re.DOTALL))
    assert len(re.findall("<script", text)) == 5


def test_a_run_of_which_little_can_be_read_has_a_report() -> None:
    text = page(run(data=None), ReportRun(name="bare", path="bare", facts={}, notes=["no result there"]))
    assert "<script" not in text
    assert "<li>bare: no result there</li>" in text
    assert [row[0] for row in tables(text)[0]] == ["run", "one", "bare"]


def test_all_channels_of_a_ranking_can_be_unfolded() -> None:
    found = data()
    channels = [{**found.graph["channels"][0], "name": f"c{at}"} for at in range(24)]
    rows = {
        "ablation_zero": tuple(float(at) for at in range(24)),
        "ablation_zero_low": tuple(at - 0.1 for at in range(24)),
        "ablation_zero_high": tuple(at + 0.1 for at in range(24)),
    }
    graph = {**found.graph, "channels": channels}
    text = page(run(data=replace(found, graph=graph, metrics=at_30(rows), messages={})))
    *_, foremost, whole = tables(text)
    assert (len(foremost), len(whole)) == (1 + 20, 1 + 24)
    assert "<summary>All 24 channels</summary>" in text


def test_the_channels_of_a_run_that_is_warned_of_stand_first_the_worst_before_others() -> None:
    """Also where none is bad; of other runs what is worth most is first. The graph opens with the run."""
    good, bad = measured((0.1, 0.4), (0.2, 0.6)), measured((0.6, 0.5), (0.8, 0.7))
    lossy = some(bad.data)
    channels = [{**channel, "drop": 0.9} for channel in lossy.graph["channels"]]
    lossy = replace(lossy, name="bad", graph={**lossy.graph, "channels": channels})
    text = page(good, replace(bad, name="bad", data=lossy, facts={**bad.facts, "variant": "other"}))
    (judged,) = [table for table in tables(text) if table[0][1:2] == ["run"]]
    assert [row[:2] for row in judged[1:]] == [
        ["b-&gt;a", "bad"],
        ["a-&gt;b", "bad"],
        ["b-&gt;a", "one"],
        ["a-&gt;b", "one"],
    ]
    assert re.findall(r'"run":"(\w+)"', text)[:2] == ["bad", "one"]


def test_the_graph_opens_with_a_run_whose_channels_are_judged() -> None:
    """Of a locked one, which comes first in its study, it would have the sizes of messages alone."""
    made = measured((0.1, 0.4), (0.2, 0.6))
    locked = replace(
        data("locked"),
        metrics={("channel", "message_std"): at_30({"message_std": (1.0, 2.0)})["channel", "message_std"]},
    )
    text = page(run("locked", data=locked), made)
    assert re.findall(r'"run":"(\w+)"', text)[:2] == ["one", "locked"]


def test_what_stands_before_the_fold_has_rows_of_each_run() -> None:
    """Also of one none of whose channels is bad; a channel that matters most in any run stands first beside the others."""

    def ablated(name: str, *values: float) -> ReportRun:
        found = data(name)
        channels = [{**found.graph["channels"][0], "name": f"c{at}"} for at in range(len(values))]
        rows = {
            f"ablation_zero{end}": tuple(value + by for value in values)
            for end, by in (("", 0.0), ("_low", -0.1), ("_high", 0.1))
        }
        graph = {**found.graph, "channels": channels}
        return run(name, data=replace(found, graph=graph, metrics=at_30(rows), messages={}))

    bad = ablated("bad", *[-0.5] * 13, 0.2)
    good = ablated("good", *[0.0] * 12, 0.9, 0.3)
    _, foremost, whole, beside, *_ = tables(page(bad, good))
    assert [row[1] for row in foremost[1:]] == [*["bad"] * 6, *["good"] * 6], "rows of runs are not mixed"
    assert foremost[6][0] == "c13", "its best"
    assert len(whole) == 1 + 28
    assert [row[0] for row in beside[1:3]] == ["c12", "c13"]


def test_the_worst_and_the_best_channels_of_each_run_stand_before_the_fold() -> None:
    """What misleads, also perhaps by chance, is no row of many behind what matters a little; each has its cosine, as the tab has it at the step of the results: so have the medians."""

    def many(name: str, means: list[float], cosine: float) -> ReportRun:
        found = data(name)
        channels = [{**found.graph["channels"][0], "name": f"c{at}"} for at in range(len(means))]
        ends = {"": 0.0, "_low": -0.05, "_high": 0.05}
        rows: dict[str, list[list[float]]] = {
            f"ablation_zero{end}": [[mean + by for mean in means]] for end, by in ends.items()
        }
        rows["cosine"] = [[of] * len(means) for of in (cosine - 0.1, cosine + 0.1, 0.2)]
        metrics = {
            ("channel", metric): Series(
                np.array([20, 30, 40] if metric == "cosine" else [30]), np.array(entries, np.float32)
            )
            for metric, entries in rows.items()
        }
        graph = {**found.graph, "channels": channels}
        medians = {LOST_SIGNALS: with_verdicts(metrics, graph)[LOST_SIGNALS]}
        of_run = replace(found, graph=graph, metrics=metrics | medians)
        return run(name, facts={"variant": name}, data=of_run)

    sound = [0.1 + 0.01 * at for at in range(20)]
    runs = [many("a", [*sound, -0.3], 0.5), many("b", [*sound, 0.9], 0.25), many("c", sound, 0.25)]
    foremost = next(table for table in tables(page(*runs)) if table[0][:3] == ["channel", "run", "verdicts"])
    assert foremost[0][4] == "cosine"
    by_run = {name: [row for row in foremost[1:] if row[1] == name] for name in "abc"}
    assert by_run["a"][0] == ["c20", "a", "misleads (may be chance)", "−0.3 [−0.35, −0.25]", "0.5"]
    assert [row[0] for row in by_run["a"][1:]] == ["c19", "c18", "c17"]
    assert by_run["b"][0] == ["c20", "b", "matters", "0.9 [0.85, 0.95]", "0.25"]
    assert [row[0] for row in by_run["c"]] == ["c19", "c18", "c17", "c16"]
    assert foremost[1] == by_run["a"][0], "what is bad stands first"
    text = page(*runs)
    assert "Median cosines, as in the tab: a 0.5, b 0.25, c 0.25." in text
    assert "cosine of one batch, mean over channels" in charts(text), "another number has another name"


def test_rows_of_runs_are_not_mixed_and_signals_against_the_gradient_are_in_the_order_of_the_tab() -> None:
    """The lowest first, whatever the messages are worth; the run with the worse score first, whatever its channels are worth."""

    def signals(name: str, accuracy: float, cosines: list[float]) -> ReportRun:
        made = scored(name, accuracy)
        assert made.data is not None
        channels = [{**made.data.graph["channels"][0], "name": f"c{at}"} for at in range(len(cosines))]
        worth = [0.5 - 0.1 * at for at in range(len(cosines))]
        rows = {"cosine": [[one - 0.01, one + 0.01] for one in cosines]}
        rows |= {
            f"ablation_zero{end}": [[one + by] for one in worth]
            for end, by in (("", 0), ("_low", -0.01), ("_high", 0.01))
        }
        series = {
            ("channel", metric): Series(np.array([20, 30][-len(of[0]) :]), np.array(of, np.float32).T)
            for metric, of in rows.items()
        }
        scores = {key: one for key, one in made.data.metrics.items() if key[0] != "channel"}
        graph = {**made.data.graph, "channels": channels}
        return replace(made, data=replace(made.data, graph=graph, metrics=scores | series, messages={}))

    runs = [signals("good", 0.9, [-0.1, 0.5, 0.5]), signals("poor", 0.5, [0.5, -0.2, -0.4])]
    judged = next(table for table in tables(page(*runs)) if table[0][1:2] == ["run"])
    assert [row[1] for row in judged[1:]] == ["poor"] * 3 + ["good"] * 3
    assert [row[0] for row in judged[1:]] == ["c2", "c1", "c0", "c0", "c1", "c2"]


def test_of_many_scenario_files_each_has_its_own_changes_alone() -> None:
    """What one of them changes is no difference of the others."""
    changes: list[dict[str, str]] = [{}, {"lr": "0.03"}, {"drop": "0.3"}, {"clip": "1e-9", "drop": "0.5"}]
    runs = [
        replace(run(f"r{at}", facts={"values": None}, document=f"{at}"), settings={"size": "8", **change})
        for at, change in enumerate(changes)
    ]
    assert list(grouped(runs)) == ["what most have", "lr=0.03", "drop=0.3", "drop=0.5, clip=1e-9"]
