"""Verdicts on channels from their metrics, and cautions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from antiphon.telemetry.verdicts import (
    CONCLUSIONS,
    FLAGS,
    MISDIRECTED,
    REMARKS,
    ChannelTraits,
    Verdict,
    conclusion_flags,
    counts,
    in_words,
    measuring_command,
    measuring_time,
    quick_command,
    quick_time,
    remark_flags,
    verdict_flags,
    worth,
    worths_in_words,
)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.9, "helps"),
        (-0.9, -0.1, "harms"),
        (-3.65, 3.40, "unresolved"),
        (-0.5, 0.0, "unresolved"),
        (0.0, 0.0, "unresolved"),
        (0.1, None, None),
        (0.1, math.nan, None),
    ],
)
def test_the_verdict_of_an_interval(low: float | None, high: float | None, verdict: Verdict | None) -> None:
    assert worth("value", low, high) == verdict


def document(channels: int = 4, **changes: Any) -> dict[str, Any]:
    """Return a graph of channels from `slow` (every fourth step) and `fast` by turns, to `fast`."""
    agents = [{"name": "slow", "period": 4}, {"name": "fast", "period": 1}]
    ends = [{"name": f"c{place}", "from": place % 2, "to": 1, "size": 3} for place in range(channels)]
    return {"agents": agents, "channels": ends, **changes}


def flagged(graph: dict[str, Any], **metrics: list[float]) -> list[set[str]]:
    """Return the verdicts of each channel."""
    arrays = {metric: np.array(values, dtype=np.float32) for metric, values in metrics.items()}
    found = verdict_flags(arrays, ChannelTraits.of(graph))
    known = {
        f"{measure}:{name}" if measure else name: bit
        for measure in FLAGS
        for name, bit in FLAGS[measure].items()
    }
    return [{name for name, bit in known.items() if int(flags) & bit} for flags in found]


def test_measures_have_verdicts_of_their_own() -> None:
    nan = math.nan
    found = flagged(
        document(),
        value_low=[0.1, -0.5, -3.65, nan],
        value_high=[0.2, -0.1, 3.4, nan],
        ablation_zero_low=[-0.2, 0.1, nan, 0.0],
        ablation_zero_high=[-0.1, 0.2, nan, 0.0],
    )
    assert found == [
        {"value:helps", "ablation_zero:misleads"},
        {"value:harms", "ablation_zero:matters"},
        {"value:unresolved"},
        {"ablation_zero:unresolved"},
    ]


def test_stale_is_counted_in_ticks_of_the_sender() -> None:
    found = flagged(document(8), age=[15.0, 3.0, 16.0, 4.0, 4.0, 1.0, 0.0, 0.0])
    assert found == [set(), set(), {"stale"}, {"stale"}, set(), set(), set(), set()]


def test_links_that_are_all_long_are_not_stale() -> None:
    assert flagged(document(), age=[16.0, 4.0, 16.0, 4.0]) == [set()] * 4
    assert flagged(document(), age=[16.0, 4.0, 16.0, 8.0]) == [set()] * 3 + [{"stale"}]
    assert flagged(document(), age=[math.nan, math.nan, math.nan, math.nan]) == [set()] * 4


@pytest.mark.parametrize(("drop", "stale"), [(0.0, False), (0.7, False), (0.8, True), (1.0, True)])
def test_losses_make_messages_stale_unless_something_stands_in(drop: float, stale: bool) -> None:
    graph = document(2)
    graph["channels"][0]["drop"] = drop
    assert flagged(graph, age=[0.0, 0.0]) == [{"stale"} if stale else set(), set()]
    graph["channels"][0]["about"] = {"input": "linear"}
    assert flagged(graph, age=[0.0, 0.0]) == [set(), set()]


def test_losses_that_all_links_have_make_all_messages_stale() -> None:
    """They are no timing of the system's, as delays that all links have are."""
    graph = document(4)
    for channel in graph["channels"]:
        channel["drop"] = 0.8
    assert flagged(graph, age=[0.0] * 4) == [{"stale"}] * 4


def test_silent_is_next_to_no_energy() -> None:
    found = flagged(document(6), message_energy=[1.0, 1.0, 1.0, 0.011, 0.009, 0.0])
    assert found == [set()] * 4 + [{"silent"}] * 2
    # Most are silent: the median is of those that are not.
    found = flagged(document(6), message_energy=[0.0, 0.0, 0.0, 0.0, 1.0, math.nan])
    assert found == [{"silent"}] * 4 + [set(), set()]
    assert flagged(document(2), message_energy=[0.0, 0.0]) == [{"silent"}, {"silent"}]
    assert flagged(document(2), message_energy=[math.nan, math.nan]) == [set(), set()]


def test_silent_is_always_the_same_message() -> None:
    graph = document(2)
    graph["channels"][1]["size"] = 1
    metrics = {"message_energy": [1.0, 1.0], "message_std": [0.0, 0.0]}
    assert flagged(graph, **metrics) == [{"silent"}, set()]  # a single number has no spread
    assert flagged(graph | {"batch": 1}, **metrics) == [{"silent"}, set()]
    assert flagged(graph | {"batch": 8}, **metrics) == [{"silent"}, {"silent"}]


def test_a_signal_is_faint_behind_a_shut_gate() -> None:
    assert flagged(document(3), shut=[1.0, 0.0, math.nan]) == [{"faint"}, set(), set()]
    assert counts([256 + 64, 0], None) == {"stale": 1, "silent": 0, "faint": 1}


def test_a_signal_is_faint_of_which_little_is_injected_or_nothing_returns() -> None:
    """A predictor that has not learned yet injects 0; a channel that predicts nothing has neither norm."""
    norms = {
        "returned_norm": [0.2, 0.3, 1e-7, 0.2, math.nan],
        "injection_norm": [1e-9, 0.2, 0.1, 0.0, 1e-9],
    }
    assert flagged(document(5), **norms) == [{"faint"}, set(), {"faint"}, set(), set()]
    assert flagged(document(2), returned_norm=[0.0, 0.3]) == [{"faint"}, set()]
    assert flagged(document(2), returned_norm=[0.0, 0.0]) == [set(), set()]  # as in the first steps


def test_a_signal_that_points_against_the_gradient_is_off() -> None:
    """By the interval of the cosine of messages, or of that of the parameter gradient; a sign alone is no verdict."""
    ends = {"cosine_high": [-0.1, 0.2, 0.2, math.nan], "parameter_cosine_high": [0.1, -0.2, 0.2, math.nan]}
    assert flagged(document(), **ends) == [{"against"}, {"against"}, set(), set()]
    assert flagged(document(2), cosine=[-0.1, -0.1], parameter_cosine=[-0.2, -0.2]) == [set(), set()]
    assert in_words(counts([262144, 0], None)) == "1 against the gradient, 0 stale, 0 silent"


def test_one_environment_says_nothing_of_the_entropy_of_symbols() -> None:
    entropy = {"symbol_entropy": [0.0, 1.0]}
    assert flagged(document(2, batch=8), **entropy) == [{"silent"}, set()]
    assert flagged(document(2, batch=1), **entropy) == [set(), set()]
    assert flagged(document(2), **entropy) == [set(), set()]


def test_nothing_logged_is_no_verdict() -> None:
    assert flagged(document()) == [set()] * 4
    assert flagged(document(0)) == []


def test_in_words() -> None:
    flags = [1, 1, 2, 4, 4 + 64, 128, 0]
    found = counts(flags, "value")
    assert found == {"helps": 2, "harms": 1, "unresolved": 2, "stale": 1, "silent": 1}
    assert in_words(found) == "2 help, 1 harms, 2 unresolved, 1 stale, 1 silent"
    assert worths_in_words("value", ["harms", None, "helps"]) == "1 helps, 1 harms, 0 unresolved of 2"
    assert in_words(counts(flags, None)) == "1 stale, 1 silent"


def test_the_command_is_quoted() -> None:
    assert measuring_command("runs/a", {}) == "antiphon evaluate runs/a --value"
    assert measuring_command("my runs/a", {}) == "antiphon evaluate 'my runs/a' --value"
    allowed = measuring_command("my runs/a", {"imports": ["mine", "yours"]})
    assert allowed == "antiphon --allow-import mine --allow-import yours evaluate 'my runs/a' --value"


def test_a_run_that_cannot_be_forked_is_measured_by_ablation() -> None:
    graph = {"no_fork": "its environment has no state_dict"}
    assert measuring_command("runs/a", graph) == "antiphon evaluate runs/a --ablate zero"


def test_how_long_measuring_takes_is_told_where_it_is_long() -> None:
    """Measured: 4 agents and 3 channels 13 s, 16 agents and 64 channels 40 minutes."""
    sizes = ((4, 3), (16, 64), (64, 128), (300, 1192))
    channel = {"name": "a->b", "from": 0, "to": 1}
    found = {
        (a, c): measuring_time({"agents": [{"role": "readout"}] * a, "channels": [channel] * c})
        for a, c in sizes
    }
    assert list(found.values()) == ["", "39 minutes", "5 hours", "45 minutes"]


def test_where_all_channels_take_days_a_few_near_a_readout_are_measured_first() -> None:
    agents = [{"role": "agent"}] * 299 + [{"role": "readout"}]
    channels = [{"name": f"c{at}", "from": at, "to": at + 1} for at in range(299)]
    graph = {"agents": agents, "channels": channels}
    command = "antiphon evaluate runs/a --channels c298 --channels c297 --channels c296 --value"
    assert measuring_command("runs/a", graph) == command
    assert measuring_time(graph) == "45 minutes"
    assert measuring_command("runs/a", {**graph, "no_fork": "it is"}).endswith("--ablate zero")


@pytest.mark.parametrize(
    ("cosine", "ceiling", "words"),
    [
        (-0.03, 0.09, "message and context tell little of the true gradient"),
        (0.2, 0.5, "its predictor has not learned yet what message and context tell"),
        (0.25, 0.5, ""),
        (0.3, math.nan, ""),
    ],
)
def test_a_true_cosine_and_its_ceiling_say_what_is_wrong(cosine: float, ceiling: float, words: str) -> None:
    flag = int(conclusion_flags(np.array(cosine), np.array(ceiling)))
    assert (CONCLUSIONS[flag].says if flag else "").startswith(words)
    assert bool(flag) == bool(words)


def misdirected(cosine: float, parameters: float, low: float, high: float) -> bool:
    """Return whether the remark is made on one channel."""
    values = {"cosine": cosine, "cosine_low": cosine, "parameter_cosine": parameters}
    values |= {"parameter_cosine_low": low, "parameter_cosine_high": high}
    flags = remark_flags({metric: np.array([value]) for metric, value in values.items()}, 1)
    return bool(flags[0] & MISDIRECTED.flag)


@pytest.mark.parametrize(("highest", "told"), [(-0.9, True), (0.1, False)])
def test_that_messages_matter_is_no_praise_of_a_signal_worse_than_a_constant(
    highest: float, told: bool
) -> None:
    values = {"r2": -6.9, "r2_high": highest, "norm_ratio": 2.5}
    flags = remark_flags({metric: np.array([value]) for metric, value in values.items()}, 1)
    said = [
        remark.says for remark in REMARKS if remark.flag & int(flags[0]) and "ablation_zero" in remark.beside
    ]
    assert [says.startswith("That it matters says nothing of its learning signal") for says in said] == [
        True
    ] * told


@pytest.mark.parametrize(("cosine", "parameters"), [(0.85, -0.3), (0.5, 0.2), (0.9, 0.44), (0.37, -0.097)])
def test_a_signal_that_is_right_in_the_messages_and_wrong_in_the_parameters(
    cosine: float, parameters: float
) -> None:
    assert misdirected(cosine, parameters, parameters - 0.005, parameters + 0.005)
    assert not misdirected(cosine, parameters, -0.9, 0.1)


@pytest.mark.parametrize(
    ("cosine", "parameters"), [(0.9, 0.46), (0.09, -1.0), (0.2, 0.0), (math.nan, 0.1), (0.9, math.nan)]
)
def test_nothing_is_to_be_said(cosine: float, parameters: float) -> None:
    assert not misdirected(cosine, parameters, parameters - 0.005, parameters + 0.005)


def test_where_value_takes_long_a_quick_ablation_is_known_with_its_time() -> None:
    """Measured: 16 agents and 64 channels 6 s; of very many channels a few."""
    channel = {"name": "a->b", "from": 0, "to": 1}
    found = {
        (a, c): (quick_time(graph), quick_command("runs/a", graph).partition("--ablate ")[2])
        for a, c in ((16, 64), (300, 1192))
        for graph in [{"agents": [{"role": "readout"}] * a, "channels": [channel] * c}]
    }
    few = " --channels 'a->b'" * 3
    assert found == {
        (16, 64): ("6 seconds", "zero --examples 100"),
        (300, 1192): ("7 seconds", f"zero --examples 100{few}"),
    }
