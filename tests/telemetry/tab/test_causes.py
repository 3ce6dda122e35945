"""Hints at the causes of bad signals, from a run's files: which stand there, of which channels, and in what order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import antiphon
from antiphon.telemetry import read_run
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
    causes, flags = run.catalogue()["verdicts"]["causes"], run.figures[REASONS].values[-1]
    return [
        [
            f"{c['says']}; try {c['fix']}".replace("{text}", text)
            .replace("{fix}", fix)
            .removesuffix("; try ")
            for c in causes
            for text, fix in [c["texts"][c["of"][at]] if c["of"] else ("", "")]
            if int(flag) & c["flag"]
        ]
        for at, flag in enumerate(flags)
    ]


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
    assert not read_run(tmp_path / "run").figures[REASONS].values.any()
    scenario = antiphon.load("digits-mlp").resolve(values={"depth": 3, "width": 8, "steps": 1})
    with antiphon.Simulation(scenario, logdir=tmp_path / "new") as simulation:
        simulation.run()
    channel = read_run(tmp_path / "new").graph["channels"][0]
    assert channel["predictor"] == {"kind": "linear", "context": ["label"], "scale": 1.0}


def test_a_receiver_from_which_nothing_leads_on_is_a_hint(tmp_path: Path) -> None:
    way = "{way}: little of the readouts' loss returns from there"
    found = hints(tmp_path, {"age": [1] * 6}, to=[0, 1, 1, 1, 2, 1])
    assert found == [[], [], [], [], [way], []]
