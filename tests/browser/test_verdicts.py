"""What the tab says at first sight: verdicts, intervals, scales; from pages that need no server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from antiphon.telemetry import RunData, Series
from tests.browser import runs
from tests.browser.numbers import apart, parsed
from tests.browser.tab import Tab
from tests.kit.tab import graph_document, run_over_seeds, with_verdicts
from tests.kit.tab import page as page_of

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator

pytestmark = pytest.mark.long


NAN = float("nan")
NAMES = [runs.channel_name(channel) for channel in runs.CHANNELS]
VALUES = [0.9, -0.8, -0.12, 0.5, 0.4, NAN, -0.2, 0.3, 3.4]
HALVES = [0.2, 0.3, 3.5, 0.6, 0.1, NAN, 0.1, 0.4, 9.0]
"""Channels 0 and 4 help, 1 and 6 harm, 2, 3, 7 and 8 are unresolved, 5 is undefined."""
ENERGIES = [1.0, 2.0, 1.0, 0.0, 1.5, 1.0, 1.0, 0.001, 1.0]
"""Channels 3 and 7 are silent."""
AGES = [1.0, 1.0, 12.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
"""Channel 2 is stale."""
Metrics = Mapping[str, Sequence[float]]
Opened = Callable[..., Tab]


def data(rows_by_step: Mapping[int, Metrics], name: str = "run") -> RunData:
    """Return a run of the made graph with metrics of its channels by step and metric."""
    graph = graph_document(runs.description(runs.AGENTS, runs.CHANNELS))
    metrics = dict.fromkeys(metric for found in rows_by_step.values() for metric in found)
    series = {}
    for metric in metrics:
        steps = [step for step, found in rows_by_step.items() if metric in found]
        rows = np.array([rows_by_step[step][metric] for step in steps], dtype=np.float32)
        series["channel", metric] = Series(np.array(steps), rows)
    return RunData(name, graph, metrics=with_verdicts(series, graph), path="runs/my run")


def interval(metric: str, values: Sequence[float], halves: Sequence[float]) -> dict[str, list[float]]:
    pairs = list(zip(values, halves, strict=True))
    return {
        metric: list(values),
        f"{metric}_low": [value - half for value, half in pairs],
        f"{metric}_high": [value + half for value, half in pairs],
    }


HARMED = f"{NAMES[1]} harms {NAMES[6]} harms"
LOGGED = {"message_energy": ENERGIES, "age": AGES}
MEASURED = {10: LOGGED, 20: {**LOGGED, **interval("value", VALUES, HALVES)}}


@pytest.fixture
def opened(context: BrowserContext, tmp_path: Path) -> Opened:
    """Return a function that opens a page of a run without a network."""

    def open_page(*found: RunData) -> Tab:
        file = tmp_path / "page.html"
        file.write_text(page_of(found, title="page"), encoding="utf-8")
        context.set_offline(True)
        page = context.new_page()
        page.goto(file.as_uri())
        tab = Tab(page, page.main_frame)
        tab.idle()
        return tab

    return open_page


def strip(tab: Tab) -> str:
    return " ".join(tab.part("verdicts").inner_text().split())


AS_RUN = "links as in the run"


def left(tab: Tab) -> list[int]:
    """Return the channels that search and filter leave."""
    return [index for index in range(len(NAMES)) if tab.ask("app.matches('channel', a[0])", index)]


def test_it_opens_on_value_and_counts_the_verdicts(opened: Opened) -> None:
    tab = opened(data(MEASURED))
    assert tab.part("metric").input_value() == "value"
    chance = "expect under 1 by chance"
    assert (
        strip(tab)
        == f"value, {AS_RUN} 2 of 8 help 2 harm 4 unresolved {HARMED} 1 without a result {chance} 1 of 9 stale 2 silent"
    )
    tab.at(10)
    assert "value measured at step 20" in strip(tab)
    assert "No values at this step. First at step 20" in tab.part("legend").inner_text()
    tab.select("channel", 0)
    assert "No value at this step: it was measured at step 20." in tab.part("panel-why").inner_text()
    assert strip(tab).endswith("1 of 9 stale 2 silent")
    tab.part("verdicts").get_by_test_id("step-link").click()
    assert tab.step == 20


def test_a_gate_that_never_opened_is_a_verdict(opened: Opened) -> None:
    gates = [0.0, 0.5, *[NAN] * 7]
    tab = opened(data({10: {**LOGGED, "gate": gates}, 20: {**LOGGED, "gate": [0.0, 0.0, *[NAN] * 7]}}))
    assert strip(tab).endswith("1 of 9 stale 2 silent 1 hardly any signal")
    tab.push("verdict-faint")
    assert left(tab) == [0]


VERDICTS = {
    "helps": [0, 4],
    "harms": [1, 6],
    "unresolved": [2, 3, 7, 8],
    "stale": [2],
    "silent": [3, 7],
}


def test_each_verdict_is_a_filter_and_those_of_worth_exclude_each_other(opened: Opened) -> None:
    tab = opened(data(MEASURED))
    for verdict, channels in VERDICTS.items():
        chip = f"verdict-{verdict}"
        tab.push(chip)
        assert left(tab) == channels
        assert tab.part("filter").input_value() == f"verdict:{verdict}"
        assert tab.part(chip).get_attribute("aria-pressed") == "true"
        assert f"{len(channels)} of 9 channels" in tab.part("counts").inner_text()
        tab.push(chip)
        assert left(tab) == list(range(9))
        assert tab.part("filter").input_value() == ""
    tab.fill("filter", "coupling:decoupled")
    for verdict in ("helps", "unresolved", "stale"):
        tab.push(f"verdict-{verdict}")
    assert tab.part("filter").input_value() == "coupling:decoupled verdict:unresolved verdict:stale"
    assert left(tab) == [2]


def test_find_takes_the_words_of_the_page(opened: Opened) -> None:
    """Titles of metrics with their blanks, verdicts and couplings without their field."""
    parameters = interval("parameter_cosine", [-0.1, 0.3] + [0.1] * 7, [0.05] * 9) | {"cosine": [0.5] * 9}
    ablation = interval("ablation_zero", [0.5, 0.1] + [NAN] * 7, [0.3] * 9)
    tab = opened(data({10: MEASURED[20] | parameters | ablation}))
    for text, channels in {
        "parameter cosine<0": [0],
        '"Parameter cosine" > 0.2': [1],
        "cosine<0": [],
        "harm": [1, 6],
        "against the gradient": [0],
        "Helps": [0, 4],
        "matter": [0],
        "delayed": [4],
        "unresolved coupling:decoupled": [2, 7, 8],
        "loss by ablation<0.2": [1],
    }.items():
        tab.fill("filter", text)
        assert left(tab) == channels, text
        assert tab.part("filter-error").inner_text() == "", text
    tab.part("filter").press("Enter")
    tab.idle()
    assert tab.title == NAMES[1]
    tab.page.mouse.move(*tab.point("edgePoint", 1))
    assert "value −0.8 [−1.1, −0.5] harms" in tab.frame.locator(".ap-tooltip:visible").inner_text()


def told(part: Locator) -> str:
    """Return what stands in a part of the page, also where it is folded."""
    return part.text_content() or ""


def test_a_panel_warns_at_the_steps_at_which_messages_and_parameters_contradict(opened: Opened) -> None:
    """A signal that is right message by message and wrong in its sender's parameters."""
    steps = {1: (0.7, 0.1), 10: (-0.25, 0.3), 20: (-0.25, 0.1)}
    logged = {
        step: {"cosine": [0.8] * 9, **interval("parameter_cosine", [p] + [0.6] * 8, [half] * 9)}
        for step, (p, half) in steps.items()
    }
    tab = opened(data(logged))
    tab.select("channel", 0)
    why = tab.part("panel-why")
    words = (
        "its sender far less along the true gradient (parameter cosine −0.25 [−0.35, −0.15]). "
        "Try: local, or more context (gradient.context)."
    )
    assert words in tab.part("cause").inner_text()
    for step in (1, 10):  # an interval that contains 0 gives no direction
        tab.at(step)
        assert "far less along" not in told(why)
    tab.at(20)
    tab.select("channel", 1)
    assert "far less along" not in told(why)


def test_what_may_be_chance_is_hollow_and_has_no_verdict_of_worth(opened: Opened) -> None:
    """A value of -0.12 within [-3.62, 3.38] is no harm."""
    tab = opened(data(MEASURED))
    for metric, solid in (("value", [True, True, False]), ("message_energy", [True, True, True])):
        tab.choose("metric", metric)
        colours = tab.colours()
        middles = {index: tab.point("edgePoint", index) for index in (0, 6, 8)}
        assert all(tab.is_drawn(colours[index], middle) for index, middle in middles.items())
        assert [min(tab.pixel(middle)) < 225 for middle in middles.values()] == solid
    tab.choose("metric", "value")
    for index, words in ((0, "signal helps"), (1, "signal harms"), (2, "signal unresolved stale"), (5, "")):
        tab.select("channel", index)
        assert " ".join(tab.part("panel-verdicts").inner_text().split()) == words
    assert "hollow: the interval contains 0" in tab.part("legend").inner_text()


def test_a_panel_says_why(opened: Opened) -> None:
    """What the verdicts mean, and signs in the numbers of the step shown."""
    tab = opened(
        data(
            {
                10: MEASURED[20]
                | {
                    "cosine": [0.5, 0.02, 0.3] + [NAN] * 6,
                    **interval("parameter_cosine", [0.6, NAN, 0.07] + [NAN] * 6, [0.1] * 9),
                    "r2": [-0.5, -0.3] + [NAN] * 7,
                }
            }
        )
    )
    for index, words in (
        (
            0,
            [
                "helps over links as in the run: value 0.9 [0.7, 1.1]",
                "parameter cosine|0.6 [0.5, 0.7]|moves the sender along the true gradient; median of all channels 0.335",
                "cosine|0.5|not resolved; median of all channels 0.3",
                "mind is a readout; a message every step.",
            ],
        ),
        (
            1,
            [
                "harms over links as in the run: value −0.8 [−1.1, −0.5]",
                "Hint at the cause: no setting and no metric in which it differs from the other channels names it. Try: coupling: detached.",
                "cosine|0.02|not resolved; median of all channels 0.3",
                "Next: measure how well its gradient can be predicted at all, in at least 27 seconds:",
                "mind is a readout; a message every step.",
            ],
        ),
        (
            5,
            ["No value at this step: not measured, or undefined."],
        ),
    ):
        tab.select("channel", index)
        lines = tab.part("panel-why").locator("p, tr, li")
        found = [
            "|".join(line.locator("td").all_text_contents()) or line.text_content() for line in lines.all()
        ]
        assert found == words


@pytest.mark.parametrize(
    ("measure", "words"),
    [("value", "the value decides"), ("ablation_zero", "the readouts need its messages")],
)
def test_a_panel_says_what_a_channel_is_that_matters_against_its_cosine(
    opened: Opened, measure: str, words: str
) -> None:
    worth = interval(measure, [0.5, 0.5] + [-0.5] * 7, [0.1] * 9)
    against = {**worth, "cosine": [-0.3, 0.3] + [-0.3] * 7}
    tab = opened(data({5: against, 10: against}))
    for index, said in ((0, True), (1, False), (2, False)):
        tab.select("channel", index)
        assert (words in told(tab.part("panel-why"))) == said


def test_channels_without_a_result_say_why_and_which_command_gives_one(opened: Opened) -> None:
    why = "over this horizon true gradients give no significant gain"
    undefined = {"value": {"step": 20, "reasons": {NAMES[5]: why}, "again": ["--value", "--repeats", "10"]}}
    tab = opened(replace(data(MEASURED), undefined=undefined))
    assert tab.part("missing").get_attribute("title") == why
    tab.push("missing")
    listed = tab.part("verdicts").locator("details").inner_text()
    command = "antiphon evaluate 'runs/my run' --value --repeats 10"
    assert [why in listed, command in listed] == [True, True]
    tab.part("verdicts").locator("details .ap-link").click()
    tab.idle()
    assert tab.title == NAMES[5]
    assert f"No value at this step: {why}." in tab.part("panel-why").inner_text()
    assert tab.part("panel-why").locator("code").inner_text() == command
    chart = tab.frame.locator(".ap-chart[data-metric=value]")
    assert f"none at step 20: {why}" in chart.inner_text()
    for advice, words in (
        ({"cost": "about 5 minutes"}, f"To measure again takes about 5 minutes:\n\n{command}"),
        ({"instead": "measure during a run"}, "Measure during a run."),
    ):
        undefined["value"] |= advice
        advised = opened(replace(data(MEASURED), undefined=undefined))
        advised.select("channel", 5)
        assert advised.part("panel-why").inner_text().endswith(words)


def test_two_channels_of_a_run_are_compared(opened: Opened) -> None:
    """By a click with Shift, or from the panel's list; numbers stand side by side, curves in one chart."""
    tab = opened(
        data(
            {
                10: {"age": AGES, "cosine": [0.1 * n for n in range(9)]},
                20: MEASURED[20] | {"cosine": [0.2] * 9},
            }
        )
    )
    tab.select("channel", 0)
    tab.page.keyboard.down("Shift")
    tab.click("edgePoint", 2)
    tab.page.keyboard.up("Shift")
    assert tab.part("panel-title").evaluate_all("all => all.map((one) => one.title)") == [NAMES[0], NAMES[2]]
    assert [word.split() for word in tab.part("panel-verdicts").all_inner_texts()] == [
        ["signal", "helps"],
        ["signal", "unresolved", "stale"],
    ]
    assert (tab.number("value"), tab.number("value", beside=True)) == pytest.approx((0.9, -0.12))
    assert [tab.part(f"difference-{metric}").inner_text() for metric in ("value", "age")] == [
        "1.02 overlap",
        "−11",
    ]
    assert [tab.part(f"number-{metric}").inner_text() for metric in ("value", "age")] == [
        "0.9 [0.7, 1.1]",
        "✓ 1",
    ]
    chart = tab.frame.locator(".ap-chart[data-metric=cosine] .ap-chart-legend")
    assert [name in chart.inner_text() for name in (NAMES[0], NAMES[2])] == [True, True]
    assert "all channels: median, middle half" in chart.inner_text()
    tab.choose("compare", NAMES[4])
    assert tab.part("number-value").inner_text() == "✓ 0.9 [0.7, 1.1]"  # the intervals do not overlap
    assert tab.number("value", beside=True) == pytest.approx(0.4)
    tab.choose("compare", "")
    assert tab.part("number-beside-value").count() == 0


def test_lines_are_coloured_by_the_measure_that_most_channels_have(opened: Opened) -> None:
    """Of equals by value; the slider stands where most is resolved, and it says how many have it, and of which step a value is."""
    few = interval("value", [NAN] * 6 + [0.5] * 3, [0.1] * 9)
    all_of_them = interval("ablation_zero", [*VALUES[:5], 0.0, *VALUES[6:]], [*HALVES[:5], 1.0, *HALVES[6:]])
    tab = opened(data({10: few | all_of_them, 20: {"age": AGES}}))
    assert (tab.part("metric").input_value(), tab.step) == ("ablation_zero", 10)
    tab.at(20)
    assert "9 of 9 channels, as of step 10." in tab.part("legend").inner_text()
    tab.choose("metric", "value")
    assert "3 of 9 channels, as of step 10, all 0.5." in tab.part("legend").inner_text()
    tab.select("channel", 8)
    assert tab.part("number-value").inner_text() == "0.5 [0.4, 0.6]"
    assert tab.part("head-0").inner_text() == "Value, grey: as of step 10"
    assert tab.part("number-age").inner_text() == "1"
    equals = {10: interval("value", VALUES, HALVES), 20: interval("ablation_zero", VALUES, HALVES)}
    assert opened(data(equals)).part("metric").input_value() == "value"


def test_an_open_panel_follows_the_measure_of_the_verdicts(opened: Opened) -> None:
    against = interval("ablation_zero", [-value for value in VALUES], HALVES)
    tab = opened(data({20: {**MEASURED[20], **against}}))
    tab.choose("metric", "value")
    tab.select("channel", 0)
    for metric, words in (
        (
            "value",
            f"helps over {AS_RUN}: value 0.9 [0.7, 1.1]loss by ablation (zero)−0.9 [−1.1, −0.7]misleads",
        ),
        ("ablation_zero", "misleads: loss by ablation (zero) −0.9 [−1.1, −0.7]value0.9 [0.7, 1.1]helps"),
        ("value", f"helps over {AS_RUN}: value "),
    ):
        tab.choose("metric", metric)
        assert told(tab.part("panel-why")).startswith(words)


def test_a_language_that_intl_refuses_leaves_the_charts(
    opened: Opened, context: BrowserContext, address: str
) -> None:
    """In TensorBoard, and on a page without a server."""
    context.add_init_script(
        "Object.defineProperty(Navigator.prototype, 'language', { get: () => 'en-US@posix' })"
    )
    metrics = {10: LOGGED, 20: {"age": [2.0] * 9}}
    for show in (lambda: Tab.alone(context.new_page(), address, "made"), lambda: opened(data(metrics))):
        tab = show()
        tab.select("channel", 0)
        assert tab.frame.locator(".ap-chart canvas").count() > 0


def test_the_lists_of_the_worst_and_the_best_have_intervals_and_begin_at_the_ends(opened: Opened) -> None:
    """By their numbers; which end is bad follows from the metric, no value below 0 is best, and what is not resolved has no rank."""
    tab = opened(data(MEASURED))
    rows = tab.part("extremes").locator("li:visible").all_inner_texts()
    texts = [" ".join(row.split()) for row in rows]
    assert texts[0] == "left->mind:again −0.8 [−1.1, −0.5] harms"
    assert texts[2] == "left->mind 0.9 [0.7, 1.1] helps"
    shown = [float(text.split()[1].replace("−", "-")) for text in texts]
    assert shown == [-0.8, -0.2, 0.9, 0.4]
    options = tab.part("metric").locator("option").evaluate_all("all => all.map((one) => one.value)")
    assert "value_low" not in options
    headings = tab.part("extremes").locator("h2")
    assert headings.all_inner_texts() == ["Worst value now", "Best value now"]
    assert tab.part("all").inner_text() == "all 8 channels, 4 unresolved: table"
    for metric, ends in (
        ("age", [f"{end} age now, no interval" for end in ("Highest", "Lowest")]),
        ("message_energy", ["Lowest message energy now", "Highest message energy now"]),
    ):
        tab.choose("metric", metric)
        assert headings.all_inner_texts() == ends
    assert tab.part("extremes").locator("li").first.inner_text().startswith(NAMES[3])


def test_without_either_it_says_how_to_measure(opened: Opened) -> None:
    tab = opened(data({10: LOGGED}))
    assert tab.part("metric").input_value() == "message_energy"
    command = "antiphon evaluate 'runs/my run' --value"
    assert strip(tab) == f"value not measured: {command} 1 of 9 stale 2 silent"


def test_what_most_channels_have_in_their_settings_stands_once_beside_the_verdicts(opened: Opened) -> None:
    """At each step, also of a run whose channels help; of a few channels with their names."""
    assert opened(data(MEASURED)).part("common").is_hidden()  # one channel loses 25 %
    found = data(MEASURED)
    one = [
        {**channel, "drop": 0.5} if channel["name"] == "left->slow" else channel
        for channel in found.graph["channels"]
    ]
    told = opened(replace(found, graph={**found.graph, "channels": one})).part("common").inner_text()
    assert told.startswith("left->slow: 50 % of its messages are lost")
    lossy = [{**channel, "drop": 0.9} for channel in found.graph["channels"]]
    tab = opened(replace(found, graph={**found.graph, "channels": lossy}))
    says = "90 % of its messages are lost, and the last one that arrived is read instead (what that costs is not logged); try evaluate --links as_run for the cost, or a smaller link.drop (a synthetic input that learns little may cost more)"
    for step in (20, 10):
        tab.at(step)
        command = "antiphon evaluate 'runs/my run' --links as_run"
        assert tab.part("common").locator("code").inner_text() == command, "whole, to be copied"
        assert tab.part("common").inner_text() == f"each of 9 channels: {says}".replace(
            "evaluate --links as_run", command
        )


def test_explanations_are_cut_only_where_there_is_little_room(opened: Opened) -> None:
    tab = opened(data({10: {"cosine": [0.1 * at for at in range(9)]}}))
    fits = "one => one.scrollWidth <= one.clientWidth"
    for height, whole in ((900, False), (2160, True)):
        tab.page.set_viewport_size({"width": 1280, "height": height})
        assert tab.part("says").evaluate(fits) is whole


def test_every_command_of_what_is_said_of_the_run_can_be_copied(opened: Opened) -> None:
    """Also that which measures an ablation over the run's own links."""
    found = data({10: {**LOGGED, **interval("ablation_zero", [0.2] * 9, [0.1] * 9)}})
    lossy = [{**channel, "drop": 0.9} for channel in found.graph["channels"]]
    links = {"ablation_zero": {"step": 10, "links": "perfect links"}}
    tab = opened(replace(found, graph={**found.graph, "channels": lossy}, undefined=links))
    codes = tab.part("common").locator("code").all_inner_texts()
    assert codes == ["antiphon evaluate 'runs/my run' --links as_run"] * 2
    assert f"{codes[0]} measures it over the run's" in tab.part("common").inner_text()


def test_what_is_no_mean_is_not_said_to_be_one(opened: Opened) -> None:
    tab = opened(data({10: {"cosine": [0.1 * at for at in range(9)]}}))
    assert "Values of 9 of 9 channels.\n" in tab.part("legend").inner_text()
    assert "Lowest cosine now, no interval\n" in tab.part("extremes").inner_text()


def test_the_column_of_the_panel_is_gone_with_the_channel(opened: Opened) -> None:
    """Of a run that has no such channel; it is there again with one that has."""
    found = data(MEASURED)
    alone = replace(found, name="alone", graph={**found.graph, "channels": []}, metrics={})
    tab = opened(found, alone)
    tab.select("channel", 0)
    panel = tab.frame.locator(".ap-side")
    assert panel.is_visible()
    tab.choose("run", "alone")
    assert panel.is_hidden()
    tab.choose("run", "run")
    assert panel.is_visible()


def test_the_headline_has_the_mean_of_the_readouts_at_the_step(opened: Opened) -> None:
    """Of the test split, else of the validation split, where one was evaluated by that step, else of training; of a share per cent."""
    made = data({10: LOGGED, 20: LOGGED})
    readouts = [index for index, agent in enumerate(runs.AGENTS.values()) if agent.get("role") == "readout"]
    rows = np.linspace(0.1, 0.7, 2 * len(runs.AGENTS), dtype=np.float32).reshape(2, -1)
    steps = np.array([10, 20])
    logged = {("agent", "loss"): Series(steps, 2 * rows), ("agent", "accuracy"): Series(steps, rows)}
    graph = made.graph
    tab = opened(replace(made, metrics=with_verdicts(made.metrics | logged, graph)))
    for row, step in ((1, 20), (0, 10)):
        tab.at(step)
        mean = float(rows[row][readouts].mean())
        assert tab.part("headline").inner_text().split() == [
            "made",
            "training",
            "accuracy",
            f"{100 * mean:.3g}",
            "%",
            *("of", "mind,", "second"),
        ]
    validated = {("agent", "validation_loss"): Series(steps[:1], rows[:1])}
    tab = opened(replace(made, metrics=with_verdicts(made.metrics | logged | validated, graph)))
    assert tab.part("headline").inner_text().split()[1:3] == ["validation", "loss"]
    tested = {("agent", "test_accuracy"): Series(steps[1:], rows[1:])}
    tab = opened(replace(made, metrics=with_verdicts(made.metrics | logged | validated | tested, graph)))
    for step, words in ((20, ["test", "accuracy"]), (10, ["validation", "loss"])):
        tab.at(step)
        assert tab.part("headline").inner_text().split()[1:3] == words
    tab.part("whose").get_by_text("second").click()
    tab.idle()
    assert tab.title == "second", "each readout that the score is the mean of is a link"
    assert opened(made).part("headline").inner_text() == "made"
    many = [{**agent, "role": "readout"} for agent in made.graph["agents"]]
    graph = {**graph, "agents": many}
    tab = opened(replace(made, graph=graph, metrics=with_verdicts(made.metrics | logged, graph)))
    assert tab.part("whose").inner_text() == "of 6 readouts"
    tab.part("whose").get_by_role("button").click()
    assert tab.part("filter").input_value() == "role:readout"


def test_it_opens_on_what_signals_do_where_no_value_is_measured(opened: Opened) -> None:
    """Not on the loss of predictors, by which channels are not to be compared; the scale ends at what there is."""
    logged = {"age": AGES, "message_energy": ENERGIES, "sg_loss": [0.1] * 9}
    assert opened(data({10: logged})).part("metric").input_value() == "message_energy"
    tab = opened(data({10: {**logged, "cosine": [0.42, -0.1] + [0.2] * 7}}))
    assert tab.part("metric").input_value() == "cosine"
    assert "compare" not in tab.part("caution").inner_text()
    assert tab.ask("app.scale()") == {"scale": "diverging", "low": -0.5, "high": 0.5}


def test_rounding_errors_are_no_cosines_of_one_sign_or_the_other(opened: Opened) -> None:
    tab = opened(data({10: {"cosine": [-1.5e-8, 3e-8] + [0.0] * 7}}))
    assert tab.ask("app.scale()") == {"scale": "diverging", "low": -1, "high": 1}


def test_the_best_channels_are_in_view_beside_another_run(opened: Opened) -> None:
    rows = {10: interval("ablation_zero", VALUES, HALVES)}
    tab = opened(data(rows, "one"), data(rows, "two"))
    tab.page.set_viewport_size({"width": 1280, "height": 800})
    tab.choose("beside", "two")
    box, apart_box = (tab.part(name).bounding_box() or {} for name in ("extremes", "apart"))
    assert box["y"] + box["height"] <= 800
    assert box["y"] < apart_box["y"], "whatever differs, of which there may be much"


def test_numbers_in_the_matrix_are_no_wider_than_their_cells(opened: Opened) -> None:
    tab = opened(data({10: {"cosine": [-0.000123] * 9}}))
    tab.page.set_viewport_size({"width": 900, "height": 492})
    tab.push("view-matrix")
    widths = tab.ask(
        """(async () => {
          const [pen, found] = [CanvasRenderingContext2D.prototype, []];
          const kept = pen.fillText;
          pen.fillText = function (text, x, y, most) {
            if (text.startsWith("−0.0")) found.push([this.measureText(text).width, most ?? Infinity]);
            kept.apply(this, arguments);
          };
          app.view().redraw();
          await app.idle();
          pen.fillText = kept;
          return { found, unit: app.view().unit };
        })()"""
    )
    assert widths["found"]
    assert max(wide for wide, _ in widths["found"]) > widths["unit"], "there is too little room"
    assert all(most < widths["unit"] for _, most in widths["found"])


def test_the_command_that_measures_can_work_and_says_how_long_it_takes(opened: Opened) -> None:
    """A scenario with Python objects is given as a function; without channels there is nothing to measure."""
    found = data({10: LOGGED})
    many = replace(found, graph={**found.graph, "agents": 60 * found.graph["agents"]})
    quick = "value not measured how: loss by ablation in 14 seconds or more loss by ablation in at least 14 seconds: antiphon evaluate 'runs/my run' --ablate zero --examples 100"
    tab = opened(many)
    tab.push("how")
    said = strip(tab)
    assert said.startswith(f"{quick} value in at least 2 hours: antiphon evaluate 'runs/my run' --value")
    assert f"value of {NAMES[0]} alone in at least" in said, "the cheap one beside it"
    shorter = "value over fewer steps, which may miss late effects, in at least 27 minutes: antiphon evaluate 'runs/my run' --value --horizon 10"
    assert shorter in said
    assert f"antiphon evaluate 'runs/my run' --channels '{NAMES[0]}' --value" in said
    objects = replace(found, graph={**found.graph, "has_objects": True})
    assert "'runs/my run' --value --scenario MODULE:FUNCTION 1 of" in strip(opened(objects))
    reason = "its environment has no state_dict"
    fixed = strip(opened(replace(found, graph={**found.graph, "no_fork": reason})))
    assert fixed.startswith(
        f"value cannot be measured ({reason}): antiphon evaluate 'runs/my run' --ablate zero"
    )
    alone = replace(found, graph={**found.graph, "channels": []}, metrics={})
    assert "--value" not in strip(opened(alone))


def test_what_an_agent_is_stands_below_it_only_in_small_graphs_else_at_the_pointer(opened: Opened) -> None:
    found = data({10: LOGGED})
    tab = opened(found)
    assert "mlp 64 of left_half" in [text for text, _, _ in tab.drawn()[1]]
    seventh = {**found.graph["agents"][0], "name": "one more", "x": 0.5, "y": 0.5}
    tab = opened(replace(found, graph={**found.graph, "agents": [*found.graph["agents"], seventh]}))
    assert "mlp 64 of left_half" not in [text for text, _, _ in tab.drawn()[1]]
    tab.page.mouse.move(*tab.point("agentPoint", 0))
    tip = tab.frame.locator(".ap-tooltip:visible")
    assert tip.inner_text().split("\n") == ["left", "mlp 64 of left_half, agent, ticks every step"]


@pytest.mark.parametrize("width", [1280, 3840])
def test_labels_of_two_agents_are_whole_and_off_their_channels(opened: Opened, width: int) -> None:
    """Long names and networks take several lines, above the upper and below the lower of two agents that send to each other."""
    about = {"network": "mlp 32, 32, critic mlp 32, 32 of observation"}
    agents = {"encoder": {"about": about, "period": 2}, "a_classifier_of_many_digits": {"about": about}}
    channels: list[runs.Channel] = [(one, other, "", {}) for one, other in permutations(agents)]
    graph = graph_document(runs.description(agents, channels))
    tab = opened(RunData("run", graph, metrics={}, path="runs/pair"))
    tab.page.set_viewport_size({"width": width, "height": 800})
    tab.idle()
    drawn = [one for one in tab.drawn()[1] if "every step" not in one[0]]
    network = "mlp 32, 32 · critic mlp 32, 32"
    assert sorted(text for text, _, _ in drawn) == sorted(
        [*agents, network, network, "of observation", "of observation · every 2 steps", "every 2 steps"]
    )
    stage = tab.part("stage").bounding_box() or {}
    upper, lower = sorted(tab.ask("app.view().pointOf('agent', a[0])", index)["y"] for index in range(2))
    for text, _, y in drawn:
        assert 0 < y < stage["height"], text
        assert not upper + 25 < stage["y"] + y < lower - 25, text


def test_every_community_of_a_large_matrix_has_its_name(opened: Opened) -> None:
    """Also those that are lower than a line of text; none over another."""
    found = data({10: LOGGED})
    several = [0] * 150 + [1, 2, 3] + [4] * 150
    agents = [
        {**found.graph["agents"][min(n, 5)], "name": str(n), "community": community}
        for n, community in enumerate(several)
    ]
    drawn = opened(replace(found, graph={**found.graph, "agents": agents})).drawn()[1]
    named = [(text, y) for text, _, y in drawn if text.startswith("community")]
    assert [text for text, _ in named] == [f"community {n}" for n in range(1, 6)]
    assert all(later - earlier >= 11.9 for (_, earlier), (_, later) in pairwise(named))


def test_numbers_that_hardly_differ_look_alike(opened: Opened) -> None:
    """Their scale begins at zero."""
    tab = opened(data({10: {"sg_loss": np.linspace(0.996, 1.07, len(NAMES)).tolist()}}))
    assert tab.ask("app.scale()")["low"] == 0
    tab = opened(data({10: {"sg_loss": np.linspace(0.5, 1.07, len(NAMES)).tolist()}}))
    assert tab.ask("app.scale()")["low"] == 0.5


def test_signals_that_point_against_the_gradient_are_counted_and_may_differ_in_sign(opened: Opened) -> None:
    """With what may be the cause, and the command that tells more."""
    aligned = {"cosine": [-0.1, 0.3, -0.11] + [0.3] * 6}
    aligned |= interval("parameter_cosine", [0.13, 0.2] + [NAN] * 7, [0.1] * 9)
    found = data({10: LOGGED | aligned, 20: LOGGED | aligned})
    tab = opened(found)
    worst = f"{NAMES[2]} {NAMES[0]}"
    assert strip(tab).endswith(
        f"2 of 9 against the gradient {worst} expect under 1 by chance 1 stale 2 silent"
    )
    tab.part("worst").first.click()
    tab.idle()
    assert tab.title == NAMES[2]
    tab.push("verdict-against")
    assert left(tab) == [0, 2]
    tab.select("channel", 0)
    why = tab.part("panel-why")
    assert tab.part("lead").inner_text().startswith("against the gradient: cosine −0.1 [−0.1, −0.1]")
    assert "Both signs can be so: the cosine (−0.1 [−0.1, −0.1]) compares single messages" in told(why)
    command = f"antiphon evaluate 'runs/my run' --channels '{NAMES[0]}' --value"
    assert why.locator("code").inner_text() == command, "of this channel alone: of all it may take hours"
    ceilings = {"true_cosine": [0.2] + [0.01] * 8, "cosine_ceiling": [0.05, 0.5, 0.5] + [NAN] * 6}
    tab = opened(data({5: aligned, 10: LOGGED | aligned | ceilings}))
    for index, words in (
        (
            0,
            "the best linear prediction from them has a true cosine of only 0.05, its own 0.2; try more context (gradient.context), or local.",
        ),
        (
            0,
            "Hint at the cause: single batches mislead: over many batches its cosine with the true gradient is 0.2",
        ),
        (2, "Its predictor has not learned yet what message and context tell"),
    ):
        tab.select("channel", index)
        assert words in told(tab.part("panel-why"))
        assert tab.part("panel-why").locator("code").count() == 0
    tab = opened(data({5: aligned, 10: LOGGED | aligned, 20: LOGGED | interval("value", VALUES, HALVES)}))
    tab.at(10)
    tab.push("verdict-against")
    listed = tab.part("extremes").locator("li").all_inner_texts()
    assert [text.split() for text in listed] == [[NAMES[0], "–"], [NAMES[2], "–"]]


def test_the_verdicts_stay_those_of_a_measure_while_lines_show_another_metric(opened: Opened) -> None:
    few = interval("value", [NAN] * 6 + [0.5] * 3, [0.1] * 9)
    tab = opened(data({10: LOGGED | few | interval("ablation_zero", VALUES, HALVES)}))
    tab.choose("measure", "value")
    tab.select("channel", 0)
    tab.choose("metric", "age")
    assert tab.part("measure").input_value() == "value"
    assert "No value at this step: " in tab.part("panel-why").inner_text()


def test_channels_without_a_result_are_a_table_by_their_numbers_under_one_reason(opened: Opened) -> None:
    why = "true gradients give no significant gain"
    gains = {
        1: "0.00038, no signal − own 0.1 [-0.2, 0.4], standard error 0.0025",
        2: "-0.018, no signal − own 0.1 [-0.2, 0.4], standard error 0.017",
        3: "-0.0007, no signal − own 0.1 [-0.2, 0.4], standard error 0.0022",
    }
    reasons = {NAMES[index]: f"{why} ({gain})" for index, gain in gains.items()}
    values = interval("value", [0.9, NAN, NAN, NAN] + [0.5] * 5, [0.1] * 9)
    found = replace(
        data({20: LOGGED | values}),
        undefined={"value": {"step": 20, "reasons": reasons, "again": ["--value"]}},
    )
    tab = opened(found)
    tab.push("missing")
    listed = tab.part("verdicts").locator("details")
    box = listed.locator(".ap-popup").bounding_box() or {}
    assert box["x"] + box["width"] <= 1280
    assert listed.locator(".ap-popup").evaluate("node => node.scrollWidth <= node.clientWidth"), (
        "no column is clipped"
    )
    assert listed.inner_text().count(why) == 1
    tab.select("channel", 2)
    panel = tab.part("panel-why")
    assert f"No value at this step: {why}.\n" in panel.inner_text(), "its numbers stand among what is more"
    assert "−0.018, no signal − own 0.1 [−0.2, 0.4], standard error 0.017." in told(panel)
    rows = [row.split("\t") for row in listed.locator("tr").all_inner_texts()]
    assert rows == [
        ["channel", "gain", "no signal − own", "standard error"],
        [NAMES[2], "−0.018", "0.1 [−0.2, 0.4]", "0.017"],
        [NAMES[3], "−0.0007", "0.1 [−0.2, 0.4]", "0.0022"],
        [NAMES[1], "0.00038", "0.1 [−0.2, 0.4]", "0.0025"],
    ]


def test_a_panel_says_why_log_entries_have_no_alignment(opened: Opened) -> None:
    """And of which samples and steps of an episode the others are."""
    logged = {**LOGGED, "sg_loss": [0.1] * 9}
    aligned = {"cosine": [0.3] * 9}
    entries = {step: logged | (aligned if step in (20, 40) else {}) for step in (1, 10, 20, 30, 40)}
    entries[1] = LOGGED
    found = data(entries)
    timeline = {"start": 0, "steps": 12, "episode_ends": [5, 11], "agents": [], "channels": []}
    tab = opened(replace(found, graph={**found.graph, "batch": 64}, timeline=timeline))
    tab.select("channel", 0)
    assert tab.part("entries").inner_text() == (
        "Each log entry is of one batch of 64 samples: the newest messages whose gradients had returned. Cosine, norm ratio and R² are "
        "means over the newest entries. Log entries fall on 3 of the 6 "
        "steps of an episode in turn: neighbours may differ by that alone. None at 10, 30: the gradients that returned there were 0. "
        "None at 1: no gradient returned there."
    )
    nothing = {step: {**logged, "cosine": [NAN, *[0.3] * 8]} for step in (1, 10, 20, 30, 40)}
    for detached, words in (
        (
            False,
            "No alignment at any log entry. None at 1, 10, 20, 30 and 1 more: the gradients that returned there were 0.",
        ),
        (True, "No alignment: decoupled predicts no gradient."),
    ):
        if detached:
            nothing = {step: {**rows, "sg_loss": [NAN, *[0.1] * 8]} for step, rows in nothing.items()}
        tab = opened(data(nothing))
        tab.select("channel", 0)
        assert tab.part("entries").inner_text() == words


def test_counts_are_of_the_shown_step_and_older_ones_say_theirs(opened: Opened) -> None:
    """Also where the newest measurement gave no channel a result, and where a channel has a reason at each of two steps."""
    nothing = interval("value", [NAN] * 9, [NAN] * 9)
    against = interval("parameter_cosine", [-0.1] + [0.5] * 8, [0.05] * 9)
    cosines = {"cosine": [0.5] * 9}
    steps = {20: MEASURED[20] | against | cosines, 30: LOGGED | cosines, 40: LOGGED | nothing | cosines}
    earlier = [{"step": 20, "reasons": {NAMES[5]: "no gain"}}]
    undefined = {"value": {"step": 40, "reasons": dict.fromkeys(NAMES, "chance"), "earlier": earlier}}
    tab = opened(replace(data(steps), undefined=undefined))
    counts = f"2 of 8 help 2 harm 4 unresolved {HARMED} 1 without a result expect under 1 by chance"
    for step, words in {
        40: f"value, {AS_RUN} 2 help, 2 harm, 4 unresolved at step 20 {HARMED} undefined at step 40 (9 of 9 channels) 1 of 9 against the gradient (parameter cosine of step 20)",
        30: f"value of step 20 {counts} 1 of 9 against the gradient (parameter cosine of step 20)",
        20: f"value {counts} 1 of 9 against the gradient {NAMES[0]} expect under 1 by chance 1 stale",
    }.items():
        tab.at(step)
        assert strip(tab).startswith(words)
    for step, channel, words in (
        (40, 1, "No value at this step: chance."),
        (40, 1, "harms: value −0.8 [−1.1, −0.5] of step 20"),
        (30, 1, "harms: value −0.8 [−1.1, −0.5] of step 20"),
        (
            30,
            0,
            (
                "parameter cosine−0.1 [−0.15, −0.05] of step 20moves the sender against the true gradient; median of all channels 0.5"
                "cosine0.5 [0.5, 0.5], mean of the last 2 entriesfollows the returned gradient; median of all channels 0.5"
            ),
        ),
        (30, 0, "Against the gradient: parameter cosine −0.1 [−0.15, −0.05] of step 20"),
        (20, 5, "No value at this step: no gain."),
    ):
        tab.at(step)
        tab.select("channel", channel)
        assert words in told(tab.part("panel-why"))
    tab.at(40)
    tab.part("verdicts").get_by_test_id("step-link").click()
    assert tab.step == 20


def test_it_opens_at_the_newest_results_and_shows_what_is_of_the_step_shown(
    opened: Opened,
) -> None:
    """Lines, lists and Find; the other step is named beside it. A run in which no value was ever defined shows the cosine."""
    nothing = interval("value", [NAN] * 9, [NAN] * 9)
    worse = "worse than none; no gain (no signal − own -0.05 [-0.07, -0.03], gain 0.01)"
    reasons = dict.fromkeys(NAMES, "not resolved; no gain") | {NAMES[0]: worse}
    wide = interval("value", [0.1] * 9, [1.0] * 9)
    steps = {20: MEASURED[20], 30: LOGGED | wide, 40: LOGGED | nothing}
    tab = opened(replace(data(steps), undefined={"value": {"step": 40, "reasons": reasons}}))
    found = f"2 help, 2 harm, 4 unresolved at step 20 {NAMES[1]} harms {NAMES[6]} harms"
    assert [tab.step, f"9 unresolved {found}" in strip(tab)] == [30, True]
    tab.at(20)
    tab.fill("filter", "value<0")
    assert left(tab) == [1, 2, 6]
    assert tab.part("extremes").locator("li").count() == 3
    tab.at(40)
    assert left(tab) == []
    tab.fill("filter", "harms")
    assert left(tab) == []
    tab.fill("filter", "")
    assert "No values at this step." in tab.part("legend").inner_text()
    assert tab.part("extremes").is_hidden()
    assert len({tuple(colour) for colour in tab.colours()}) == 1
    assert strip(tab).startswith(f"value, {AS_RUN} {found} undefined at step 40")
    tab.part("verdicts").get_by_test_id("harmed").last.click()
    tab.idle()
    assert (tab.step, tab.title) == (20, NAMES[6]), "what was found is a link to its channel"
    tab.at(40)
    tab.select("channel", 0)
    assert tab.part("panel-verdicts").inner_text().strip() == "signal helps at step 20"
    assert "No value at this step: worse than none; no gain.\n" in tab.part("panel-why").inner_text()
    assert "No signal − own −0.05 [−0.07, −0.03], gain 0.01." in told(tab.part("panel-why"))
    tab.part("verdicts").get_by_test_id("step-link").click()
    assert tab.step == 20
    cosines = {10: {"cosine": [0.6] * 4 + [0.4] * 5}, 20: {"cosine": [-0.4] * 4 + [0.6] * 5}}
    tab = opened(data({step: LOGGED | nothing | found for step, found in cosines.items()}))
    assert (tab.part("metric").input_value(), tab.step) == ("cosine", 20)
    legend = tab.part("legend").inner_text()
    assert "mean of the last 2 entries" in legend
    assert "no channel has a value at any step" in legend
    assert "0.1" in tab.part("extremes").locator("li").first.inner_text().split()


def test_all_channels_together_have_a_value_and_the_strip_keeps_its_height(opened: Opened) -> None:
    found = data(MEASURED | {30: LOGGED | interval("value", [NAN] * 9, [NAN] * 9)})
    whole = zip(("value", "value_low", "value_high"), (-0.17, -0.3, -0.04), strict=True)
    of_run = {("run", m): Series(np.array([20, 30]), np.array([[v], [NAN]], np.float32)) for m, v in whole}
    reasons = dict.fromkeys(("all channels", *NAMES), "no gain (gain -0.2, standard error 0.1)")
    undefined = {"value": {"step": 30, "reasons": reasons}}
    tab = opened(replace(found, metrics=found.metrics | of_run, undefined=undefined))
    heights = []
    for step, words in (
        (10, ""),
        (20, "all together (no sum) −0.17 [−0.3, −0.04]"),
        (30, "undefined"),
    ):
        tab.at(step)
        assert words in strip(tab)
        heights.append(tab.part("verdicts").bounding_box())
    assert heights[0] == heights[1] == heights[2]
    tab.push("missing")
    listed = tab.part("verdicts").locator("details")
    assert "defined where the denominator, the gain, exceeds three standard errors" in listed.inner_text()
    assert listed.locator(".ap-popup").is_visible()
    assert "all together (no sum) undefined" in strip(tab)


def test_all_channels_together_are_worse_than_none_though_they_have_no_value(opened: Opened) -> None:
    """As the terminal says; beside another measure too."""
    why = (
        "worse than none; over this horizon true gradients give no significant gain (loss with no signal 1, with its own 1.2, "
        "with the true gradient 0.9, no signal − own -0.15 [-0.25, -0.048], gain 0.1, standard error 0.1)"
    )
    for ablated in (False, True):
        for reason, words in (
            (why, "all together (no sum) worse than none, no signal − own −0.15 [−0.25, −0.048]"),
            (why.replace("worse than none", "not resolved"), "all together (no sum) undefined: not resolved"),
        ):
            rows = {20: MEASURED[20] | (interval("ablation_zero", [0.5] * 9, [0.1] * 9) if ablated else {})}
            undefined = {"value": {"step": 20, "reasons": {"all channels": reason}}}
            told = strip(opened(replace(data(rows), undefined=undefined)))
            assert told.startswith("loss by ablation (zero)" if ablated else "value")
            if not ablated:
                assert words in told
            elif reason is why:
                assert "value: all together worse than none at step 20" in told
            else:
                assert "all together" not in told


def test_of_a_measure_of_few_channels_those_of_another_are_not_the_best(opened: Opened) -> None:
    few = interval("value", [NAN] * 6 + [0.5, NAN, -0.3], [0.1] * 9)
    tab = opened(data({10: LOGGED | few | interval("ablation_zero", [0.5] * 9, [0.1] * 9)}))
    tab.choose("metric", "value")
    rows = [text.split("\n")[0] for text in tab.part("extremes").locator("li").all_inner_texts()]
    assert rows == [NAMES[8], NAMES[6]]
    open_ = interval("value", [NAN] * 8 + [0.3], [0.9] * 9)
    tab = opened(data({10: LOGGED | open_ | interval("ablation_zero", [0.5] * 9, [0.1] * 9)}))
    tab.choose("metric", "value")
    rows = [text.split("\n")[0] for text in tab.part("extremes").locator("li").all_inner_texts()]
    assert (rows, tab.part("all").inner_text()) == ([NAMES[8]], "all 9 channels, 1 unresolved: table")


def test_a_panel_says_first_what_is_said_of_the_run(opened: Opened) -> None:
    quick = ("its predictor's learning rate, 0.02, is 20 times its sender's, 0.001", "a lower sg_lr")
    for cosine in (0.02, 0.4):
        made = given(data({20: MEASURED[20] | {"cosine": [cosine] * 9}}), 9)
        channels = [
            {**one, "predictor": {**one["predictor"], "fast_if_poor": quick}} if "predictor" in one else one
            for one in made.graph["channels"]
        ]
        graph = {**made.graph, "channels": channels}
        logged = {key: series for key, series in made.metrics.items() if key[0] == "channel"}
        tab = opened(replace(made, graph=graph, metrics=with_verdicts(logged, graph)))
        tab.select("channel", 1)
        cause = tab.part("cause").inner_text()
        if cosine < 0.1:
            assert (
                f"{quick[0]}, and the median cosine is below 0.1; try {quick[1]}"
                in tab.part("common").inner_text()
            )
            assert cause == (
                f"Hint at the cause: {quick[0]}, and the median cosine is below 0.1. Try: {quick[1]}."
            )
        else:
            assert tab.part("common").is_hidden()
            assert "learning rate" not in cause


def test_runs_of_different_lengths_are_not_compared_as_if_of_one_step(opened: Opened) -> None:
    """At the last step of the longer one; at the shorter one's they are."""
    made = {}
    for name, steps, loss in (("long", (600, 1800), 0.1), ("short", (600,), 0.5)):
        rows = LOGGED | interval("value", [loss] * 9, [0.01] * 9) | {"age": [10 * loss] * 9}
        found = data(dict.fromkeys(steps, rows), name)
        scores = np.full((len(steps), len(runs.AGENTS)), 1 - loss, np.float32)
        series = {("agent", "accuracy"): Series(np.array(steps), scores)}
        made[name] = replace(found, metrics=with_verdicts({**found.metrics, **series}, found.graph))
    tab = opened(*made.values())
    tab.choose("run", "long")
    tab.choose("beside", "short")
    tab.at(1800)
    said = "training accuracy: 90 % | 50 % at step 1,800 | 600: the steps differ, so this is no effect of the settings"
    assert tab.part("most-apart").inner_text() == f"{said}; compare at step 600."
    assert not tab.part("apart").locator("li").count()
    tab.select("channel", 0)
    tab.idle()
    for metric in ("value", "age"):
        assert "other step" in tab.part(f"difference-{metric}").inner_text()
        assert "✓" not in tab.part(f"number-{metric}").inner_text()
    tab.at(600)
    assert "90 % | 50 %, difference 40 points" in tab.part("most-apart").inner_text()
    assert "Channels differ most in value: 9 of 9" in tab.part("most-apart").inner_text()
    assert "✓" in tab.part("number-age").inner_text()


def test_two_runs_begin_with_their_settings_that_differ(opened: Opened) -> None:
    """Before a channel is chosen, with the channel that differs most; a check mark is never of the run with the worse score."""
    rows = MEASURED[20] | {"cosine": [0.9] * 9, "r2": [0.9] * 9, "sg_learning_rate": [0.001] * 9}
    ahead = interval("value", [0.95] * 9, [0.01] * 9)
    runs_ = []
    for name, rate, numbers, accuracy in (("slow", "0.001", rows, 0.7), ("fast", "0.01", rows | ahead, 0.9)):
        learning = {"sg_learning_rate": [float(rate)] * 9, "age": [1.0 if name == "slow" else 9.0] * 9}
        made = given(data({10: learning, 20: numbers | learning}), 3 if name == "slow" else 9)
        graph = {
            **made.graph,
            "settings": {"sg_lr": rate, "training.predictor.lr": rate, "training.batch": "64"},
        }
        scores = {
            ("agent", "test_accuracy"): Series(
                np.array([20]), np.full((1, len(graph["agents"])), accuracy, np.float32)
            )
        }
        runs_.append(
            replace(made, name=name, graph=graph, metrics=with_verdicts({**made.metrics, **scores}, graph))
        )
    tab = opened(*runs_)
    assert not tab.part("apart").is_visible()
    tab.choose("run", "slow")
    tab.choose("metric", "age")
    tab.at(10)
    tab.choose("beside", "fast")
    assert (tab.step, tab.part("metric").input_value()) == (10, "age"), "a second run moves nothing"
    tab.choose("beside", "")
    tab.at(20)
    tab.choose("metric", "value")
    tab.choose("beside", "fast")
    headings = tab.frame.locator(".ap-stage-name").all_inner_texts()
    assert headings == [
        "slow · test accuracy 70 % over perfect links · 2 help, 2 harm, 4 unresolved, 2 silent",
        "fast · test accuracy 90 % over perfect links · 9 help, 2 silent",
    ]
    told = tab.part("apart").inner_text()
    assert "gradient: linear, given returned | linear, given label (6)" in told
    assert "\nsg_lr: 0.001 | 0.01\n" in told, "one change is one line, by the name that a command takes"
    assert (
        "Channels differ most in value: 4 of 8 beyond the intervals (below). Medians: value 0.35 | 0.95."
        in told
    )
    score = "test accuracy, over perfect links, without what lost messages cost: 70 % | 90 %"
    assert told.count(f"{score}, difference −20 points (single runs: no interval).") == 1
    assert "batch" not in told
    tab.choose("metric", "r2")
    assert "Most different value: 4 beyond" in tab.part("apart").inner_text(), "in which they differ most"
    tab.choose("metric", "value")
    assert (
        f"Most different value: 4 beyond the intervals (over examples, not seeds)\n{NAMES[1]}\n−0.8 | 0.95"
        in told
    )
    tab.select("channel", 1)
    table = [row.split("\t") for row in tab.part("panel").locator("table tr").all_inner_texts()]
    assert table[1][0].startswith("SG learning rate")
    sure = [row[0] for row in table if row[0].startswith(("value", "message energy"))]
    assert sure[0].startswith("value"), "what is resolved stands first, of the worse run too"
    assert "✓" not in tab.part("number-age").inner_text(), "its run has the worse score"
    assert "names it" not in tab.part("panel-why").inner_text()


def test_a_second_run_shows_the_newest_step_of_both_and_what_is_to_be_said_of_each(opened: Opened) -> None:
    """Unless a step was chosen; before, the result of the end stands beside that of the step shown."""
    vague = interval("value", VALUES, [9.0] * 9)
    runs_ = []
    for name, drop in (("sound", 0.0), ("lossy", 0.9)):
        made = data({20: MEASURED[20], 25: LOGGED | vague, 30: LOGGED})
        graph = {**made.graph, "channels": [{**of, "drop": drop} for of in made.graph["channels"]]}
        agents = len(graph["agents"])
        scores = {
            ("agent", metric): Series(np.array([step]), np.full((1, agents), score, np.float32))
            for metric, step, score in (("accuracy", 20, 0.5), ("test_accuracy", 30, 0.75))
        }
        metrics = with_verdicts({**made.metrics, **scores}, graph)
        runs_.append(replace(made, name=name, graph=graph, metrics=metrics))
    tab = opened(*runs_)
    assert tab.step == 25
    assert tab.part("final").inner_text() == "at the end test accuracy 75 %"
    assert tab.part("common").is_hidden()
    tab.choose("beside", "lossy")
    assert tab.step == 30
    assert not tab.part("final").count()
    assert tab.part("common").inner_text().startswith("lossy: each of 9 channels: 90 % of its messages")


def test_a_panel_says_what_is_expected_by_chance_and_intervals_of_cosines_end_at_1(opened: Opened) -> None:
    """As the strip does; Student's t of two entries would reach beyond."""
    more = [("left", "mind", f"m{number}", {"coupling": "decoupled"}) for number in range(11)]
    graph = graph_document(runs.description(runs.AGENTS, [*runs.CHANNELS, *more]))
    rows = interval("ablation_zero", [0.5, 0.0] * 10, [0.1] * 20)
    metrics = {
        ("channel", metric): Series(np.array([20]), np.array([row], np.float32))
        for metric, row in rows.items()
    }
    cosines = np.array([[0.7] * 20, [0.9] * 20], np.float32)
    metrics["channel", "cosine"] = Series(np.array([10, 20]), cosines)
    tab = opened(RunData("run", graph, metrics=with_verdicts(metrics, graph)))
    assert "expect about 1 by chance" in strip(tab)
    tab.select("channel", 0)
    assert tab.part("panel-chance").inner_text() == "; expect about 1 of 20 by chance"
    assert "0.8 [−0.471, 1], mean of the last 2 entries" in tab.part("panel-why").inner_text()
    tab.select("channel", 1)
    assert not tab.part("panel-chance").count()


def test_signals_are_judged_by_the_mean_over_the_steps_of_an_example(opened: Opened) -> None:
    found = data({step: LOGGED | {"cosine": [sign * 0.4 + 0.1] * 9} for step, sign in ((10, 1), (20, -1))})
    assert "0 of 9 against the gradient" in strip(opened(found))


def given(found: RunData, labelled: int) -> RunData:
    """Return a run of which the first predictors are given the label, the others what returned; all of the same delay and clock."""
    channels = [
        {
            **channel,
            "delay": 0,
            "to": 4 if at < 3 else channel["to"],
            "about": {"gradient": f"linear, given {'label' if at < labelled else 'returned'}"},
            "predictor": {
                "kind": "linear",
                "context": ["label" if at < labelled else "returned"],
                "scale": 1.0,
            },
        }
        for at, channel in enumerate(found.graph["channels"])
    ]
    graph = {
        **found.graph,
        "channels": channels,
        "agents": [{**a, "period": 1} for a in found.graph["agents"]],
    }
    metrics = {key: series for key, series in found.metrics.items() if key[0] != "verdict"}
    return replace(found, graph=graph, metrics=with_verdicts(metrics, graph))


def test_the_best_hint_at_the_cause_stands_first(opened: Opened) -> None:
    """Of a channel that harms; where it differs from no other in what may be a cause that is said, with the cost of what tells more."""
    aligned = interval("parameter_cosine", [0.4, 0.5, 0.6] + [0.1] * 6, [0.05] * 9)
    rows = MEASURED[20] | aligned | {"norm_ratio": [1.0] * 6 + [6.0] * 3}
    tab = opened(given(data({5: rows, 10: rows}), 3))
    large = "it is 6 [6, 6] times as large as the returned gradient. Try: gradient.scale: 0.2."
    for index, words in ((6, large), (1, "no setting and no metric in which it differs from the other")):
        tab.select("channel", index)
        assert tab.part("cause").inner_text().startswith(f"Hint at the cause: {words}")
    assert tab.part("panel-why").locator("p").last.inner_text().endswith("in at least 27 seconds:")
    tab.select("channel", 6)
    context = "Its predictor is given returned, not label as with 3 of the other 8 channels; those are better aligned on average"
    assert f"{context}; try gradient.context: label." in told(tab.part("panel-why"))
    tab.choose("compare", NAMES[0])
    table = [
        row.split("\t") for row in tab.part("panel").locator(".ap-panel-numbers tr:visible").all_inner_texts()
    ]
    assert table[1][:3] == ["gradient", "linear, given returned", "linear, given label"]
    names = [row[0] for row in table]
    assert names.index("value") < names.index("message energy")


def test_a_signal_worse_than_none_is_counted_where_it_has_no_value(opened: Opened) -> None:
    """Beside the verdicts; its panel asks for the cause where the true gradient loses less than no signal."""
    none = {20: LOGGED | interval("value", [*[NAN] * 4, *VALUES[4:]], HALVES)}
    none[20] |= interval(
        "own_gain", [-0.03, 0.02, 0.01, NAN, -0.03, *[NAN] * 4], [0.01, 0.01, 0.02] + [0.01] * 6
    )
    losses = {"loss_zero": [2.0] * 9, "loss_synthetic": [2.03] * 9, "loss_true": [2.5] * 9}
    tab = opened(data({20: none[20] | losses}))
    tab.select("channel", 0)
    assert "worse than none" in tab.part("panel-why").inner_text()
    assert not tab.part("cause").count()
    tab = opened(data({20: none[20] | losses | {"loss_true": [1.9] * 9}}))
    counts = "1 of 4 helps 1 harms 1 worse than none 1 better than none 2 unresolved"
    named = f"{NAMES[6]} harms {NAMES[0]} worse than none"
    assert f"{counts} {named} 5 without a result (1 worse, 1 better)" in strip(tab)
    listed = [text.split("\n") for text in tab.part("extremes").locator("li").all_inner_texts()]
    assert [row[0] for row in listed[:3]] == [NAMES[6], NAMES[0], NAMES[4]], "after those that harm, not last"
    assert listed[1][1] == "worse than none"
    assert "Coloured without one: 1 worse than none, 1 better than none." in tab.part("legend").inner_text()
    red, _, blue = tab.colours()[0]
    assert red > blue, "as what harms"
    ablated = {30: LOGGED | interval("ablation_zero", [0.5] * 9, [0.1] * 9)}
    tab = opened(data({20: none[20] | losses} | ablated))
    links = tab.part("verdicts").get_by_test_id("harmed")
    assert links.all_inner_texts() == [f"{NAMES[6]} harms", f"{NAMES[0]} worse than none"]
    links.last.click()
    tab.idle()
    assert (tab.step, tab.title, tab.part("metric").input_value()) == (20, NAMES[0], "value")
    tab = opened(data({20: none[20] | losses | {"loss_true": [1.9] * 9}}))
    tab.push("verdict-worse")
    assert left(tab) == [0]
    tab.select("channel", 0)
    assert tab.part("panel-verdicts").inner_text().strip() == "worse than none"
    assert tab.part("panel-why").inner_text().startswith("worse than none: own gain −0.03 [−0.04, −0.02]")
    assert "names it" in tab.part("cause").inner_text()
    colours = tab.colours()
    tab.select("channel", 1)
    tab.choose("compare", NAMES[4])
    assert tab.is_drawn(colours[0], tab.point("edgePoint", 0)), (
        "found lines stay while two others are compared"
    )


def test_what_is_found_is_listed_whole_and_own_gain_like_value(opened: Opened) -> None:
    """Three stand there, all in a table that a heading sorts; a metric with intervals has hollow lines."""
    gains = interval("own_gain", [-0.5, -0.4, -0.3, -0.2, -0.1, 0.1, *[NAN] * 3], [0.05] * 4 + [0.2] * 5)
    tab = opened(data({20: LOGGED | gains}))
    tab.choose("metric", "own_gain")
    tab.fill("filter", "own_gain<0")
    names = tab.part("extremes").locator(".ap-row-name")
    assert (names.count(), tab.part("all").inner_text()) == (3, "all 5 channels: table")
    tab.push("all")
    table = tab.part("table")
    assert table.locator("th[scope=row]").all_inner_texts() == NAMES[:5]
    for order in (sorted(NAMES[:5]), sorted(NAMES[:5], reverse=True)):
        table.locator("th[scope=col]").first.click()
        assert table.locator("th[scope=row]").all_inner_texts() == order
    table.get_by_text(NAMES[3]).click()
    tab.idle()
    assert tab.title == NAMES[3]
    tab.fill("filter", "")
    for index, hollow in ((0, False), (4, True)):
        tab.select("channel", index)
        assert (min(tab.pixel(tab.point("edgePoint", index))) > 190) == hollow


def test_a_hint_stands_for_the_sentence_on_its_measure(opened: Opened) -> None:
    """What to try beside it; its numbers, and what a true cosine could be, in a table."""
    aligned = interval("parameter_cosine", [0.5, 0.01, *[0.5] * 7], [0.05] * 9)
    ceilings = {"true_cosine": [0.3] * 9, "cosine_ceiling": [0.5] * 9}
    tab = opened(data({10: MEASURED[20] | aligned | ceilings}))
    tab.select("channel", 1)
    own = "it does not move its sender along the true gradient, as the median channel's does"
    assert own in tab.part("cause").inner_text()
    assert "those are better aligned on average; try link.delay: 0." in told(tab.part("panel-why"))
    assert "true cosine0.3at best 0.5 from its message and context" in told(tab.part("panel-why"))


def test_no_channel_is_ranked_by_alignment_before_its_value_is_measured(opened: Opened) -> None:
    found = data({10: LOGGED | {"cosine": [0.1 * n for n in range(9)]}})
    tab = opened(replace(found, graph={**found.graph, "values_every": 50}))
    assert tab.part("extremes").inner_text() == "No ranking before the value is measured: cosine misleads."
    assert opened(found).part("extremes").locator("li").count() == 6


def test_measures_keep_their_verdicts_and_name_the_step(opened: Opened) -> None:
    """Before an ablation the lines show the value; its finding is linked beside the ablation's counts."""
    ablated = interval("ablation_zero", [0.5] * 9, [0.1] * 9)
    losses = {"loss_zero": [0.6] * 9, "loss_synthetic": [0.7] * 9, "loss_true": [0.2] * 9}
    tab = opened(data({20: MEASURED[20] | losses, 40: LOGGED | ablated | losses}))
    assert tab.step == 40
    assert strip(tab).startswith(
        "loss by ablation (zero) value 9 of 9 matter value: 2 help, 2 harm, 4 unresolved at step 20"
    )
    tab.select("channel", 1)
    pills = tab.part("panel-verdicts").locator(".ap-verdict")
    assert pills.all_inner_texts() == ["messages matter", "signal harms"], (
        "the value of step 20 counts until the next"
    )
    chart = tab.frame.locator(".ap-chart[data-metric=loss_zero]")
    meaning = chart.get_by_test_id("says")
    assert meaning.is_hidden(), "its title unfolds what it means"
    chart.locator("summary").click()
    assert meaning.is_visible()
    losses_chart = chart.inner_text()
    assert "loss minus the loss with no signal" in losses_chart
    assert "0.1" in losses_chart.split("with its own signal")[1].split("with the true gradient")[0]
    tab.at(20)
    words = "Shown: value, as no loss by ablation (zero) is measured by this step."
    assert words in tab.part("legend").inner_text()
    assert pills.all_inner_texts() == ["signal harms", "messages matter at step 40"]
    assert "2 of 8 help 2 harm 4 unresolved" in strip(tab)
    tab.fill("filter", "verdict:harms")
    assert left(tab) == [1, 6]
    tab.fill("filter", "")
    tab.at(40)
    tab.part("verdicts").get_by_test_id("step-link").click()
    tab.idle()
    assert [tab.step, tab.part("metric").input_value()] == [20, "value"]


def test_a_single_value_in_a_comparison_has_its_interval(opened: Opened) -> None:
    """A band needs two points; the bar of one is as high as the interval."""
    once = interval("value", [0.5, 0.1, *[NAN] * 7], [0.4] * 9)
    twice = interval("value", [NAN, 0.2, *[NAN] * 7], [0.4] * 9)
    tab = opened(data({10: LOGGED | once, 20: LOGGED | twice}))
    tab.select("channel", 1)
    tab.choose("compare", NAMES[0])
    chart = tab.frame.locator(".ap-chart[data-metric=value] canvas")
    rows = chart.evaluate("""canvas => {
        const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const orange = [...Array(width * height).keys()].filter((at) => data[4 * at] === 0xc2 && data[4 * at + 1] === 0x57 && data[4 * at + 2] === 0x0c);
        return Math.max(...orange.map((at) => Math.floor(at / width))) - Math.min(...orange.map((at) => Math.floor(at / width)));
    }""")
    assert rows > 30


def test_escape_closes_the_list_then_the_panel_then_clears_what_is_asked(opened: Opened) -> None:
    tab = opened(data(MEASURED))
    opened_list = tab.part("verdicts").locator("details[open]")
    tab.push("missing")
    tab.press("m")
    assert opened_list.count() == 0, "another view closes it"
    tab.press("g")
    tab.push("verdict-harms")
    tab.select("channel", 1)
    tab.push("missing")
    for left_over in ((0, True, "verdict:harms"), (0, False, "verdict:harms"), (0, False, "")):
        tab.press("Escape")
        found = opened_list.count(), tab.ask("app.selection()") is not None, tab.part("filter").input_value()
        assert found == left_over


def test_a_value_that_the_run_measures_itself_needs_no_command(opened: Opened) -> None:
    found = data({10: LOGGED, 20: LOGGED})
    for every, words in ((50, "not measured yet"), (20, "is being measured")):
        tab = opened(replace(found, graph={**found.graph, "values_every": every}))
        assert strip(tab).startswith(f"value {words}: the run does it every {every} steps 1 of 9 stale")
    whole = zip(("value", "value_low", "value_high"), (0.9, 0.5, 1.3), strict=True)
    together = {("run", metric): Series(np.array([20]), np.array([[of]], np.float32)) for metric, of in whole}
    graph = {**found.graph, "values_every": 20}
    tab = opened(replace(found, graph=graph, metrics=found.metrics | together))
    words = "value all together (no sum) 0.9 [0.5, 1.3]; of single channels not measured"
    assert strip(tab).startswith(words), "many channels have none of their own"


class Measuring(RunData):
    """A run of which values are being measured."""

    def catalogue(self) -> dict[str, Any]:
        """Return its contents, with how far the measurement is."""
        return {**super().catalogue(), "measuring": {"step": 1200, "done": 15, "of": 99}}


def test_how_far_a_measurement_is_stands_in_the_strip(opened: Opened) -> None:
    found = data(MEASURED)
    running = Measuring(found.name, found.graph, metrics=found.metrics, path=found.path)
    assert "value of step 1,200: 15 of 99 measurements are done" in strip(opened(running))
    assert "measurements" not in strip(opened(found))


def test_a_comparison_marks_no_metric_of_which_a_caution_is(opened: Opened) -> None:
    """And another channel's panel begins at its top."""
    tab = opened(data({10: MEASURED[20] | {"sg_loss": [0.1 * n for n in range(9)]}}))
    tab.select("channel", 0)
    tab.part("panel").evaluate("panel => { panel.scrollTop = 99 }")
    tab.select("channel", 2)
    assert tab.part("panel").evaluate("panel => panel.scrollTop") == 0
    tab.choose("compare", NAMES[1])
    cells = [tab.part(f"number-{beside}sg_loss").inner_text() for beside in ("", "beside-")]
    assert not any("✓" in cell for cell in cells)
    tab.choose("metric", "value")
    for index, hollow in ((0, False), (8, True)):
        tab.select("channel", index)
        pixel = tab.pixel(tab.point("edgePoint", index))
        assert (min(pixel) > 190) == hollow, "a hollow line stays hollow"


def test_the_help_has_the_names_of_the_run_and_all_gestures(opened: Opened) -> None:
    gains = interval("own_gain", [-0.5] * 9, [0.05] * 9)
    tab = opened(data({20: MEASURED[20] | gains}))
    tab.push("help")
    shown = tab.frame.locator("dialog[open]")
    assert "harms, worse, better" in shown.inner_text()
    for text in ("left", "from:left", "to:right", "Shift-click", "drag, wheel"):
        assert text in shown.locator("code").all_inner_texts()
    box, window = shown.bounding_box(), tab.page.viewport_size
    assert box is not None
    assert window is not None
    assert box["height"] < window["height"] - 40


def test_runs_of_several_seeds_are_shown_as_one(opened: Opened) -> None:
    """With means and their intervals over seeds, in colours, lists, curves and the table alike, and how many seeds agree."""
    shifts = (-0.02, 0.0, 0.02)
    runs_ = []
    for seed, by in enumerate(shifts):
        values = [value + by for value in VALUES]
        losses = {
            ("agent", "loss"): Series(
                np.array([10, 20]), np.full((2, len(runs.AGENTS)), 0.5 + by, np.float32)
            )
        }
        rows = {10: LOGGED, 20: LOGGED | interval("value", values, HALVES) | {"cosine": [0.2 + by] * 9}}
        made = data(rows, f"small-s{seed}")
        runs_.append(replace(made, metrics=with_verdicts({**made.metrics, **losses}, made.graph)))
    tab = opened(run_over_seeds("small · all seeds", runs_), *runs_)
    assert tab.part("run").input_value() == "small · all seeds"
    told = " ".join(tab.part("headline").inner_text().split())
    assert told == "made 3 seeds training loss 0.5 [0.45, 0.55] of mind, second"
    assert strip(tab).startswith(f"value, {AS_RUN}, 3 seeds 4 of 8 help 2 harm 2 unresolved")
    pixel = min(tab.pixel(tab.point("edgePoint", 8)))
    assert pixel >= 225, "hollow: the seeds agree, but none knows its own number to 3.5"
    one = tab.colours()
    tab.page.mouse.move(*tab.point("edgePoint", 0))
    tip = tab.frame.locator(".ap-tooltip:visible").inner_text()
    assert "value 0.9 [0.785, 1.02] helps, mean of 3 seeds (3 help)" in tip
    tab.select("channel", 7)
    assert (
        tab.part("lead").inner_text()
        == f"helps over {AS_RUN}, 3 seeds, may be chance: value 0.3 [0.0691, 0.531] (seeds: 3 unresolved)"
    )
    assert "mean of 3 seeds" in tab.part("panel").inner_text()
    assert "by chance; try --seeds 5" not in strip(tab), "it is all resolved"
    assert "Messages" not in tab.part("panel").inner_text()
    legend = tab.frame.locator(".ap-chart[data-metric=cosine]").inner_text()
    assert "0.2 [0.15, 0.25]" in legend
    tab.push("all")
    rows = [row.inner_text().split("\t") for row in tab.part("table").locator("tbody tr").all()]
    assert [row[2] for row in rows if row[0] == NAMES[1]] == ["−0.8 [−0.973, −0.627] (seeds: 3 harm)"]
    tab.press("Escape")
    tab.select("agent", 0)
    assert "0.5 [0.45, 0.55]" in tab.part("number-loss").inner_text()
    tab.choose("run", "small-s1")
    assert tab.colours()[0] == one[0], "the mean of the seeds is that of the second"
    assert strip(tab).startswith(f"value, {AS_RUN} 2 of 8 help")
    tab = opened(run_over_seeds("a · all seeds", runs_), run_over_seeds("b · all seeds", runs_[:2]))
    tab.choose("beside", "b · all seeds")
    tab.select("channel", 0)
    assert "beyond the intervals (over seeds)" in tab.part("apart").inner_text()
    assert "the intervals (over seeds) do" in tab.part("panel").inner_text()
    few = run_over_seeds("two · all seeds", [replace(runs_[0], undefined={}), data({20: LOGGED}, "small-s9")])
    tab = opened(few)
    assert tab.part("missing").get_attribute("title") == "0 of 2 seeds have one\n1 of 2 seeds has one"


def test_where_no_value_is_defined_the_ablation_is_shown_and_named(opened: Opened) -> None:
    """At a step of all channels, and of a single channel its verdict; unless the value was chosen."""
    nothing = interval("value", [NAN] * 9, [NAN] * 9)
    few = interval("ablation_zero", [0.5, -0.4, *[NAN] * 7], [0.1] * 9)
    tab = opened(data({20: MEASURED[20] | few, 40: LOGGED | nothing}))
    assert (tab.part("metric").input_value(), tab.step) == ("value", 20)
    tab.at(40)
    words = "Shown: loss by ablation (zero), as no value is defined at this step."
    assert words in tab.part("legend").inner_text()
    assert tab.part("metric").input_value() == "ablation_zero"
    assert tab.part("measure").input_value() == "ablation_zero"
    red, _, blue = tab.colours()[0]
    assert blue > red
    tab.choose("metric", "value")
    assert "No values at this step." in tab.part("legend").inner_text()
    assert "Coloured without one" not in tab.part("legend").inner_text()
    assert len(set(tab.colours())) == 1, "a picture is of one measure"
    tab.page.mouse.move(*tab.point("edgePoint", 0))
    tip = tab.frame.locator(".ap-tooltip:visible").inner_text()
    assert "value none; loss by ablation (zero) 0.5 [0.4, 0.6] matters" in tip
    tab = opened(data({20: LOGGED | nothing | few}))
    assert tab.part("metric").input_value() == "ablation_zero"
    assert (
        "Shown: loss by ablation (zero), as no channel has a value at any step."
        in tab.part("legend").inner_text()
    )


def test_another_run_is_shown_at_its_nearest_step_with_values(opened: Opened) -> None:
    long = data({step: LOGGED | {"sg_loss": [0.2] * 9} for step in (10, 20, 30, 40, 50)}, "long")
    losses = [{"sg_loss": [loss] * 9} for loss in (0.3, NAN)]
    gaps = data({10: LOGGED, 20: losses[0], 30: LOGGED | losses[1], 70: losses[0]}, "gaps")
    tab = opened(long, gaps)
    for before, after in ((10, 20), (40, 20), (50, 70)):
        tab.choose("run", "long")
        tab.choose("metric", "sg_loss")
        tab.at(before)
        tab.choose("run", "gaps")
        assert tab.step == after, before
        assert "No values" not in tab.part("legend").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_misleads_has_a_colour_of_its_own(opened: Opened, theme: str) -> None:
    """Neither grey, as what is not measured, nor one of the scale; in graph, matrix, lists, legend, chips and the panel alike."""
    little = interval("ablation_zero", [-0.01, 0.5, *[0.0] * 6, NAN], [0.005, *[0.1] * 8])
    faint = opened(data({20: LOGGED | little})).colours()[0]
    small = interval("ablation_zero", [-0.2, 0.5, *[0.0] * 6, NAN], [0.05, *[0.1] * 8])
    tab = opened(data({20: LOGGED | small}))
    if theme == "light":
        assert min(faint) > min(tab.colours()[0]) + 60, "a small effect is no loud one"
        assert max(faint) - min(faint) > 30, "nor grey"
    if theme == "dark":
        tab.push("theme")
    own, *others = tab.colours()
    names = tab.part("verdict-misleads").locator("strong")
    assert parsed(names.evaluate("node => getComputedStyle(node).color")) == own
    assert min(apart(own, other) for other in others) > 60
    assert max(own) - min(own) > 30, "it is not grey"
    assert tab.is_drawn(own, tab.point("edgePoint", 0))
    swatch = tab.part("extremes").locator("li", has_text=NAMES[0]).locator(".ap-swatch").first
    assert parsed(swatch.evaluate("node => getComputedStyle(node).backgroundColor")) == own
    key = tab.part("legend").locator("li", has_text="misleads")
    assert parsed(str(key.locator("path").get_attribute("stroke"))) == own
    tab.select("channel", 0)
    pill = tab.part("panel-verdicts").locator(".ap-verdict").first
    assert parsed(pill.evaluate("node => getComputedStyle(node).color")) == own
    tab.select("channel", 8)
    tab.push("view-matrix")
    tab.fill("filter", "verdict:misleads")
    assert left(tab) == [0]
    assert "misleads" not in opened(data(MEASURED)).part("legend").inner_text()


def test_an_agents_panel_says_when_it_may_learn_and_how_often_it_did(opened: Opened) -> None:
    made = data({10: LOGGED, 800: LOGGED})
    about = {"learns": "every tick, with probability 0.1", "ticks": "every step"}
    agents = [{**made.graph["agents"][0], "about": about}, *made.graph["agents"][1:]]
    updates = np.array([[1] * 6, [80] * 6], np.float32)
    counted = {("agent", "updates"): Series(np.array([10, 800]), updates)}
    tab = opened(replace(made, graph={**made.graph, "agents": agents}, metrics={**made.metrics, **counted}))
    for step, words in ((10, "1 update in 10 ticks."), (800, "80 updates in 800 ticks.")):
        tab.at(step)
        tab.select("agent", 0)
        said = f"Ticks at every step; may learn every tick, with probability 0.1: {words}"
        assert tab.part("clock").inner_text() == said
    tab.select("agent", 3)
    assert tab.part("clock").inner_text() == "Ticks every 4 steps, from step 4; 80 updates in 200 ticks."


def test_a_run_whose_signals_follow_nothing_is_said_to_be_one_at_first_sight(opened: Opened) -> None:
    """Before all else, also where more of its channels matter than of one whose signals follow; and in the table of all channels once."""
    worth = interval("ablation_zero", [0.1 * at + 0.2 for at in range(9)], [0.1] * 9)
    bad, good = (
        data(
            {
                step: {"cosine": [by] * 9, "r2": [-3.0] * 9}
                for step, by in zip((5, 10, 15), values, strict=True)
            }
            | {20: found},
            name,
        )
        for name, values, found in (
            ("bad", (0.01, -0.02, 0.01), {"cosine": [0.0] * 9, **worth}),
            ("good", (0.5, 0.4, 0.5), {"cosine": [0.4] * 9}),
        )
    )
    tab = opened(bad, good)
    says = "the learning signals do not follow the returned gradients: medians of 9 channels (means over 4 log entries) are cosine 0 [−0.0225, 0.0225], R² −3 [−3, −3]"
    assert tab.part("common").inner_text().startswith(says)
    tab.at(5)
    assert tab.part("common").is_hidden(), "of one log entry there is no interval"
    tab.at(20)
    assert tab.part("metric").input_value() == "cosine", "in which it shows, not the worth of messages"
    tab.choose("metric", "ablation_zero")
    tab.push("all")
    assert tab.part("table").locator(".ap-caution").inner_text().startswith(says)
    tab.press("Escape")
    tab.choose("run", "good")
    assert tab.part("common").is_hidden()


def test_the_table_has_the_numbers_that_hints_name_and_those_of_the_run_once(opened: Opened) -> None:
    """At 1280 px nothing of it lies past the edge."""
    entry = {"cosine": [-0.1 * at - 0.2 for at in range(9)], "r2": [-3.0] * 9}
    found = data({5: entry, 10: entry})
    tab = opened(found)
    tab.push("all")
    table = tab.part("table")
    assert "R² −3" in table.locator("tbody tr").first.inner_text()
    assert "R² –" not in table.inner_text()
    assert table.evaluate("node => node.scrollWidth <= node.clientWidth")
    channels = [{**channel, "drop": 0.9} for channel in found.graph["channels"]]
    tab = opened(replace(found, graph={**found.graph, "channels": channels}))
    tab.push("all")
    assert tab.part("table").inner_text().count("are lost") == 1


def test_on_a_large_screen_the_graph_and_its_words_grow(opened: Opened) -> None:
    """Discs, names, lists and panels; and no disc lies past the edge."""
    tab = opened(data(MEASURED))
    sizes = {}
    for width, height in ((1280, 800), (3840, 2160)):
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.idle()
        fonts = [
            float(tab.part(part).evaluate("node => parseFloat(getComputedStyle(node).fontSize)"))
            for part in ("all", "verdict-helps", "verdicts")
        ]
        box = tab.frame.locator(".ap-stage-host").first.bounding_box()
        assert box is not None
        points = [tab.point("agentPoint", agent) for agent in range(len(runs.AGENTS))]
        edge = min(min(x - box["x"], box["x"] + box["width"] - x) for x, _ in points)
        rail = tab.part("legend").bounding_box()
        assert rail is not None
        sizes[width] = [*fonts, rail["width"], edge]
    assert all(large > 1.3 * small for small, large in zip(*sizes.values(), strict=True))


def test_numbers_of_a_comparison_are_never_broken(opened: Opened) -> None:
    """At 1280 px; in no cell of a difference does a number take two lines."""
    first, second = (
        data({20: {"sg_loss": [loss] * 9, "cosine": [0.2] * 9}}, name)
        for name, loss in (("a", 1.234e-5), ("b", 6.789e-5))
    )
    tab = opened(first, second)
    tab.choose("beside", "b")
    tab.select("channel", 0)
    cell = tab.part("difference-sg_loss")
    lines = cell.evaluate(
        "node => { const range = document.createRange(); range.selectNode(node.firstChild); return range.getClientRects().length; }"
    )
    assert (cell.inner_text().startswith("−5.5"), lines) == (True, 1)
    assert cell.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_two_runs_are_compared_over_their_own_links_where_both_are_known(opened: Opened) -> None:
    """Where a run loses messages and was scored over perfect links alone, the sentence says so; the headline has both scores."""

    def scored(name: str, drop: float, **scores: float) -> RunData:
        made = data(MEASURED, name)
        graph = {**made.graph, "channels": [{**of, "drop": drop} for of in made.graph["channels"]]}
        agents = len(graph["agents"])
        metrics = {
            ("agent", metric): Series(np.array([20]), np.full((1, agents), score, np.float32))
            for metric, score in scores.items()
        }
        return replace(made, graph=graph, metrics=with_verdicts({**made.metrics, **metrics}, graph))

    sound = scored("sound", 0.0, test_accuracy=0.75)
    for lossy, words, headline, banner in (
        (
            scored("lossy", 0.9, test_accuracy=0.875),
            "test accuracy, over perfect links, without what lost messages cost: 87.5 % | 75 %",
            "test accuracy 87.5 % of mind, second, over perfect links",
            "what that costs is not logged); try antiphon evaluate 'runs/my run' --links as_run for the cost",
        ),
        (
            scored("lossy", 0.9, test_accuracy=0.875, test_accuracy_as_run=0.5),
            "test accuracy, each over its own links: 50 % | 75 %, difference −25 points",
            "test accuracy 87.5 % of mind, second, over perfect links; over the run's own 50 %",
            "(test accuracy over the run's links 50 %, over perfect ones 87.5 %); try a smaller link.drop (a synthetic input that learns little may cost more)",
        ),
    ):
        tab = opened(lossy, sound)
        assert " ".join(tab.part("headline").inner_text().split()).endswith(headline)
        assert banner in tab.part("common").inner_text()
        tab.choose("beside", "sound")
        assert words in tab.part("most-apart").inner_text()
        first = tab.frame.locator(".ap-stage-name").first.inner_text()
        links = "over its own links" if "own" in words else "over perfect links"
        assert first.startswith(f"lossy · test accuracy {words.split(': ')[1].split(' |')[0]} {links} · ")


def test_a_median_of_an_even_count_lies_between_its_middle_two(opened: Opened) -> None:
    """In the reasons and in the chart alike."""
    entry = {"cosine": [0.1, 0.2, 0.4, 0.8] + [NAN] * 5}
    tab = opened(data({10: {"cosine": [0.0] * 4 + [NAN] * 5}, 20: entry}))
    tab.select("channel", 0)
    assert "; median of all channels 0.15" in tab.part("panel-why").inner_text(), (
        "of the means of both entries"
    )
    legend = tab.frame.locator(".ap-chart[data-metric=cosine] .ap-chart-legend").inner_text()
    assert "middle half 0.15" in " ".join(legend.split())


def test_of_what_no_channel_is_resolved_on_a_side_that_is_said(opened: Opened) -> None:
    """Below the one list; where both sides have some, or none is resolved at all, it is not."""
    for values, words in (
        ([0.5, 0.4, 0.01], "all 3 channels, 1 unresolved, none surely below 0: table"),
        ([-0.5, -0.4, 0.01], "all 3 channels, 1 unresolved, none surely above 0: table"),
        ([0.5, -0.4, 0.01], "all 3 channels, 1 unresolved: table"),
        ([0.01, 0.02, -0.01], "all 3 channels, 3 unresolved: table"),
    ):
        ends = interval("ablation_zero", values + [NAN] * 6, [0.1] * 9)
        tab = opened(data({20: LOGGED | ends}))
        assert tab.part("all").inner_text() == words


def test_a_number_of_one_seed_of_several_is_not_called_undefined(opened: Opened) -> None:
    members = [
        data({20: LOGGED | (interval("value", VALUES, HALVES) if not seed else {})}, f"s{seed}")
        for seed in range(3)
    ]
    tab = opened(run_over_seeds("s · all seeds", members))
    assert not tab.part("extremes").locator("li").count(), "nor is it the best of all seeds"
    told = strip(tab)
    assert (
        "no interval over seeds, each is defined in at most 1 of 3 seeds at step 20 (9 of 9 channels)" in told
    )
    assert "undefined" not in told


def test_a_long_command_is_unfolded_whole(opened: Opened) -> None:
    """The strip has one row beside the headline meanwhile, at 1280 px."""
    found = data({10: LOGGED})
    tab = opened(replace(found, path="runs/" + "a-long-name/" * 12))
    assert (tab.part("verdicts").bounding_box() or {})["height"] <= 30
    tab.push("how")
    popup = tab.part("verdicts").locator(".ap-popup")
    assert popup.inner_text() == f"antiphon evaluate runs/{'a-long-name/' * 12} --value"
    box = popup.bounding_box() or {}
    assert 0 <= box["x"] < box["x"] + box["width"] <= 1280
    assert popup.evaluate("node => node.scrollWidth <= node.clientWidth")
    tab.press("Escape")
    assert popup.is_hidden()


def test_beside_the_panel_two_runs_take_the_room_of_the_legend(opened: Opened) -> None:
    """Until it is asked for; without the panel it is there."""
    tab = opened(data(MEASURED, "a"), data(MEASURED, "b"))
    tab.choose("beside", "b")
    assert tab.part("legend").is_visible()
    tab.select("channel", 0)
    assert tab.part("legend").is_hidden()
    hosts = tab.frame.locator(".ap-stage-host")
    for host in (hosts.first, hosts.last):
        box = host.bounding_box() or {}
        assert (box["width"] > 380, box["height"] > 420) == (True, True)
    tab.push("toggle-rail")
    assert tab.part("legend").is_visible()
    tab.push("toggle-rail")
    assert tab.part("legend").is_hidden()


def test_a_hollow_line_that_drops_has_no_rings(opened: Opened) -> None:
    """Round dots that are hollow are rings: its dashes are longer than dots."""
    found = data(MEASURED)
    channels = [{**channel, "drop": 0.5} for channel in found.graph["channels"]]
    tab = opened(replace(found, graph={**found.graph, "channels": channels}))
    tab.choose("metric", "value")
    dashes = {tuple(round(length / dash[1], 2) for length in dash) for _, _, dash in tab.drawn()[0] if dash}
    assert dashes == {(0.02, 1.0), (0.67, 1.0)}


def test_a_matrix_grows_with_the_screen(opened: Opened) -> None:
    """Names of its groups, and cells, which are larger than the place of an agent."""
    found = data({10: LOGGED})
    agents = [{**found.graph["agents"][min(n, 5)], "name": str(n), "community": n // 100} for n in range(400)]
    channels = [{**found.graph["channels"][0], "name": "0->399", "from": 0, "to": 390}]
    rows = {key: Series(series.steps, series.values[:, :1]) for key, series in found.metrics.items()}
    made = replace(found, graph={**found.graph, "agents": agents, "channels": channels}, metrics=rows)
    sizes = []
    for width, height in ((1280, 800), (3840, 2160)):
        tab = opened(made)
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.idle()
        x, y = tab.point("cellPoint", 0)
        around = tab.pixels({"x": x - 12, "y": y - 12, "width": 24, "height": 24}).astype(int)
        away = np.abs(around - around[-1, -1]).max(2) > 40
        sizes.append(int(away.sum()))
    assert sizes[0] >= 9
    assert sizes[1] >= 30


def test_what_holds_of_a_run_of_two_has_its_name_once(opened: Opened) -> None:
    entry = {"cosine": [-0.1 * at - 0.2 for at in range(9)], "r2": [-3.0] * 9}
    found = data({5: entry, 10: entry}, "lossy")
    channels = [{**channel, "drop": 0.9} for channel in found.graph["channels"]]
    tab = opened(replace(found, graph={**found.graph, "channels": channels}), data(MEASURED, "good"))
    alone = tab.part("common").inner_text()
    assert ". " in alone
    tab.choose("beside", "good")
    assert tab.part("common").inner_text() == f"lossy: {alone}"


def at_fault(name: str = "run", **metrics: Sequence[float]) -> RunData:
    """Return an unmeasured run in which channel 7 learns too fast and 2 loses messages; 6 learns what 7 returns."""
    made = given(data(dict.fromkeys((10, 20), LOGGED | metrics), name), 9)
    predictor = made.graph["channels"][0]["predictor"]
    fast = ["its predictor's learning rate, 3, is far above its sender's", "a lower rate"]
    changes = {7: {"predictor": {**predictor, "fast": fast}}, 2: {"drop": 0.9}}
    channels = [{**channel, **changes.get(at, {})} for at, channel in enumerate(made.graph["channels"])]
    graph = {**made.graph, "channels": channels}
    logged = {key: series for key, series in made.metrics.items() if key[0] == "channel"}
    return replace(made, graph=graph, metrics=with_verdicts(logged, graph))


def test_what_is_at_fault_heads_the_worst_and_has_its_hint_before_anything_is_measured(
    opened: Opened,
) -> None:
    """Though its number is not resolved, or missing; what learns from it names it, in a seed and over all."""
    cosines = [0.5, 0.6, NAN, 0.7, 0.5, 0.4, 0.01, 0.9, 0.6]
    one, two = (
        at_fault(name, cosine=[value + by for value in cosines]) for name, by in (("s0", 0), ("s1", 0.01))
    )
    for run in (one, run_over_seeds("s · all seeds", [one, two])):
        tab = opened(run)
        tab.choose("metric", "cosine")
        rows = tab.part("extremes").locator("li").all_inner_texts()
        assert rows[0].startswith(NAMES[7])
        assert rows[0].endswith("learns too fast")
        assert rows[1].startswith(NAMES[2])
        assert rows[1].endswith("loses messages")
        assert [row for row in rows if row.startswith(NAMES[7])] == rows[:1], "it is none of the best"
        tab.select("channel", 7)
        assert "Try: a lower rate." in tab.part("cause").inner_text()
        tab.select("channel", 2)
        assert "a smaller link.drop" in tab.part("cause").inner_text()
        tab.select("channel", 6)
        assert f"Try: a lower rate of {NAMES[7]}." in tab.part("cause").inner_text()
        tab.select("channel", 0)
        assert not tab.part("cause").count()


def test_a_ratio_of_tiny_numbers_is_none_of_the_best_nor_what_a_broken_predictor_gains(
    opened: Opened,
) -> None:
    """Its line is hollow and grey; the others are in the order of their gains."""
    values = interval("value", [12.0, 0.5, 0.9, NAN, -8.0, 0.3, 5.0, 0.2, 0.1], [1.0, *[0.05] * 8])
    gains = [0.0001, 0.5, 0.3, 0.2, -0.0001, 0.1, 0.4, 0.6, 0.05]
    own = interval("own_gain", gains, [0.00005, *[0.01] * 8])
    signal = {"norm_ratio": [*[1.0] * 6, 1000.0, 1.0, 1.0], "r2": [*[0.5] * 6, -1e6, 0.5, 0.5]}
    tab = opened(data({20: LOGGED | values | own | signal | {"loss_zero": [1.6] * 9}}))
    rows = tab.part("extremes").locator("li").all_inner_texts()
    assert [row.split("\n")[0] for row in rows] == [NAMES[6], NAMES[7], NAMES[1], NAMES[2]]
    assert rows[0].endswith("its predictor is broken, broken predictor")
    assert f"1 of 9 with a broken predictor {NAMES[6]}" in strip(tab)
    assert min(tab.pixel(tab.point("edgePoint", 0))) > 190, "hollow"
    tab.select("channel", 0)
    assert "gain unresolved or tiny" in tab.part("lead").inner_text()


def test_what_was_changed_is_the_first_that_differs_and_colours_are_of_what_both_have(opened: Opened) -> None:
    same = {"cosine": [0.5] * 9}
    first, second = (
        data({20: MEASURED[20] | same}, "a"),
        data({20: LOGGED | {"cosine": [0.9, *[0.51] * 8]}}, "b"),
    )
    channels = [dict(channel) for channel in second.graph["channels"]]
    channels[6]["about"] = {**channels[6].get("about", {}), "gradient": "changed"}
    tab = opened(first, replace(second, graph={**second.graph, "channels": channels}))
    tab.choose("beside", "b")
    assert tab.part("metric").input_value() == "cosine"
    rows = tab.part("apart").locator(".ap-row-name").all_inner_texts()
    assert rows[:2] == [NAMES[6], NAMES[0]]


def test_of_a_full_strip_nothing_is_cut_off(opened: Opened) -> None:
    found = data(MEASURED | {20: MEASURED[20] | {"cosine": [-0.2 - at / 50 for at in range(9)]}})
    whole = zip(("value", "value_low", "value_high"), (-0.17, -0.3, -0.04), strict=True)
    of_run = {("run", m): Series(np.array([20]), np.array([[v]], np.float32)) for m, v in whole}
    tab = opened(replace(found, metrics=found.metrics | of_run))
    tab.page.set_viewport_size({"width": 1000, "height": 900})
    tab.idle()
    assert tab.part("verdicts").evaluate("node => node.scrollHeight <= node.clientHeight + 1")


def with_channels(found: RunData, **changes: Any) -> RunData:
    """Return a run whose channels have other settings."""
    graph = {**found.graph, "channels": [{**channel, **changes} for channel in found.graph["channels"]]}
    metrics = {key: series for key, series in found.metrics.items() if key[0] == "channel"}
    return replace(found, graph=graph, metrics=with_verdicts(metrics, graph))


def test_a_shut_gate_and_a_poor_stand_in_are_named_with_what_to_try(opened: Opened) -> None:
    """In the strip and in the panel, in the words of the terminal."""
    predictor = {"kind": "linear", "context": ["label"], "opens": "gradient.passes: auto"}
    fix = "gradient.passes: auto or coupling: locked, or train longer"
    shut = data({step: {**LOGGED, "gate": [0.0, *[0.5] * 8]} for step in (10, 20)})
    tab = opened(with_channels(shut, predictor=predictor))
    assert strip(tab).endswith(f"1 hardly any signal {NAMES[0]} try {fix}")
    tab.part("worst").click()
    told = tab.part("panel-why").inner_text()
    assert "its gate is 0" in told.lower()
    assert f"Try: {fix}." in told
    losses = {
        step: {"message_energy": [1.0] * 9, "si_loss": [0.1, 4.0, *[0.1] * 7]} for step in range(10, 60, 10)
    }
    lossy = with_channels(data(losses), size=4, drop=0.5, about={"input": "linear"})
    tab = opened(lossy)
    fix = "another rate of learning (input.optimiser.lr)"
    assert f"1 of 9 with a poor stand-in {NAMES[1]} try {fix}" in strip(tab)
    assert (
        "50 % of its messages are lost, and its synthetic input stands in for them"
        in tab.part("common").inner_text()
    )


def test_two_runs_are_coloured_by_that_in_which_they_differ_unless_a_metric_was_chosen(
    opened: Opened,
) -> None:
    def run(name: str, cosine: float) -> RunData:
        entry = {**LOGGED, "cosine": [cosine] * 9} | interval("ablation_zero", [0.2] * 9, [0.1] * 9)
        later = {**entry, "cosine": [cosine + 0.02] * 9}
        return data({10: entry, 20: later, 30: entry, 40: later}, name)

    tab = opened(run("sound", 0.8), run("poor", 0.2))
    assert tab.part("metric").input_value() == "ablation_zero"
    tab.choose("beside", "poor")
    tab.idle()
    assert tab.part("metric").input_value() == "cosine"
    assert "Channels differ most in cosine: 9 of 9" in tab.part("most-apart").inner_text()
    tab.choose("beside", "")
    assert tab.part("metric").input_value() == "ablation_zero"
    tab.choose("metric", "age")
    tab.choose("metric", "ablation_zero")
    tab.choose("beside", "poor")
    assert tab.part("metric").input_value() == "ablation_zero", "it was chosen"
    tab.push("colour-apart")
    assert tab.part("metric").input_value() == "cosine"
    assert not tab.frame.get_by_test_id("colour-apart").count()


def test_a_run_whose_signals_are_broken_opens_on_what_shows_it(opened: Opened) -> None:
    """A few broken predictors by their size, signals that follow nothing by the cosine; a cosine whose interval contains 0 is hollow."""
    worth = interval("ablation_zero", [0.2] * 9, [0.1] * 9)
    broken = {"norm_ratio": [50.0, *[1.0] * 8], "r2": [-500.0, *[0.5] * 8], "cosine": [NAN, *[0.5] * 8]}
    tab = opened(data({step: {**LOGGED, **broken, **worth} for step in (10, 20, 30, 40)}))
    assert tab.part("metric").input_value() == "norm_ratio"
    tab.choose("metric", "cosine")
    culprit, *others = tab.colours()
    assert culprit not in others
    assert "at fault without a number" in tab.part("legend").inner_text()
    rows = [[0.1, *[0.02] * 8], [-0.1, *[0.03] * 8]] * 2
    lost = {10 * at: {**LOGGED, "cosine": row, **worth} for at, row in enumerate(rows, 1)}
    tab = opened(data(lost))
    assert tab.part("metric").input_value() == "cosine"
    assert tab.part("extremes").locator(".ap-unresolved").all_inner_texts()[0].startswith(NAMES[0])


def test_the_worst_signals_are_those_against_the_gradient_whatever_is_lower(opened: Opened) -> None:
    """In the order of the strip; what is not resolved comes after them, and of the best after what surely follows."""
    rows = [
        [0.5, -0.3, -0.6, 0.4, 0.1, 0.1, -0.2, 0.01, 0.3],
        [0.5, -0.3, 0.1, 0.42, 0.1, 0.8, -0.2, 0.0, -0.1],
    ]
    tab = opened(data({10 * at: {**LOGGED, "cosine": row} for at, row in enumerate(rows * 2, 1)}))
    assert tab.part("metric").input_value() == "cosine"
    against = tab.frame.get_by_test_id("worst").all_inner_texts()
    assert against == [NAMES[1], NAMES[6]]
    told = [row.split("\n")[0] for row in tab.part("extremes").locator("li").all_inner_texts()]
    assert told[:3] == [*against, NAMES[2]]
    assert told[3:] == [NAMES[0], NAMES[3], NAMES[5]], "a mean of 0.45 is not resolved"
    heads = tab.part("extremes").locator("h2").all_inner_texts()
    assert all(head.endswith(", resolved first") for head in heads)


def test_the_ends_of_a_ratio_are_by_how_far_it_is_from_one(opened: Opened) -> None:
    """What is the furthest may be the highest; an interval ends at 0, the lowest that a ratio can be."""
    ratios = [1.0, 9.5, 0.5, 1.1, 0.9, 1.2, 2.0, 3.0, 1.05]
    tab = opened(data({10: {**LOGGED, "norm_ratio": ratios}}))
    tab.choose("metric", "norm_ratio")
    lists = tab.part("extremes")
    assert lists.locator("h2").all_inner_texts() == [
        "Furthest from 1: norm ratio now, no interval",
        "Nearest to 1: norm ratio now, no interval",
    ]
    texts = [" ".join(row.split()) for row in lists.locator("li").all_inner_texts()]
    assert texts[0] == f"{NAMES[1]} 9.5"
    assert texts[3] == f"{NAMES[0]} 1"
    rows = {10 * at: {**LOGGED, "norm_ratio": [10.0 * (at == 4) + 1, *[1.0] * 8]} for at in range(1, 5)}
    tab = opened(data(rows))
    tab.select("channel", 0)
    assert "3.5 [0, 11.5]" in tab.part("panel").inner_text()
    tab.choose("metric", "norm_ratio")
    assert f"{NAMES[0]}\n3.5 [0, 11.5]" in tab.part("extremes").inner_text()


def test_what_surely_follows_the_gradient_is_none_of_the_worst_of_few(opened: Opened) -> None:
    """And lists of a single run have the intervals by which they are resolved."""
    rest = [NAN] * 6
    rows = [[0.04, 0.5, 0.1, *rest], [0.06, 0.52, 0.9, *rest]] * 2
    tab = opened(data({10 * at: {**LOGGED, "cosine": row} for at, row in enumerate(rows, 1)}))
    tab.choose("metric", "cosine")
    lists = tab.part("extremes").locator("ol")
    worst, best = (" ".join(lists.nth(place).inner_text().split()) for place in (0, 1))
    assert worst.startswith(f"{NAMES[0]} 0.05 [")
    assert NAMES[1] not in worst
    assert f"{NAMES[1]} 0.51 [" in best


def test_a_command_that_is_of_one_of_two_runs_can_be_typed_beside_the_other(opened: Opened) -> None:
    found = data(MEASURED, "whole")
    lossy = [channel | {"drop": 0.6} for channel in found.graph["channels"]]
    lost = replace(found, name="lost", path="runs/lost", graph={**found.graph, "channels": lossy})
    tab = opened(found, lost)
    tab.choose("beside", "lost")
    assert "try antiphon evaluate runs/lost --links as_run for the cost" in tab.part("common").inner_text()
    told = tab.part("most-apart")
    assert "No channel differs beyond the intervals" in told.inner_text()
    cut = "all => all.map((one) => getComputedStyle(one).whiteSpace)"
    assert set(told.locator("p").evaluate_all(cut)) == {"normal"}, "what a comparison finds is not cut"


def test_a_run_opens_alike_whatever_was_shown_before(opened: Opened) -> None:
    """Also one whose signals follow nothing, after another was beside it."""
    worth = interval("ablation_zero", [0.2] * 9, [0.1] * 9)
    lost = [[0.1, *[0.02] * 8], [-0.1, *[0.03] * 8]] * 2
    poor = data({10 * at: {**LOGGED, "cosine": row, **worth} for at, row in enumerate(lost, 1)}, "poor")
    sound = data(
        {10 * at: {**LOGGED, "cosine": [0.8 + at / 100] * 9, **worth} for at in range(1, 5)}, "sound"
    )
    tab = opened(poor, sound)
    assert tab.part("metric").input_value() == "cosine"
    tab.choose("beside", "sound")
    tab.choose("beside", "")
    assert tab.part("metric").input_value() == "cosine"
    tab.choose("run", "sound")
    assert tab.part("metric").input_value() == "ablation_zero"
    tab.choose("beside", "poor")
    tab.choose("run", "poor")
    tab.choose("beside", "")
    assert tab.part("metric").input_value() == "cosine"


def test_a_measurement_of_a_few_of_the_seeds_does_not_hide_the_cosine_of_all(opened: Opened) -> None:
    rows = [[0.1 * place + by for place in range(9)] for by in (-0.01, 0.0, 0.01)]
    worth = interval("ablation_zero", [0.2] * 9, [0.1] * 9)
    for few in (1, 2, 3):
        members = [
            data({20: {**LOGGED, "cosine": row} | (worth if place < few else {})}, f"s{place}")
            for place, row in enumerate(rows)
        ]
        tab = opened(run_over_seeds("s · all seeds", members))
        assert tab.part("metric").input_value() == ("cosine" if few < 3 else "ablation_zero")
        assert tab.part("extremes").locator("li").count() == (6 if few < 3 else 3)


def test_where_the_worse_run_looks_better_that_is_said_and_the_strip_has_the_same_median(
    opened: Opened,
) -> None:
    def run(name: str, accuracy: float, *rows: list[float]) -> RunData:
        made = data({10 * at: {**LOGGED, "cosine": row} for at, row in enumerate(rows, 1)}, name)
        scores = np.full((1, len(made.graph["agents"])), accuracy, np.float32)
        logged = {("agent", "test_accuracy"): Series(np.array([10]), scores)}
        return replace(made, metrics=with_verdicts({**made.metrics, **logged}, made.graph))

    # the median of each entry, and of the means over the entries, differ
    lost = [[0.02, *[0.01] * 4, *[-0.2] * 4], [0.02, *[-0.2] * 4, *[0.01] * 4]] * 2
    poor, sound = run("poor", 0.5, *[[0.7] * 9] * 4), run("sound", 0.9, *[[0.4] * 9] * 4)
    tab = opened(poor, sound)
    tab.choose("beside", "sound")
    told = tab.part("most-apart").inner_text()
    says = (
        "The run with the worse score looks better by its median cosine: scores rank runs, cosine does not."
    )
    assert says in told
    tops = [tab.part(stage).locator(".ap-stage-host").bounding_box() for stage in ("stage", "stage-beside")]
    assert len({(top or {})["y"] for top in tops}) == 1, "the graphs stand side by side"
    tab = opened(run("lost", 0.5, *lost), sound)
    tab.choose("beside", "sound")
    assert says not in tab.part("most-apart").inner_text()
    assert "cosine −0.095 [" in tab.part("common").inner_text()
    assert "Medians: cosine −0.095 | 0.4" in tab.part("most-apart").inner_text()


def test_what_is_sure_is_said_before_what_is_not_resolved(opened: Opened) -> None:
    predictor = {
        "kind": "linear",
        "context": ["label"],
        "fast": ["its predictor's learning rate, 3, is far above its sender's", "a lower rate"],
    }
    rows = [[-0.5, *[at] * 8] for at in (0.3, -0.9, 0.2, -0.9)]
    tab = opened(
        with_channels(
            data({10 * at: {**LOGGED, "cosine": row} for at, row in enumerate(rows, 1)}), predictor=predictor
        )
    )
    told = tab.part("common").inner_text()
    assert 0 < told.index("far above its sender's") < told.index("not resolved")


def test_the_worst_and_the_best_are_in_sight_at_1280_pixels(opened: Opened) -> None:
    """Explanations are one line until they are clicked; beside a second run too."""
    entry = {**LOGGED, "cosine": [0.1 * at for at in range(9)]} | interval(
        "ablation_zero", [0.2] * 9, [0.1] * 9
    )
    tab = opened(*(data({10: entry, 20: entry, 30: entry}, name) for name in "ab"))
    tab.choose("metric", "cosine")
    says = tab.part("says")
    line = (says.bounding_box() or {})["height"]
    last = tab.part("extremes").locator("li").last.bounding_box() or {}
    assert last["y"] + last["height"] < 700
    says.click()
    assert (says.bounding_box() or {})["height"] > 2 * line
    tab.choose("beside", "b")
    first = tab.part("extremes").locator("li").nth(2).bounding_box() or {}
    assert first["y"] + first["height"] < 700


def test_labels_are_off_the_lines_of_levels(opened: Opened) -> None:
    """Beside an agent whose loop and channel take the room above and below."""
    about = {"network": "lstm 128"}
    agents = {"A": {"about": about}, "B": {"about": about, "period": 4}}
    ends = [("A", "B"), ("A", "A"), ("B", "B"), ("B", "A")]
    channels: list[runs.Channel] = [(one, other, "", {}) for one, other in ends]
    graph = {**graph_document(runs.description(agents, channels)), "by_timescale": True}
    tab = opened(RunData("run", graph, metrics={}, path="runs/pair"))
    drawn = tab.drawn()[1]
    levels = [y for text, _, y in drawn if text in ("every step", "every 4 steps")]
    told = [y for text, _, y in drawn if text.startswith("lstm")]
    assert len(levels) == len(told) == 2
    assert all(abs(y - level) > 5.5 for y in told for level in levels)


_SEEN = """(async () => {
  const [stage, beside, metric] = ["stage-beside", "beside", "metric"].map((id) => document.querySelector(`[data-testid=${id}]`));
  const seen = new Set();
  let under_way = true;
  const look = () => {
    if (!stage.hidden) seen.add(`${stage.querySelector(".ap-stage-name").textContent}: ${metric.value}`);
    if (under_way) requestAnimationFrame(look);
  };
  look();
  beside.value = a[0];
  beside.dispatchEvent(new Event("change"));
  await app.idle();
  under_way = false;
  return [...seen];
})()"""


def test_a_second_run_is_shown_once_it_is_whole(opened: Opened) -> None:
    """Its title and its colours do not change while its metrics come one by one."""
    worth = interval("ablation_zero", [0.2] * 9, [0.1] * 9)
    found = [
        data({10 * at: {**LOGGED, "cosine": [cosine + at / 100] * 9, **worth} for at in range(1, 5)}, name)
        for name, cosine in (("sound", 0.8), ("poor", 0.2))
    ]
    tab = opened(*found)
    assert tab.part("metric").input_value() == "ablation_zero"
    assert tab.ask(_SEEN, "poor") == ["poor · 9 matter, 1 stale, 2 silent: cosine"]
