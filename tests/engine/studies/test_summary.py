"""What runs say, worked out by hand: means, recovered per group, choice on validation, divergence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from antiphon.engine.studies.plan import Candidate, Line, Plan
from antiphon.engine.studies.scoring import Scoring
from antiphon.engine.studies.summary import Finished, summary
from antiphon.engine.studies.table import cells, columns, heading, remarks
from antiphon.scenarios.study import PaperSpec, StudySpec

PAPER = PaperSpec(variant="local", value=0.8, sure="unverified", source="memory")


def finished(
    accuracy: float | None, ended: str = "done", validation: float | None = None, **more: Any
) -> Finished:
    agents = {"b": {"accuracy": accuracy, "loss": 2.0, **more}}
    result = {"readout": "b", "agents": agents, "exit": ended, "seconds": 2.0, "examples": 400}
    scores = {} if validation is None else {"validation": {"accuracy": validation, "error": 1 - validation}}
    return Finished(result, scores)


def line(
    variant: str, runs: Mapping[int, str], point: Mapping[str, Any] | None = None, paper: bool = False
) -> Line:
    return Line(
        "row", point or {}, variant, Scoring(), (0.8, PAPER) if paper else None, [Candidate({}, runs)]
    )


def plan_of(lines: list[Line], metric: str = "accuracy", seeds: int = 2, tuned: Any = None) -> Plan:
    spec = StudySpec(study="toy", rows=["digits-mlp"], budgets={"small": {}}, metric=metric)  # type: ignore[arg-type]
    return Plan(spec, "small", seeds, lines, {}, tuned or {}, [])


def said(metric: str = "accuracy", **variants: list[float]) -> dict[str, dict[str, Any]]:
    lines = [
        line(name, {seed: f"{name}{seed}" for seed in range(len(scores))})
        for name, scores in variants.items()
    ]
    runs = {
        f"{name}{seed}": finished(a) for name, scores in variants.items() for seed, a in enumerate(scores)
    }
    return {found["variant"]: found for found in summary(plan_of(lines, metric), runs)}


def table(lines: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    study = {"study": "toy", "budget": "small", "metric": "accuracy", "steps": [8], "seeds": 2, "axes": []}
    return study | {"several": False, "x": None, "tuned": {}, "fixed": [], "lines": lines} | changes


def test_variants_are_compared_with_locked_and_detached() -> None:
    found = said(locked=[0.90, 0.92], detached=[0.50, 0.52], local=[0.70, 0.72])
    assert found["local"]["contrast"] == found["locked"]["contrast"]
    assert found["local"]["contrast"]["resolved"]
    assert found["local"]["contrast"]["difference"] == pytest.approx(0.4)
    assert found["local"]["recovered"]["value"] == pytest.approx(0.5)
    assert found["locked"]["recovered"]["value"] == 1.0
    assert found["local"]["seconds"] == 2.0


def test_errors_recover_what_accuracies_do() -> None:
    scores = {"locked": [0.90, 0.92], "detached": [0.50, 0.52], "local": [0.70, 0.74]}
    accuracy, error = said(**scores), said("error", **scores)
    assert error["local"]["ours"]["value"] == pytest.approx(0.28)
    for key in ("value", "low", "high"):
        assert error["local"]["recovered"][key] == pytest.approx(accuracy["local"]["recovered"][key])
    assert error["local"]["contrast"]["error"] == pytest.approx(accuracy["local"]["contrast"]["error"])


def test_one_seed_has_the_error_of_the_test_split_whatever_the_metric() -> None:
    for metric in ("accuracy", "error"):
        found = said(metric, locked=[0.9], detached=[0.5])
        assert found["locked"]["ours"]["low"] is not None
        assert found["locked"]["contrast"]["error"] == pytest.approx(((0.09 + 0.25) / 400) ** 0.5)


def test_recovered_is_undefined_within_three_standard_errors() -> None:
    found = said(locked=[0.90, 0.60], detached=[0.50, 0.52], local=[0.70, 0.72])
    assert not found["local"]["contrast"]["resolved"]
    assert found["local"]["recovered"] is None
    study = table(list(found.values()))
    assert [row[columns(study).index("recovered [95 %]")] for row in cells(study)] == ["undefined"] * 3
    assert "within three standard errors" in "".join(remarks(study))


def test_recovered_needs_both_references() -> None:
    found = said(locked=[0.9, 0.91], local=[0.7, 0.71])
    assert found["local"]["contrast"] is None
    study = table(list(found.values()))
    assert "recovered [95 %]" not in columns(study)
    assert "needs the variants locked and detached" in "".join(remarks(study))


def test_references_are_those_of_the_same_point() -> None:
    lines, runs = [], {}
    for depth, scores in ((2, (0.9, 0.5, 0.7)), (3, (0.8, 0.4, 0.7))):
        for variant, score in zip(("locked", "detached", "local"), scores, strict=True):
            names = {seed: f"{depth}{variant}{seed}" for seed in (0, 1)}
            lines.append(line(variant, names, {"depth": depth}))
            runs |= {name: finished(score + 0.01 * seed) for seed, name in names.items()}
    found = summary(plan_of(lines), runs)
    assert [round(one["recovered"]["value"], 6) for one in found if one["variant"] == "local"] == [0.5, 0.75]


def test_a_diverged_run_is_counted_but_not_averaged() -> None:
    lines = [line("locked", {0: "a", 1: "b"}), line("local", {0: "c"})]
    runs = {"a": finished(0.9), "b": finished(0.1, "diverged"), "c": finished(0.1, "diverged")}
    locked, local = summary(plan_of(lines), runs)
    assert (locked["ours"]["value"], locked["n"], locked["diverged"]) == (0.9, 1, 1)
    assert (local["ours"], local["n"]) == (None, 0)
    assert [row[:2] for row in cells(table([locked, local]))] == [
        ["locked (1 diverged)", "90.00"],
        ["local (1 diverged)", "–"],
    ]


def test_values_are_chosen_on_validation_never_on_test() -> None:
    candidates = [Candidate({"lr": lr}, {0: f"{lr}a", 1: f"{lr}b"}) for lr in (0.1, 0.2)]
    runs = {"0.1a": finished(0.9, validation=0.5), "0.1b": finished(0.9, validation=0.5)}
    runs |= {"0.2a": finished(0.6, validation=0.7), "0.2b": finished(0.6, validation=0.4)}
    tuned = Line("row", {}, "locked", Scoring(), None, candidates)
    for metric, ours in (("accuracy", 0.6), ("error", 0.4)):
        (found,) = summary(plan_of([tuned], metric), runs)
        assert (found["tuned"], found["runs"]) == ({"lr": 0.2}, ["0.2a", "0.2b"])
        assert found["ours"]["value"] == pytest.approx(ours)
        assert found["validation"] == pytest.approx(0.55 if metric == "accuracy" else 0.45)


def test_values_that_diverge_are_chosen_last() -> None:
    candidates = [Candidate({"lr": lr}, {0: f"{lr}a", 1: f"{lr}b"}) for lr in (0.1, 0.2)]
    runs = {"0.1a": finished(0.9, validation=0.9), "0.1b": finished(0.1, "diverged")}
    runs |= {"0.2a": finished(0.5, validation=0.5), "0.2b": finished(0.5, validation=0.5)}
    (found,) = summary(plan_of([Line("row", {}, "x", Scoring(), None, candidates)]), runs)
    assert found["tuned"] == {"lr": 0.2}


def test_losses_are_no_shares_and_less_of_them_is_more() -> None:
    lines = [line(name, {0: f"{name}0", 1: f"{name}1"}) for name in ("locked", "detached", "local")]
    losses = {"locked": 1.5, "detached": 9.5, "local": 3.5}
    runs = {
        f"{name}{seed}": Finished({**finished(0.5).result, "agents": {"b": {"loss": loss + 0.01 * seed}}}, {})
        for name, loss in losses.items()
        for seed in (0, 1)
    }
    found = summary(plan_of(lines, "loss"), runs)
    assert found[2]["recovered"]["value"] == pytest.approx(0.75)
    assert found[1]["ours"]["high"] > 9.5
    study = table(found, metric="loss")
    assert cells(study)[0][1] == "1.50500 ± 0.00707"
    assert columns(study)[1] == "loss"


def test_cells_read_well() -> None:
    found = list(said(locked=[0.90, 0.92], detached=[0.50, 0.52], local=[0.70, 0.76]).values())
    found[2]["paper"] = {"value": 0.8, "sure": "unverified", "source": "memory"}
    study = table(found)
    assert columns(study) == [
        "variant",
        "accuracy %",
        "95 % interval",
        "paper",
        "n",
        "recovered [95 %]",
        "seconds",
    ]
    assert cells(study)[2] == [
        *("local", "73.00 ± 4.24", "34.9 – 100.0", "80 (unverified)", "2", "0.55 [0.50 – 0.60]", "2.0"),
    ]
    assert cells(study)[0][3:6] == ["", "2", "1.00"]
    assert remarks(study)[-1] == "Paper, at its own budget: memory."
    assert heading(study) == "toy, budget small: 8 steps, 2 seeds"
    assert (
        heading(study | {"budget": "default", "steps": [8, 2000], "seeds": 1})
        == "toy: 8 – 2,000 steps, 1 seed"
    )


def test_a_fixed_value_is_owned_up_to() -> None:
    study = table(list(said(locked=[0.9, 0.91]).values()), fixed=["lr"])
    assert "lr: fixed here; it was not chosen on the validation split." in remarks(study)
