"""Hints at the causes of bad signals, from a run's files: which stand there, of which channels, and in what order."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import antiphon
from antiphon.engine.metrics.description import graph_of
from antiphon.engine.warnings.advice import advice
from antiphon.scenarios.scenario_warnings import typed_names
from antiphon.telemetry import read_run
from antiphon.telemetry.history import of_shut_gates
from antiphon.telemetry.tab.judgements import judgements, run_sentences, with_command
from antiphon.telemetry.tab.seeds import run_over_seeds
from antiphon.telemetry.tab.verdict_series import opening_verdicts
from antiphon.telemetry.verdicts import bounds
from tests.kit.commands import Commands
from tests.kit.tab import REASONS
from tests.telemetry.tab.writing import graph, write

NAN = math.nan
LABEL = "its predictor is given returned, not label as with 3 of the other 5 channels"
BETTER = "those are better aligned on average; try gradient.context: label"


def hints(folder: Path, *entries: Mapping[str, Sequence[float]], **changes: Sequence[Any]) -> list[list[str]]:
    """Return the hints at the last of some log entries, by channel; a ring of three agents, in both directions, to the first."""
    agents = [
        {**graph()["agents"][0], "name": name, "role": role}
        for name, role in zip("abc", ("readout", "agent", "agent"), strict=True)
    ]
    ends = [(1, 0), (2, 0), (0, 1), (0, 2), (1, 2), (2, 1)]
    settings = {
        "delay": [1] * 6,
        "context": [["label"]] * 6,
        "to": [to for _, to in ends],
    } | changes
    channels = [
        {
            **graph()["channels"][0],
            "name": f"c{at}",
            "from": ends[at][0],
            "to": settings["to"][at],
            "delay": settings["delay"][at],
            "predictor": {
                "kind": "linear",
                "context": settings["context"][at],
                "scale": 0.5,
                **({} if settings["context"][at] else {"lacks": ["label"]}),
            },
        }
        for at in range(6)
    ]
    rows = {
        step: {f"antiphon/channel/{m}": list(v) for m, v in entry.items()}
        for step, entry in enumerate(entries, 1)
    }
    write(folder / "run", rows, document=graph(agents=agents, channels=channels))
    run = read_run(folder / "run")
    causes, flags = run.catalogue()["verdicts"]["causes"], run.metrics[REASONS].values[-1]
    return [
        [
            f"{hint.says}; try {hint.fix}".removesuffix("; try ")
            for c in causes[:-1]  # the last one stands where there is no other
            if not c["alone"]
            and (hint := c["texts"][c["of"][at] if c["of"] else 0])
            and (int(flag) & c["flag"] or not c["flag"])
        ]
        for at, flag in enumerate(flags)
    ]


def interval(measure: str, means: Sequence[float], halves: Sequence[float]) -> dict[str, list[float]]:
    """Return a measure of channels with its interval."""
    pairs = list(zip(means, halves, strict=True))
    low, high = bounds(measure)
    return {
        measure: [*means],
        low: [mean - half for mean, half in pairs],
        high: [mean + half for mean, half in pairs],
    }


def advised(
    folder: Path, entry: Mapping[str, Sequence[float]], channels: Sequence[Any]
) -> list[tuple[str, str]]:
    """Return the best hint at the cause and what to try, by channel of a readout."""
    agents = [{**graph("a")["agents"][0], "role": "readout"}]
    rows = {1: {f"antiphon/channel/{metric}": values for metric, values in entry.items()}}
    write(folder / "run", rows, document=graph(agents=agents, channels=channels))
    return [(one.cause, one.fix) for one in judgements(read_run(folder / "run"))]


def parameters(means: Sequence[float], half: float) -> dict[str, list[float]]:
    """Return parameter cosines with their intervals."""
    ends = {"": 0.0, "_low": -half, "_high": half}
    return {f"parameter_cosine{end}": [mean + by for mean in means] for end, by in ends.items()}


def test_what_channels_with_another_setting_do_better(tmp_path: Path) -> None:
    """A setting is a hint where those are better aligned: by more than chance if several are as far from a readout."""
    mixed = [["label"]] * 3 + [["returned"]] * 3
    cosines = [0.5, 0.51, 0.52, 0.1, 0.11, 0.12]
    found = hints(tmp_path / "a", {"cosine": cosines}, context=mixed)
    assert found == [[]] * 3 + [[f"{LABEL}; {BETTER}"]] * 3
    found = hints(tmp_path / "b", {"cosine": cosines}, context=mixed, to=[0] * 6)
    assert [one[:1] for one in found[3:]] == [
        [f"{LABEL}; {BETTER.replace('on average', 'by more than chance')}"]
    ] * 3
    dotted = [["label", "to.phase"]] * 3 + mixed[3:]
    found = hints(tmp_path / "e", {"cosine": cosines}, context=dotted)
    assert found[5] == [f"{LABEL}; {BETTER}".replace("label", "label, to.phase")]
    assert hints(tmp_path / "c", {"cosine": cosines[::-1]}, context=mixed)[3:] == [[]] * 3
    late = hints(tmp_path / "d", {"cosine": cosines}, delay=[1] * 5 + [4])
    assert late[5] == [
        "its delay in steps is 4, not 1 as with 5 of the other 5 channels; those are better aligned on average; try link.delay: 1"
    ]


def test_what_a_channels_own_interval_shows_comes_before_an_average_of_few_others(tmp_path: Path) -> None:
    """Which comes after what groups of channels show by more than chance."""
    own, average = "it does not move its sender along the true gradient", f"{LABEL}; {BETTER}"
    entry = parameters([0.5, 0.51, 0.52, 0.01, 0.4, 0.4], 0.05)
    mixed = [["label"]] * 3 + [["returned"]] * 3
    found = hints(tmp_path / "a", entry, context=mixed)[3]
    assert [found[0].startswith(own), found[1:]] == [True, [average]]
    entry = parameters([0.5, 0.51, 0.52, 0.01, 0.02, 0.03], 0.05)
    found = hints(tmp_path / "b", entry, context=mixed, to=[0] * 6)[3]
    assert [found[0], found[1].startswith(own)] == [
        average.replace("on average", "by more than chance"),
        True,
    ]


@pytest.mark.parametrize(("coupled", "told"), [({}, True), ({"target": "label"}, False)])
def test_of_a_channel_that_harms_a_fault_downstream_is_named(
    coupled: Mapping[str, str], told: bool, tmp_path: Path
) -> None:
    """At most two channels on, and only where its predictor learns what is returned."""
    predictor = {"kind": "linear", "context": ["label"], "scale": 1.0}
    says, fix = (
        "its predictor's learning rate, 1, is far above its sender's, 0.001",
        "a lower gradient.optimiser.lr (such as 0.001)",
    )
    predictors = [predictor | coupled, predictor, predictor, predictor | {"fast": [says, fix]}, predictor]
    channel = graph()["channels"][0]
    channels = [
        {**channel, "name": f"c{at}", "from": at, "to": at + 1, "predictor": of}
        for at, of in enumerate(predictors)
    ]
    agent = graph()["agents"][0]
    agents = [{**agent, "name": f"a{at}", "role": "agent" if at < 5 else "readout"} for at in range(6)]
    harming = interval("value", [-0.5] * 5, [0.1] * 5)
    rows = {1: {f"antiphon/channel/{metric}": values for metric, values in harming.items()}}
    write(tmp_path / "run", rows, document=graph(agents=agents, channels=channels))
    found = [(one.cause, one.fix) for one in judgements(read_run(tmp_path / "run"))]
    downstream = (
        "the gradient that it learns comes from downstream, where c3's predictor's learning rate, 1, is far above its sender's, 0.001",
        "a lower gradient.optimiser.lr (such as 0.001) of c3",
    )
    assert found[1:4] == [downstream, downstream, (says, fix)]
    assert downstream not in (found[0], found[4])
    channels[0]["to"] = 2  # now it is two channels from the fault
    write(tmp_path / "other", rows, document=graph(agents=agents, channels=channels))
    first, *_ = judgements(read_run(tmp_path / "other"))
    assert ((first.cause, first.fix) == downstream) == told


def test_without_any_verdict_a_fault_and_what_lies_before_it_have_their_hint(tmp_path: Path) -> None:
    """In each seed and over all: a cause that the run's settings name needs no measurement, and a poor signal before it has it as its own."""
    predictor = {"kind": "linear", "context": ["label"], "scale": 1.0}
    fast = ["its predictor's learning rate, 3, is far above its sender's", "a lower rate"]
    agent, channel = graph()["agents"][0], graph()["channels"][0]
    agents = [{**agent, "name": f"a{at}", "role": "agent" if at < 5 else "readout"} for at in range(6)]
    channels = [
        {**channel, "name": f"c{at}", "from": at, "to": at + 1, "predictor": predictor} for at in range(5)
    ]
    channels[3] = {**channels[3], "predictor": predictor | {"fast": fast}}
    seeds = []
    for seed in range(2):
        entry = {"antiphon/channel/cosine": [0.5, 0.6, 0.02 + seed / 100, NAN, 0.4]}
        write(tmp_path / f"s{seed}", {1: entry}, document=graph(agents=agents, channels=channels, seed=seed))
        seeds.append(read_run(tmp_path / f"s{seed}"))
    for run in (*seeds, run_over_seeds("all", seeds)):
        found = judgements(run)
        assert [(one.verdicts, one.named) for one in found] == [([], at == 3) for at in range(5)]
        assert [one.fix for one in found] == ["", "", "a lower rate of c3", "a lower rate", ""]
        assert found[2].cause.startswith("the gradient that it learns comes from downstream, where c3's")
        assert run.catalogue()["verdicts"]["culprits"] == [(3, "learns too fast")]


def test_the_cost_of_losses_over_seeds_says_of_which_seed_it_is(tmp_path: Path) -> None:
    """Where only some were evaluated over their own links."""
    made = [{**graph()["channels"][0], "name": name, "from": 0, "to": 0, "drop": 0.9} for name in "ab"]
    seeds = []
    for seed in range(2):
        rows = {"antiphon/channel/age": [1.0, 1.0], "antiphon/agent/test_accuracy": [0.9]}
        rows |= {} if seed else {"antiphon/agent/test_accuracy_as_run": [0.5]}
        agents = [{**graph("a")["agents"][0], "role": "readout"}]
        write(tmp_path / f"s{seed}", {1: rows}, document=graph(agents=agents, channels=made, seed=seed))
        seeds.append(read_run(tmp_path / f"s{seed}"))
    told, *_ = run_sentences(run_over_seeds("all", seeds))
    assert "(test accuracy over the run's links 50 % (s0 alone), over perfect ones 90 %)" in told


def test_what_a_broken_predictor_or_a_tiny_gain_is_worth_is_doubted(tmp_path: Path) -> None:
    """A large prediction alone is not broken where its scale makes up for it, nor is a poor fit alone."""
    signal = {"norm_ratio": [1000, 1000, 1, 1, 1], "r2": [-1e6, -1e6, -500, 0.5, 0.5]}
    gains = interval("own_gain", [0.5, 0.5, 0.5, 0.001, 0.01], [0.1, 0.1, 0.1, 0.0005, 0.02])
    worth = interval("value", [2.0, NAN, 0.5, 12.0, -3.0], [0.5, NAN, 0.2, 3.0, 0.5])
    made = [{"name": name, "from": 0, "to": 0} for name in "abcde"]
    entry = signal | gains | worth | {"loss_zero": [1.6] * 5}
    advised(tmp_path / "one", entry, made)
    found = judgements(read_run(tmp_path / "one" / "run"))
    broken, tiny = "its predictor is broken", "gain unresolved or tiny"
    assert [one.verdicts for one in found] == [
        [f"helps ({broken})", "broken predictor"],
        [f"better than none ({broken})", "broken predictor"],
        ["helps"],
        [f"helps ({tiny})"],
        [f"harms ({tiny})"],
    ]
    assert [one.bad for one in found] == [True, True, False, False, False]
    made[1] = {**made[1], "predictor": {"kind": "linear", "context": ["label"], "scale": 0.001}}
    advised(tmp_path / "scaled", entry, made)
    assert judgements(read_run(tmp_path / "scaled" / "run"))[1].verdicts == ["better than none"]


def test_of_measures_of_as_many_channels_the_one_measured_last_says_which_step_is_told(
    tmp_path: Path,
) -> None:
    """The tab opens there, so the other verdicts and numbers of a report's rows are of that step too."""
    entries: dict[int, dict[str, list[float]]] = {
        10: interval("ablation_zero", [-0.5] * 2, [0.1] * 2) | {"message_energy": [1, 0.0001]},
        20: interval("ablation_mean", [-0.5] * 2, [0.1] * 2) | {"message_energy": [1, 1]},
    }
    rows = {
        step: {f"antiphon/channel/{metric}": values for metric, values in entry.items()}
        for step, entry in entries.items()
    }
    write(tmp_path / "run", rows, document=graph())
    run = read_run(tmp_path / "run")
    opens = opening_verdicts(run)
    assert opens is not None
    assert (opens.measure, opens.step, opens.counts["silent"]) == ("ablation_mean", 20, 0)
    _, second = judgements(run)
    assert second.verdicts == ["misleads", "misleads"]  # by one measure and the other


def test_a_predictor_without_context_is_the_first_hint(tmp_path: Path) -> None:
    """Before all others, also where the predictors of a run are alike; with a context it is gone."""
    bare = "its predictor has no context; try gradient.context: label, or local"
    entry = {"norm_ratio": [1, 1, 1, 1, 1, 6]}
    found = hints(tmp_path / "a", entry, entry, context=[[]] * 6)
    assert found[:5] == [[bare]] * 5
    assert found[5][0] == bare
    assert found[5][1].startswith("it is {norm_ratio} times as large")
    assert bare not in hints(tmp_path / "b", entry, entry)[5]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"norm_ratio": [1, 1, 1, 1, 1, 6]}] * 2, "it is {norm_ratio} times as large"),
        ([{"norm_ratio": [1, 1, 1, 1, 1, 3]}] * 2, ""),  # its scale is 0.5
        ([{"norm_ratio": [1, 1, 1, 1, 1, 6]}, {"norm_ratio": [1, 1, 1, 1, 1, 0.1]}], ""),
        ([{"r2": [0.5] * 5 + [-1]}] * 2, "it predicts worse than the mean"),
        ([{"cosine": [0.5] * 5 + [0], "true_cosine": [0.5] * 6}], "single batches mislead"),
        (
            [{"sg_learning_rate": [0.1] * 6}, {"sg_learning_rate": [0.1] * 5 + [0.009]}],
            "its predictor's learning rate",
        ),
        ([{"age": [1] * 5 + [3]}], "its newest message is {age} steps old"),
        ([parameters([0.3] * 5 + [0.02], 0.05)], "it does not move its sender"),
        ([parameters([0.02] * 6, 0.05)], ""),
        ([parameters([0.5] * 5 + [0.45], 0.5)], ""),  # its interval has 0, and most of what follows
        ([parameters([0.5] * 5 + [0.02], 0.2)], ""),
        ([{"age": [1, 1, 1, 1, 1, NAN]}], ""),
    ],
)
def test_what_its_metrics_say(
    entries: Sequence[Mapping[str, Sequence[float]]], words: str, tmp_path: Path
) -> None:
    *others, last = hints(tmp_path, *entries)
    assert others == [[]] * 5
    assert [text.startswith(words) for text in last] == ([True] if words else [])


def test_a_graph_without_settings_of_predictors_gives_no_hint_at_them(tmp_path: Path) -> None:
    """Earlier versions wrote none. Present graphs have kind, context and scale as fields."""
    old = graph("ab")
    rows = {1: {"antiphon/channel/cosine": [0.5, 0.0], "antiphon/channel/norm_ratio": [1.0, 9.0]}}
    write(tmp_path / "run", rows | {2: rows[1]}, document=old)
    assert not read_run(tmp_path / "run").metrics[REASONS].values.any()
    scenario = antiphon.load("digits-mlp").resolve(values={"depth": 3, "width": 8, "steps": 1})
    with antiphon.Simulation(scenario, logdir=tmp_path / "new") as simulation:
        simulation.run()
    channel = read_run(tmp_path / "new").graph["channels"][0]
    assert channel["predictor"] == {"kind": "linear", "context": ["label"], "scale": 1.0}


def test_a_predictor_far_faster_than_its_sender_is_the_first_hint_in_the_words_of_the_command(
    tmp_path: Path,
) -> None:
    scenario = antiphon.load("digits-mlp").resolve(values={"depth": 3, "width": 8, "steps": 2})
    predictor = scenario.training.optimiser.model_copy(update={"lr": 0.3})
    scenario = scenario.model_copy(
        update={"training": scenario.training.model_copy(update={"predictor": predictor})}
    )
    (warning,) = [line for line in advice(scenario) if "far above" in line]
    with antiphon.Simulation(scenario, logdir=tmp_path / "run") as simulation:
        simulation.run()
    first = read_run(tmp_path / "run").catalogue()["verdicts"]["causes"][0]
    says = "its predictor's learning rate, 0.3, is far above its sender's, 0.001"
    assert first["texts"] == [(says, "a lower training.predictor.lr (such as 0.001)")]
    assert first["of"] == []
    assert warning.endswith(f": {says}; try a lower training.predictor.lr (such as 0.001)")


def test_losses_for_which_nothing_stands_in_are_a_hint_whatever_the_verdict(tmp_path: Path) -> None:
    """In the words of the report and of the tab; few losses are none; of what a synthetic input replaces it is said too."""
    ends = interval("ablation_zero", [-0.2, 0.0, 0.2, *[0.2] * 4], [0.1] * 7)
    lossy = {"from": 0, "to": 0, "drop": 0.6}
    made = [
        {**lossy, "name": "misleads"},
        {**lossy, "name": "unresolved", "predictor": {"kind": "linear", "context": ["label"]}},
        {**lossy, "name": "matters"},
        *({"from": 0, "to": 0, "name": name} for name in "abcd"),
    ]
    says = "60 % of its messages are lost, and the last one that arrived is read instead (what that costs is not logged)"
    assert (
        advised(tmp_path / "a", ends, made)
        == [
            (
                says,
                "evaluate --links as_run for the cost, or a smaller link.drop (a synthetic input that learns little may cost more)",
            )
        ]
        * 3
        + [("", "")] * 4
    )
    made[0]["drop"], made[1]["about"] = 0.2, {"input": "mlp"}
    made[2]["drop"] = 0.2
    says = "60 % of its messages are lost, and its synthetic input stands in for them (what that costs is not logged)"
    fix = "evaluate --links as_run for the cost, or a smaller link.drop"
    assert advised(tmp_path / "b", ends, made) == [("", ""), (says, fix), *[("", "")] * 5]
    made = [{**lossy, "name": name} for name in "abcdefg"]
    assert advised(tmp_path / "c", ends, made) == [("", "")] * 7, "it is said once for the run"


def test_a_setting_that_most_channels_have_is_said_once_for_the_run(tmp_path: Path) -> None:
    """Also where they matter, and in how many it is so; a single channel is named, and has it as a hint whatever its verdict."""
    fast = "its predictor's learning rate, 3, is far above its sender's, 0.001"
    predictor = {"kind": "linear", "context": ["label"], "fast": [fast, "a lower rate"]}
    quick = {"from": 0, "to": 0, "predictor": predictor}
    matters = interval("ablation_zero", [0.2] * 3, [0.1] * 3)

    def common(folder: Path, *channels: Mapping[str, Any], own: str = "") -> object:
        first = (own, "a lower rate" if own else "")
        assert advised(folder, matters, channels) == [first, ("", ""), ("", "")]
        return read_run(folder / "run").catalogue()["verdicts"]["common"]

    every = [{**quick, "name": name} for name in "abc"]
    slow = {"name": "c", "from": 0, "to": 0}
    assert common(tmp_path / "a", *every) == [f"each of 3 channels: {fast}; try a lower rate"]
    assert common(tmp_path / "b", *every[:2], slow) == [f"2 of 3 channels: {fast}; try a lower rate"]
    alone = common(tmp_path / "c", every[0], {**slow, "name": "b"}, slow, own=fast)
    assert alone == [f"a: {fast}; try a lower rate"]


def test_the_faults_of_few_channels_are_named_by_cause(tmp_path: Path) -> None:
    """A context that half of the channels do without is no fault of a few."""
    predictor = {"kind": "linear", "context": ["label"]}
    bare = {"kind": "linear", "context": [], "lacks": ["label"]}
    made = [{"name": name, "from": 0, "to": 0, "predictor": predictor} for name in "abcde"]
    made[0] = {**made[0], "predictor": bare}
    made[1] = {**made[1], "drop": 0.8}
    matters = interval("ablation_zero", [0.2] * 5, [0.1] * 5)

    def told(folder: Path) -> object:
        advised(folder, matters, made)
        return read_run(folder / "run").catalogue()["verdicts"]["common"]

    lost = "b: 80 % of its messages are lost, and the last one that arrived is read instead (what that costs is not logged); try evaluate --links as_run for the cost, or a smaller link.drop (a synthetic input that learns little may cost more)"
    bares = "a: its predictor has no context; try gradient.context: label, or local"
    assert told(tmp_path / "a") == [bares, lost]
    made[2] = made[3] = {**made[0]}
    assert told(tmp_path / "b") == [lost]


def test_a_rate_ten_times_the_senders_is_named_where_cosines_are_poor(tmp_path: Path) -> None:
    """In the tab, which has the cosines of each step, as in the report and the terminal."""
    values = {"agents": 6, "readouts": 1, "sg_lr": 0.01, "steps": 2}
    template = antiphon.load("corporation")
    graph = graph_of(template.resolve(values=values), typed_names(template))
    predictor = next(edge["predictor"] for *_, edge in graph.edges(data=True))
    quick = predictor["fast_if_poor"]
    assert quick == (
        "its predictor's learning rate, 0.01, is 10 times its sender's, 0.001",
        "a lower sg_lr (such as 0.001)",
    )
    made = [{"name": name, "from": 0, "to": 0, "predictor": predictor} for name in "ab"]
    says = (
        f"2 of 2 channels: {quick[0]}, and the median cosine is below 0.1; try a lower sg_lr (such as 0.001)"
    )
    for cosine, told in ((0.02, [says]), (0.4, [])):
        folder = tmp_path / str(cosine)
        advised(folder, {"cosine": [cosine] * 2}, made)
        run = read_run(folder / "run")
        assert run_sentences(run) == told
        assert run.catalogue()["verdicts"]["if_poor"] == [says]
        harmed = {"cosine": [cosine] * 2} | interval("value", [-0.2] * 2, [0.1] * 2)
        own = advised(folder / "harmed", harmed, made)
        assert [fix for _, fix in own] == ["" if told else "local, or detached"] * 2, "the run's stands alone"
        found = [one.of_run for one in judgements(read_run(folder / "harmed" / "run"))]
        assert found == [(f"{quick[0]}, and the median cosine is below 0.1", quick[1]) if told else None] * 2
    one, other = (
        {**made[0], "predictor": {**predictor, "fast_if_poor": ("it is", rate)}} for rate in ("a", "b")
    )
    slow = {**made[0], "predictor": {"kind": "linear", "context": ["label"]}}
    advised(tmp_path / "few", {"cosine": [0.02] * 3}, [one, slow, slow])
    assert run_sentences(read_run(tmp_path / "few" / "run")) == [], "one of three is not most"
    advised(tmp_path / "half", {"cosine": [0.02] * 2}, [one, other])
    assert len(run_sentences(read_run(tmp_path / "half" / "run"))) == 2


@pytest.mark.parametrize(
    ("rate", "grown", "losses", "said"),
    [
        (0.3, 12.0, (3.1, 2.3), True),
        (0.003, 12.0, (3.1, 2.3), False),
        (0.3, 1.3, (2.3, 1.9), False),
        (0.3, 12.0, (2.3, 0.4), False),
    ],
)
def test_a_learning_rate_of_all_agents_is_named_before_what_their_channels_have(
    tmp_path: Path, rate: float, grown: float, losses: tuple[float, float], said: bool
) -> None:
    """No channel differs from the others then; where the loss falls, or the parameters stay small, the rate is no fault."""
    names = {"learning_rate": rate, "parameter_norm": 8.0, "updates": 100.0}
    first, newest = (
        {f"antiphon/agent/{name}": [value, value] for name, value in entry.items()}
        for entry in (names | {"loss": losses[0]}, names | {"parameter_norm": 8 * grown, "loss": losses[1]})
    )
    signals = {"cosine": [0.0] * 2, "norm_ratio": [20.0] * 2, "r2": [-200.0] * 2}
    signals |= {"cosine_low": [-0.1] * 2, "cosine_high": [0.05] * 2}
    metrics = {f"antiphon/channel/{metric}": values for metric, values in signals.items()}
    typed = {"typed": {"training.optimiser.lr": "lr"}}
    made = [{**one, **typed, "predictor": {"context": ["label"]}} for one in graph()["channels"]]
    rows = {step: metrics | (first if step == 1 else newest) for step in range(1, 5)}
    write(tmp_path / "run", rows, document=graph(channels=made))
    run = read_run(tmp_path / "run")
    says = (
        "the agents' learning rate, 0.3, is too high: it made their parameters 12 times as large as at the first log entry, and the "
        "readouts' loss has not halved since (3.1, now 2.3); try a lower lr (such as 0.003)"
    )
    assert [line for line in run_sentences(run) if "learning rate" in line] == [says] * said
    verdicts = run.catalogue()["verdicts"]
    assert verdicts["first"] == [says] * said
    assert verdicts["common"] == []
    assert not said or run_sentences(run)[0] == says, "before the signals that follow from it"
    assert [one.fix == "" for one in judgements(run)] == [said] * 2
    hint = next(one.of_run for one in judgements(run))
    assert (hint is not None and says.startswith(hint.says)) is said


@pytest.mark.parametrize(
    ("values", "slow"),
    [
        ({"lr": 0.003, "sg_lr": 3e-6}, "a higher sg_lr (such as 0.001)"),
        ({"lr": 0.3}, ""),
        ({"lr": 1e-4, "sg_lr": 3e-6}, ""),
        ({}, ""),
    ],
)
def test_a_predictor_that_hardly_learns_is_named_before_and_after_a_run(
    tmp_path: Path, values: dict[str, float], slow: str
) -> None:
    """Unless it is its sender that learns too fast, or as slowly."""
    template = antiphon.load("corporation")
    scenario = template.resolve(values={"agents": 6, "readouts": 1, "steps": 20} | values)
    predictor = next(
        edge["predictor"] for *_, edge in graph_of(scenario, typed_names(template)).edges(data=True)
    )
    clause = "its predictor hardly learns: its learning rate, 3e-06, is far below its sender's, 0.003; try a higher"
    assert predictor.get("slow", ["", ""])[1] == slow
    assert any(clause in line for line in advice(scenario)) is bool(slow)
    made = [{"name": name, "from": 0, "to": 0, "predictor": predictor} for name in "ab"]
    advised(tmp_path, {"cosine": [0.9] * 2}, made)
    said = [f"each of 2 channels: {clause} sg_lr (such as 0.001)"] if slow else []
    assert run_sentences(read_run(tmp_path / "run")) == said


@pytest.mark.parametrize(("updates", "early"), [(12.0, True), (100.0, False)])
def test_a_predictor_is_not_called_broken_after_a_few_steps_without_a_doubt(
    tmp_path: Path, updates: float, early: bool
) -> None:
    """What it has learned by then is no evidence, so that nothing is advised but to go on."""
    entry = {"antiphon/channel/norm_ratio": [20.0, 20.0], "antiphon/channel/r2": [-200.0, -200.0]}
    made = [{**one, "predictor": {"context": ["label"]}} for one in graph()["channels"]]
    rows = {12: {**entry, "antiphon/agent/updates": [updates, 1.0]}}
    write(tmp_path / "run", rows, document=graph(channels=made))
    run, too_early = read_run(tmp_path / "run"), "after 12 steps: too early"
    one, _ = judgements(run)
    assert one.verdicts == [f"broken predictor ({too_early})" if early else "broken predictor"]
    assert (one.cause, one.fix, one.bad) == (
        (too_early, "more steps", False) if early else (one.cause, "local, or detached", True)
    )
    (word,) = (word for word in run.catalogue()["verdicts"]["words"] if word["name"] == "broken")
    assert word["counted"] == f"with a broken predictor{f' ({too_early})' * early}"


def test_what_is_said_of_the_run_comes_before_another_fault_of_its_settings(tmp_path: Path) -> None:
    bare = {"kind": "linear", "context": [], "lacks": ["label"]}
    made = [{"name": name, "from": 0, "to": 0, "predictor": bare, "drop": 0.9} for name in "ab"]
    advised(tmp_path, interval("value", [-0.2] * 2, [0.1] * 2), made)
    run = read_run(tmp_path / "run")
    says = "90 % of its messages are lost, and the last one that arrived is read instead (what that costs is not logged)"
    assert run_sentences(run) == [
        f"each of 2 channels: {says}; try evaluate --links as_run for the cost, or a smaller link.drop (a synthetic input that learns little may cost more)"
    ]
    assert [one.of_run for one in judgements(run)] == [
        (
            says,
            "evaluate --links as_run for the cost, or a smaller link.drop (a synthetic input that learns little may cost more)",
        )
    ] * 2
    first, second, *_ = run.catalogue()["verdicts"]["causes"]
    assert [first["texts"][0].says, second["texts"][0].says] == [says, "its predictor has no context"]


def test_a_rate_that_a_parameter_sets_is_named_by_it(tmp_path: Path) -> None:
    """As the run's command takes it; the key is refused with its name."""
    template = antiphon.load("corporation")
    scenario = template.resolve(values={"agents": 6, "readouts": 1, "sg_lr": 0.5, "steps": 2})
    graph = graph_of(scenario, typed_names(template))
    fixes = {edge["predictor"]["fast"][1] for *_, edge in graph.edges(data=True)}
    assert fixes == {"a lower sg_lr (such as 0.001)"}
    with pytest.raises(antiphon.ScenarioError, match="its parameter 'sg_lr' sets that: write sg_lr=…"):
        template.resolve(values={"training.predictor.lr": 0.1})


GUESSED = """\
scenario: guessed
parameters:
  lr: {default: 0.001}
  critic_lr: {default: 0.05}
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [image]}
  b: {objective: {kind: classification, target: label}, optimiser: {kind: adam, lr: $critic_lr}}
channels:
- {from: a, to: b, size: 4, gradient: {kind: linear, context: [label]}}
training: {steps: 4, optimiser: {kind: adam, lr: $lr}, predictor: {kind: adam, lr: 0.05}}
"""
"""A rate of predictors that no parameter sets, though one has its number."""


@pytest.mark.parametrize(
    ("rate", "lower"),
    [
        ("training: {steps: 4, optimiser: {kind: adam, lr: $lr}, predictor: {kind: adam, lr: 0.05}}", None),
        (
            "training: {steps: 4, optimiser: {kind: adam, lr: $lr}, predictor: {kind: adam, lr: $critic_lr}}",
            "critic_lr",
        ),
        ("training: {steps: 4, optimizer: {lr: $lr}, predictor: {lr: $critic_lr}}", "critic_lr"),
    ],
)
def test_advice_names_the_parameter_that_the_file_has_there(
    here: Path, cli: Commands, rate: str, lower: str | None
) -> None:
    """In the checks, the warnings of a run, and its graph."""
    *others, _ = GUESSED.splitlines()
    (here / "guessed.yaml").write_text("\n".join([*others, rate]))
    fix = f"try a lower {lower or 'training.predictor.lr'} (such as 0.001)"
    ((line, _),) = antiphon.check("guessed.yaml").warnings.items()
    assert line.endswith(fix)
    cli("run guessed.yaml --name it --logdir .")
    facts = json.loads((here / "it/run.json").read_text())
    assert [line for line in facts["warnings"] if fix in line]
    (common,) = read_run(here / "it").catalogue()["verdicts"]["common"]
    assert common.endswith(fix)
    assert read_run(here / "it").graph["channels"][0]["predictor"]["fast"][1] == fix.removeprefix("try ")


def test_a_rate_of_a_channels_own_is_named_by_its_parameter(here: Path) -> None:
    own = GUESSED.replace("context: [label]}", "context: [label], optimiser: {kind: adam, lr: $critic_lr}}")
    (here / "own.yaml").write_text(own.replace(", predictor: {kind: adam, lr: 0.05}", ""))
    ((line, _),) = antiphon.check("own.yaml").warnings.items()
    assert line.endswith("try a lower critic_lr (such as 0.001)")


def test_one_of_many_channels_that_misleads_may_be_chance(tmp_path: Path) -> None:
    """As many as lie on one side of 0 by chance; of few channels, and of more than those, none is doubted."""
    for count, bad, words in (
        *((30, 1, True), (30, 2, False), (10, 1, False)),
        *((19, 1, False), (20, 1, True), (100, 3, True)),
    ):
        made = [{"name": f"c{at}", "from": 0, "to": 0} for at in range(count)]
        ends = interval("ablation_zero", [-0.2] * bad + [0.2] * (count - bad), [0.1] * count)
        advised(tmp_path / f"{count}-{bad}", ends, made)
        first, *_, last = judgements(read_run(tmp_path / f"{count}-{bad}" / "run"))
        assert last.verdicts == ["matters"]
        assert first.verdicts == ["misleads (may be chance)" if words else "misleads"]
        assert first.bad is not words
        chance = read_run(tmp_path / f"{count}-{bad}" / "run").catalogue()["verdicts"]["chance"]
        assert (bad <= chance["most"][count]) is words, "the tab has the same rule"
        ends = interval("ablation_zero", [0.2] * bad + [0.0] * (count - bad), [0.1] * count)
        advised(tmp_path / f"matters-{count}-{bad}", ends, made)
        first, *_, last = judgements(read_run(tmp_path / f"matters-{count}-{bad}" / "run"))
        expected = bad <= chance["most"][count]
        assert first.verdicts == ["matters (may be chance)" if expected else "matters"]
        assert last.verdicts == ["unresolved"]


def test_where_nothing_tells_harmful_channels_apart_local_or_detached_is_left(tmp_path: Path) -> None:
    ends = interval("value", [-0.2] * 3, [0.1] * 3)
    predictor = {"kind": "linear", "context": ["label"]}
    made = [{"name": name, "from": 0, "to": 0, "predictor": predictor} for name in ("one", "two")]
    made.append({**made[0], "name": "three", "predictor": predictor | {"target": "label"}})
    says = "no setting and no metric in which it differs from the other channels names it"
    assert advised(tmp_path, ends, made) == [(says, "local, or detached")] * 2 + [
        (says, "coupling: detached")
    ]


def test_a_receiver_from_which_nothing_leads_on_is_a_hint(tmp_path: Path) -> None:
    way = (
        "c, 2 channels from a readout, sends only back to b: little of the readouts' loss returns from there"
    )
    found = hints(tmp_path, {"age": [1] * 6}, to=[0, 1, 1, 1, 2, 1])
    assert found == [[], [], [], [], [way], []]


LOST = """\
scenario: lost
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [image]}
  b: {observes: [image]}
  c: {objective: {kind: classification, target: label}}
channels:
  - {from: a, to: c, size: 8, link: {drop: 0.6}, gradient: {context: [label]}}
  - {from: b, to: c, size: 8, link: {drop: 0.6}, gradient: {context: [label]}}
training: {steps: 12}
"""


@pytest.mark.long
def test_what_may_be_the_cause_is_printed_in_the_words_of_the_report(here: Path, cli: Commands) -> None:
    lost = cli.trained(LOST)
    printed = cli("evaluate", lost, "--value --horizon 10 --repeats 2")
    (sentence,) = read_run(lost).catalogue()["verdicts"]["common"]
    assert sentence.startswith(
        "each of 2 channels: 60 % of its messages are lost, and the last one that arrived is read instead (what that costs is not logged)"
    )
    # with the whole command, whose path may be broken over lines
    assert "".join(printed.split()).endswith(
        "".join(with_command(read_run(lost.resolve()), sentence).split())
    )
    assert " ".join(printed.split()).count("are lost") == 1


@pytest.mark.long
def test_once_the_cost_of_losses_is_measured_it_stands_in_place_of_the_advice(
    here: Path, cli: Commands
) -> None:
    """With the scores over both kinds of links; the command that was advised does not advise itself."""
    lost = cli.trained(LOST)
    advice = "try evaluate --links as_run for the cost, or a smaller link.drop (a synthetic input that learns little may cost more)"
    told = "".join(cli("evaluate", lost, "--ablate zero --examples 40").split())
    assert told.endswith("".join(with_command(read_run(lost.resolve()), advice).split()))
    told = " ".join(cli("evaluate", lost, "--links as_run --ablate zero --examples 40").split())
    assert "--links as_run" not in told
    found = read_run(lost)
    (sentence,) = found.catalogue()["verdicts"]["common"]
    assert run_sentences(found) == [sentence]
    own, perfect = (
        float(found.metrics["headline", metric].values[-1, 0])
        for metric in ("test_accuracy_as_run", "test_accuracy")
    )
    assert own != perfect
    cost = f"test accuracy over the run's links {100 * own:.3g} %, over perfect ones {100 * perfect:.3g} %"
    assert sentence == (
        f"each of 2 channels: 60 % of its messages are lost, and the last one that arrived is read instead ({cost}); try a smaller link.drop (a synthetic input that learns little may cost more)"
    )
    assert told.endswith(sentence)
    cli("resume", lost, "--steps 30")  # it ends with a score over perfect links alone
    (sentence,) = read_run(lost).catalogue()["verdicts"]["common"]
    assert sentence.endswith(advice), "scores of two steps are of two runs"


def test_hints_name_settings_as_the_run_takes_them(tmp_path: Path) -> None:
    """By the parameters of its template, in all hints alike."""
    template = antiphon.load("corporation")
    values = {"agents": 6, "readouts": 1, "sg_lr": 0.0005, "drop": 0.6}
    made = template.resolve(values=values | {"steps": 2})
    edges = graph_of(made, typed_names(template)).edges(data=True)
    assert {edge["typed"]["training.predictor.lr"] for *_, edge in edges} == {"sg_lr"}
    assert {edge["typed"]["link.drop"] for *_, edge in edges} == {"drop"}
    typed = {"training.predictor.lr": "sg_lr", "link.drop": "drop"}
    channel = {"name": "one", "from": 0, "to": 0, "predictor": {"kind": "linear", "context": ["label"]}}
    entry = interval("value", [-0.2], [0.1]) | {"true_cosine": [0.05], "cosine_ceiling": [0.5]}
    ((_, fix),) = advised(tmp_path / "a", entry, [channel | {"typed": typed}])
    assert fix == "more steps, or another rate of learning (sg_lr)"
    twice = {metric: values * 2 for metric, values in entry.items()}
    advised(tmp_path / "b", twice, [{**channel, "name": name, "typed": typed, "drop": 0.6} for name in "ab"])
    (sentence,) = run_sentences(read_run(tmp_path / "b" / "run"))
    assert sentence.endswith("or a smaller drop (a synthetic input that learns little may cost more)")


def test_a_synthetic_input_that_hardly_knows_the_message_is_a_poor_stand_in(tmp_path: Path) -> None:
    """By what zeros in its place would lose: components, energy and the share that arrives count; a model that has just begun is none."""
    channel = {
        **graph()["channels"][0],
        "from": 0,
        "to": 0,
        "size": 16,
        "drop": 0.6,
        "about": {"input": "linear"},
    }
    made = [
        {**channel, "name": "poor"},
        {**channel, "name": "good"},
        {**channel, "name": "rarely", "drop": 0.2},
        {**channel, "name": "unlocked", "replaces_messages": True, "drop": 0.0},
    ]
    made += [{"name": name, "from": 0, "to": 0} for name in "abcdef"]
    agents = [{**graph("a")["agents"][0], "role": "readout"}]
    losses = [2 * 16 * 0.4 * 0.6, 2 * 16 * 0.4 * 0.4, 2 * 16 * 0.8 * 0.9, 2 * 16 * 0.6, *[NAN] * 6]
    rows = {
        step: {"antiphon/channel/si_loss": losses, "antiphon/channel/message_energy": [math.sqrt(2)] * 10}
        for step in range(1, 6)
    }
    write(tmp_path / "run", rows, document=graph(agents=agents, channels=made))
    found = judgements(read_run(tmp_path / "run"))
    assert [one.verdicts for one in found] == [["poor stand-in"], [], [], ["poor stand-in"], *[[]] * 6]
    assert [one.bad for one in found[:4]] == [True, False, False, True]
    says = "what stands in for its messages hardly resembles them (SI loss 7.68)"
    fix = "another rate of learning (input.optimiser.lr)"
    assert [(one.cause, one.fix) for one in (found[0], found[3])] == [
        (says, fix),
        (says.replace("7.68", "19.2"), fix),
    ]
    write(tmp_path / "new", {1: rows[1]}, document=graph(agents=agents, channels=made))
    assert not any(one.bad for one in judgements(read_run(tmp_path / "new")))


def test_a_shut_gate_has_the_advice_of_the_terminal(tmp_path: Path) -> None:
    """As the run's graph has it; a channel without a gate, or with an open one, has none."""
    scenario = antiphon.load("speaker-listener").resolve(values={"batch": 8, "passes": "first", "steps": 2})
    opens = [edge["predictor"].get("opens") for *_, edge in graph_of(scenario).edges(data=True)]
    assert opens == ["gradient.passes: auto"]
    predictor = {"kind": "linear", "context": ["label"]}
    gated = {"from": 0, "to": 0, "predictor": {**predictor, "opens": opens[0]}}
    made = [{**gated, "name": "shut"}, {**gated, "name": "open"}, {"name": "c", "from": 0, "to": 0}]
    fix = "gradient.passes: auto or coupling: locked, or train longer"
    says = "its gate is 0: at 0 its sender takes no step by the synthetic gradient, as with detached"
    assert advised(tmp_path, {"gate": [0.0, 0.5, NAN]}, made) == [(says, fix), ("", ""), ("", "")]
    assert of_shut_gates(1, opens[0]).endswith(f"set {fix}")


def test_a_predictor_far_quicker_than_most_is_a_hint_of_its_channel_alone(tmp_path: Path) -> None:
    """Where as many are as quick it is no difference."""
    quick = ["its predictor's learning rate, 0.03, is 30 times its sender's, 0.001", "a lower rate"]
    predictor = {"kind": "linear", "context": ["label"]}
    for few, expected in ((1, tuple(quick)), (2, ("", ""))):
        of = [{**predictor, "fast_if_poor": quick}] * few + [predictor] * 2
        made = [{"name": f"c{at}", "from": 0, "to": 0, "predictor": one} for at, one in enumerate(of)]
        found = advised(tmp_path / str(few), {"cosine": [0.4] * len(made)}, made)
        assert found == [expected] * few + [("", "")] * 2


def test_a_faint_signal_has_its_numbers_and_what_to_try(tmp_path: Path) -> None:
    """What a clip leaves of it, or what returns; a channel with a signal has none."""
    predictor = {"kind": "linear", "context": ["label"]}
    clipped, plain = ({"from": 0, "to": 0, "predictor": {**predictor, **of}} for of in ({"clip": 1e-9}, {}))
    made = [
        {**clipped, "name": "a"},
        {**plain, "name": "b"},
        {**clipped, "name": "c"},
        {**plain, "name": "d"},
    ]
    norms = {"returned_norm": [0.2, 1e-7, 0.2, 0.3], "injection_norm": [1e-9, 0.1, 0.2, 0.3]}
    found = advised(tmp_path, norms, made)
    assert found[0] == (
        "of a returned gradient of norm 0.2 (median channel 0.2) its gradient.clip, 1e-09, leaves 1e−09",
        "a larger gradient.clip, or none",
    )
    assert found[1][0] == "what returns is of norm 1e−07 (median channel 0.2), what is injected 0.1"
    assert found[2:] == [("", ""), ("", "")]
