"""Measurements made after a run stay with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

import antiphon
from antiphon import RunError, Simulation
from antiphon.telemetry import read_run
from tests.kit.commands import Commands
from tests.kit.resigned import rewrite_facts

ABLATE = "--examples 40 --ablate"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        simulation.run(steps=4)
    return tmp_path / "run"


def kept(run: Path, kind: str = "zero") -> Any:
    """What is kept of an ablation of a run."""
    return json.loads((run / "measured.json").read_text(encoding="utf-8")).get(f"ablation_{kind}")


def test_an_ablation_is_kept_and_shown_in_the_tab_and_the_run_goes_on(run: Path, cli: Commands) -> None:
    told = cli.json("evaluate", run, ABLATE, "zero")["ablation"]
    assert kept(run) == {"step": 4, "split": "test", **told}
    shown = read_run(run)
    series = shown.metrics["channel", "ablation_zero"]
    assert series.steps.tolist() == [4]
    names = [channel["name"] for channel in shown.graph["channels"]]
    losses = [told["channels"][name]["readouts"]["loss"]["change"] for name in names]
    np.testing.assert_allclose(series.values[0], losses, rtol=1e-6)
    assert shown.metrics["channel", "age"].steps.tolist() == [1, 4], "what was there stays"
    cli("resume", run, "--steps 6")
    metrics = read_run(run).metrics
    assert metrics["channel", "ablation_zero"].steps.tolist() == [4]
    assert metrics["channel", "age"].steps.tolist() == [1, 4, 6]


def test_an_ablation_names_the_links_that_it_holds_for(run: Path, cli: Commands) -> None:
    for options, links in (("", "perfect links"), ("--links as_run", "links as in the run")):
        cli("evaluate", run, ABLATE, "zero", options)
        assert f", {links} (" in " ".join(cli.out.split())
        assert kept(run)["links"] == links
        assert read_run(run).catalogue()["verdicts"]["measures"][0]["links"] == links


def test_a_second_measurement_takes_the_place_of_the_first_of_its_kind(run: Path, cli: Commands) -> None:
    """The events of a run that goes on are left alone, and a damaged file is never replaced."""
    with Simulation.resume(run):
        before = {path: path.read_bytes() for path in run.glob("events*")}
        cli("evaluate", run, ABLATE, "zero")
        assert {path: path.read_bytes() for path in run.glob("events*")} == before
    rewrite_facts(run, exit="running")  # it was killed
    count = len(list(run.glob("events*")))
    for limit in (40, 30):
        cli("evaluate", run, f"--ablate zero --examples {limit}")
        assert kept(run)["count"] == limit
    assert len(list(run.glob("events*"))) > count
    assert not (run / "run.lock").exists()
    (run / "measured.json").write_text("[", encoding="utf-8")
    cli("evaluate", run, ABLATE, "zero")
    assert "measured.json: is damaged (checksum mismatch); delete it, and it will be written again" in cli.err
    assert (run / "measured.json").read_text(encoding="utf-8") == "["


def test_each_kind_of_ablation_is_kept_and_named_and_a_removal_is_shown_first(
    run: Path, cli: Commands
) -> None:
    for kind in ("zero", "resample"):
        cli("evaluate", run, ABLATE, kind)
    assert [kept(run, kind)["kind"] for kind in ("zero", "resample")] == ["zero", "resample"]
    metrics = read_run(run).metrics
    for kind in ("zero", "resample"):
        changes = [channel["readouts"]["loss"]["change"] for channel in kept(run, kind)["channels"].values()]
        measured = metrics["channel", f"ablation_{kind}"].values[0]
        np.testing.assert_allclose(sorted(measured), sorted(changes), rtol=1e-6)
    assert "by ablation (zero) at step " in cli("show", run)
    cli("report", run, "-o", run / "page.html")
    page = (run / "page.html").read_text(encoding="utf-8")
    assert "loss by ablation (zero)" in page
    assert "loss by ablation (resample)" in page


def test_where_nothing_can_be_written_evaluate_still_tells(
    run: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    def refuse(*_: object) -> bool:
        raise RunError("measured.json: cannot be written (no space left on device)")

    monkeypatch.setattr("antiphon.terminal.measurements.keep_measured", refuse)
    cli("evaluate", run, ABLATE, "zero")
    assert "not saved with the run: measured.json: cannot be written" in cli.err


def test_what_evaluate_prints_of_a_stopped_run_is_in_its_tab_and_why_channels_have_no_result(
    tmp_path: Path, cli: Commands
) -> None:
    with Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        for _ in range(3):
            simulation.step()
    assert ("agent", "test_accuracy") not in read_run(tmp_path / "run").metrics
    told = cli.json("evaluate", tmp_path / "run", ABLATE, "zero --channels", "n0->n1")
    found = read_run(tmp_path / "run")
    assert found.metrics["agent", "test_accuracy"].values[-1, -1] == pytest.approx(told["accuracy"])
    measured = found.catalogue()["verdicts"]["measures"][0]
    assert measured["reasons"] == dict.fromkeys(
        ("n1->n2", "n2->n3"), "not measured: it is not among --channels"
    )
    assert measured["again"] == f"antiphon evaluate {tmp_path / 'run'} --ablate zero"


def test_two_measurements_at_once_are_both_kept(
    run: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    """While the run goes on too: one reads what another wrote as it waited for its turn."""
    acquire, others = FileLock.acquire, ["resample", "mean"]

    def waited(self: FileLock, *arguments: Any, **settings: Any) -> Any:
        if Path(self.lock_file).name == ".measured.json.lock" and others:
            cli("evaluate", run, ABLATE, others.pop())
        return acquire(self, *arguments, **settings)

    monkeypatch.setattr(FileLock, "acquire", waited)
    with Simulation.resume(run):
        cli("evaluate", run, ABLATE, "zero")
    assert [kept(run, kind)["kind"] for kind in ("zero", "mean", "resample")] == ["zero", "mean", "resample"]
    assert not [*run.glob(".measured*")]


@pytest.mark.long
def test_where_rates_have_fallen_to_nothing_a_value_is_measured_during_a_run(
    tmp_path: Path, cli: Commands
) -> None:
    """Not over a longer horizon."""
    values = {"depth": 2, "width": 8, "batch": 8, "steps": 20, "lr": 1e-7}
    text = antiphon.load("digits-mlp").text.replace(
        "lr: $lr}", "lr: $lr, schedule: {kind: cosine, scale: 0.0}}"
    )
    (tmp_path / "falling.yaml").write_text(text, encoding="utf-8")
    scenario = antiphon.load(tmp_path / "falling.yaml").resolve(values=values)
    with Simulation(scenario, logdir=tmp_path / "run") as simulation:
        for _ in range(19):
            simulation.step()
    said = cli("evaluate", tmp_path / "run", "--value --horizon 4 --repeats 2")
    advice = "the agents' learning rates have fallen to 0.62 % of their first, so that no signal gains much: "
    spec = "telemetry: {value: {period: 1, horizon: 4}}"
    assert advice in " ".join(said.split())
    reasons = re.findall(r"^(.*): \S.*over this horizon true gradients", said, re.MULTILINE)
    assert reasons
    assert " ".join(said.split()).count("over this horizon true gradients") == len(reasons)
    measured = read_run(tmp_path / "run").catalogue()["verdicts"]["measures"]
    (value,) = (each for each in measured if each["metric"] == "value")
    assert [spec in value["instead"], value["again"]] == [True, ""]


@pytest.mark.long
def test_a_run_logs_why_a_value_is_undefined_and_evaluating_some_channels_keeps_it(
    tmp_path: Path, cli: Commands
) -> None:
    text = antiphon.load("digits-mlp").text + "\ntelemetry: {value: {period: 2, horizon: 4}}\n"
    (tmp_path / "valued.yaml").write_text(text, encoding="utf-8")
    values = {"depth": 3, "width": 8, "batch": 8, "steps": 4, "lr": 1e-9}
    scenario = antiphon.load(tmp_path / "valued.yaml").resolve(values=values)
    with Simulation(scenario, logdir=tmp_path / "run") as simulation:
        simulation.run()

    def reasons() -> tuple[dict[str, str], list[Any]]:
        measures = read_run(tmp_path / "run").catalogue()["verdicts"]["measures"]
        (found,) = (each for each in measures if each["metric"] == "value")
        assert found["step"] == 4
        return found["reasons"], found["earlier"]

    logged, earlier = reasons()
    names = [channel.name for channel in scenario.channels]
    assert [*logged] == [*names, "all channels"]
    assert all("true gradients give no significant gain" in why for why in logged.values())
    assert [each["step"] for each in earlier] == [2]
    assert "by value at step 4, 0 help, 0 harm, 0 unresolved, 0 stale" in cli("show", tmp_path / "run")
    aligned = read_run(tmp_path / "run").metrics["channel", "parameter_cosine"].values[-1]
    cli("evaluate", tmp_path / "run", "--value --horizon 4 --repeats 2 --channels", names[0])
    assert {name: reasons()[0][name] for name in names[1:]} == {name: logged[name] for name in names[1:]}
    kept_alignment = read_run(tmp_path / "run").metrics["channel", "parameter_cosine"].values[-1]
    assert kept_alignment[1:].tolist() == aligned[1:].tolist()


@pytest.mark.long
def test_run_and_show_tell_the_same_verdicts_of_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    monkeypatch.chdir(tmp_path)
    text = antiphon.load("digits-mlp").text + "\ntelemetry: {value: {period: 4, horizon: 4}}\n"
    Path("valued.yaml").write_text(text, encoding="utf-8")
    values = "--set depth=2 --set width=16 --set batch=32 --set lr=0.01"
    told = cli(f"run valued.yaml {values} --steps 4 --logdir . --name run")
    (line,) = (line for line in told.splitlines() if line.startswith("channels "))
    assert line.split()[1:6] == ["by", "value", "at", "step", "4,"]
    assert f"channels: {line.removeprefix('channels').strip()}" in cli("show run")
    flat = "--set depth=3 --set width=8 --set batch=8 --set lr=1e-9"
    told = cli(f"run valued.yaml {flat} --steps 4 --seeds 2 --logdir . --name flat")
    assert "value not measured" not in told, "it was measured, and is undefined"
    lines = [line for line in told.splitlines() if line.startswith("channels ")]
    assert [line.split()[1:7] for line in lines] == [
        [f"flat-s{seed}:", "by", "value", "at", "step", "4,"] for seed in range(2)
    ]
    assert all(line.endswith("2 without a result of 2") for line in lines)

    def unread(_: Path) -> None:
        raise RunError("its event file is damaged")

    monkeypatch.setattr("antiphon.terminal.explain.read_run", unread)
    told = cli(f"run valued.yaml {values} --steps 4 --logdir . --name damaged")
    worth = json.loads(Path("damaged/result.json").read_text())["channels"]["n0->n1"]["value"]
    (shown,) = re.findall(r"mean cosine [\d.]+, mean value ([\d.]+)\n", told)
    assert float(shown) == pytest.approx(worth, rel=0.01)


def test_a_measurement_of_some_channels_leaves_the_results_of_others(run: Path, cli: Commands) -> None:
    """Of the same step, in measured.json and in the tab; what all channels are measured by replaces them."""
    names = ["n0->n1", "n1->n2", "n2->n3"]
    for name in names[:2]:
        cli("evaluate", run, ABLATE, "zero --channels", name)
    assert sorted(kept(run)["channels"]) == sorted(kept(run)["ranked"]) == names[:2]
    found = read_run(run)
    assert np.isfinite(found.metrics["channel", "ablation_zero"].values[-1]).tolist() == [True, True, False]
    assert [*found.catalogue()["verdicts"]["measures"][0]["reasons"]] == names[2:]
    alone = kept(run)["channels"]
    told = cli.json("evaluate", run, ABLATE, "zero")["ablation"]
    assert kept(run)["channels"] == told["channels"]
    assert {name: told["channels"][name] for name in names[:2]} == alone
    assert read_run(run).catalogue()["verdicts"]["measures"][0]["reasons"] == {}
    cli("evaluate", run, "--examples 30 --ablate zero --channels", names[0])
    assert (kept(run)["count"], [*kept(run)["channels"]]) == (30, names[:1])  # of other examples
    cli("resume", run, "--steps 5")
    cli("evaluate", run, ABLATE, "zero --channels", names[1])
    assert [*kept(run)["channels"]] == names[1:2]  # another step


@pytest.mark.long
def test_values_of_some_channels_leave_those_of_others_of_the_same_horizon(
    tmp_path: Path, cli: Commands
) -> None:
    run = tmp_path / "run"
    with Simulation(antiphon.load("digits-mlp").resolve(values={"width": 4}), logdir=run) as simulation:
        simulation.run(steps=4)
    for name in ("n0->n1", "n1->n2"):
        cli("evaluate", run, "--value --horizon 2 --repeats 2 --channels", name)
    value = kept_value(run)
    assert [row["name"] for row in value["rows"]] == ["all channels", "n1->n2", "n0->n1"]
    metrics = read_run(run).metrics
    for metric in ("parameter_cosine", "true_cosine", "cosine_ceiling"):
        assert np.isfinite(metrics["channel", metric].values[-1]).tolist() == [True, True, False], metric
    alignment = [value["alignment"][name] for name in ("n0->n1", "n1->n2")]
    for metric, key in (("true_cosine", "cosine"), ("cosine_ceiling", "cosine_ceiling")):
        shown = metrics["channel", metric].values[-1][:2]
        np.testing.assert_allclose(shown, [of[key] for of in alignment], rtol=1e-6)
    for name, settings in (("n0->n1", "--horizon 3 --repeats 2"), ("n1->n2", "--horizon 3 --repeats 3")):
        cli("evaluate", run, f"--value {settings} --channels", name)
        assert [row["name"] for row in kept_value(run)["rows"]] == ["all channels", name]


def kept_value(run: Path) -> Any:
    """What is kept of the value of a run's signals."""
    return json.loads((run / "measured.json").read_text(encoding="utf-8"))["value"]
