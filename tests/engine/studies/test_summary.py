"""What runs say, worked out by hand: means, recovered per group, choice on validation, divergence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from antiphon.engine.studies.plan import Candidate, Line, Plan
from antiphon.engine.studies.scoring import Scoring
from antiphon.engine.studies.summary import Finished, summary
from antiphon.engine.studies.table import cells, columns, common_remarks, heading, remarks
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


def plan_of(lines: list[Line], metric: str | list[str] = "accuracy", **more: Any) -> Plan:
    document = {"study": "toy", "rows": ["digits-mlp"], "budgets": {"small": {}}, "metric": metric}
    return Plan(StudySpec.model_validate(document | more), "small", 2, lines, {}, {}, [])


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
    study |= {"of": "readout", "agent": "b", "bound": None, "further": [], "curves": []}
    return (
        study
        | {"several": False, "x": None, "tuned": {}, "fixed": [], "failed": {}, "lines": lines}
        | changes
    )


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
    assert common_remarks(study)[-1] == "Paper, at its own budget: memory."
    assert heading(study) == "toy, budget small: 8 steps, 2 seeds"
    assert (
        heading(study | {"budget": "default", "steps": [8, 2000], "seeds": 1})
        == "toy: 8 – 2,000 steps, 1 seed"
    )


def test_each_metric_has_lines_of_its_own_and_the_first_one_chooses() -> None:
    runs: dict[str, Finished] = {}
    for lr, bits, error in ((0.1, 3.0, 0.2), (0.2, 2.0, 0.4)):
        for seed in (0, 1):
            agents = {"b": {"bits": bits + seed, "loss": 1.0}, "a": {"accuracy": 1 - error, "loss": 1.0}}
            result = {**finished(0.0).result, "agents": agents, "env": {"solved": 10 * lr + seed}}
            runs[f"{lr}{seed}"] = Finished(result, {"validation": {"bits": bits, "a.error": error}})
    candidates = [Candidate({"lr": lr}, {0: f"{lr}0", 1: f"{lr}1"}) for lr in (0.1, 0.2)]
    planned = plan_of(
        [Line("row", {}, "locked", Scoring(), (0.8, PAPER), candidates)], ["bits", "a.error", "solved"]
    )
    found = [summary(planned, runs, metric)[0] for metric in planned.metrics]
    assert found[0] == summary(planned, runs)[0]
    assert [one["tuned"] for one in found] == [{"lr": 0.2}] * 3
    assert [one["validation"] for one in found] == [2.0] * 3
    assert [one["share"] for one in found] == [False, True, False]
    assert [one["ours"]["value"] for one in found] == pytest.approx([2.5, 0.4, 2.5])
    assert found[0]["paper"]["value"] == 0.8
    assert [one["paper"] for one in found[1:]] == [None, None]


def test_fewer_bits_and_more_solved_are_regained() -> None:
    for metric, figures in (("bits", (1.0, 5.0, 2.0)), ("solved", (5.0, 1.0, 4.0))):
        lines, runs = [], {}
        for variant, figure in zip(("locked", "detached", "local"), figures, strict=True):
            lines.append(line(variant, {seed: f"{variant}{seed}" for seed in (0, 1)}))
            for seed in (0, 1):
                told = {metric: figure + 0.01 * seed}
                agents = {"b": {"loss": 1.0} | (told if metric == "bits" else {})}
                env = told if metric == "solved" else {}
                result = {**finished(0.0).result, "agents": agents, "env": env}
                runs[f"{variant}{seed}"] = Finished(result, {})
        found = summary(plan_of(lines, metric), runs)
        assert found[2]["recovered"]["value"] == pytest.approx(0.75), metric


def test_what_keeps_to_the_bound_is_counted_of_all_seeds() -> None:
    lines = [line("locked", {0: "a", 1: "b", 2: "c", 3: "d"})]
    runs = {"a": finished(0.7), "b": finished(0.6), "c": finished(0.5), "d": finished(0.9, "diverged")}
    for metric, bound, head in (("accuracy", 0.6, "≥ 60 %"), ("error", 0.4, "≤ 40 %")):
        found = summary(plan_of(lines, metric, bound=bound), runs)
        assert (found[0]["within"], found[0]["n"], found[0]["diverged"]) == (2, 3, 1)
        study = table(found, metric=metric, bound=bound)
        assert cells(study)[0][columns(study).index(head)] == "2 of 4"
        assert f"{head}: how many seeds came to the end and keep to it." in remarks(study)
    assert summary(plan_of(lines), runs)[0]["within"] is None


def test_steps_to_locked_stand_in_the_table_of_their_agent() -> None:
    lines = list(said(locked=[0.9, 0.92], detached=[0.5, 0.52], local=[0.7, 0.72]).values())
    curves: list[dict[str, Any]] = [
        {"metric": metric, "row": "row", "point": {}, "variant": name, "steps_to_locked": steps}
        for metric, steps in (("a.error", 7), ("b.loss", None), ("b.accuracy", 1400))
        for name in ("locked", "local")
    ]

    def column(metric: str, agent: str | None, shown: list[dict[str, Any]] = curves) -> list[str] | None:
        study = table(lines, metric=metric, agent=agent, curves=shown)
        names = columns(study)
        assert all(len(row) == len(names) for row in cells(study))
        at = names.index("steps to locked") if "steps to locked" in names else None
        return None if at is None else [row[at] for row in cells(study)]

    assert column("accuracy", "b") == ["1,400", "–", "1,400"]
    assert column("b.bits", "b") == ["never", "–", "never"]
    assert column("b.accuracy", "b") == ["1,400", "–", "1,400"]
    assert column("a.accuracy", "a") == ["7", "–", "7"]
    assert column("solved", None) is None
    assert column("accuracy", "b", []) is None
    study = table(lines, agent="b", curves=curves)
    assert any(remark.startswith("Steps to locked: ") for remark in remarks(study))


def test_what_the_environment_counts_has_few_digits() -> None:
    (found,) = summary(
        plan_of([line("locked", {0: "a", 1: "b"}, paper=True)]), {"a": finished(0.5), "b": finished(0.5)}
    )
    shown = found | {"share": False, "ours": {"value": 9.0, "sd": 1.0, "low": 0.0, "high": 18.0}}
    assert cells(table([shown], metric="solved", of="environment"))[0][1:4] == [
        *("9.00 ± 1.00", "0.00 – 18.00", "0.80 (unverified)"),
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "Accuracy of the readout on the test split; "),
        ({"metric": "b.accuracy", "of": "b"}, "Accuracy of b on the test split; "),
        (
            {"metric": "solved", "of": "environment"},
            "Solved as the environment says at the end of the training; ",
        ),
        ({"metric": "train_loss"}, "Loss of the readout on the training split; "),
    ],
)
def test_under_a_table_stands_whose_its_metric_is(changes: dict[str, Any], says: str) -> None:
    study = table(list(said(locked=[0.9, 0.91]).values()), **changes)
    assert remarks(study)[0].startswith(says)


def test_a_fixed_value_is_owned_up_to() -> None:
    study = table(list(said(locked=[0.9, 0.91]).values()), fixed=["lr"])
    assert "lr: fixed here; it was not chosen on the validation split." in common_remarks(study)
