"""What is said of channels without a value: why, and how long measuring again takes where it may give one."""

from __future__ import annotations

import re

import pytest
import yaml

import antiphon
from antiphon import Scenario, Simulation
from antiphon.base.spec import plain
from antiphon.inspection.value import Value, Values, circumstances, value_of, value_rows, without_value
from antiphon.telemetry import Recorder
from tests.inspection.probed import chain

ALL = "all channels"
COSINE = {"kind": "adam", "lr": 0.01, "schedule": {"kind": "cosine", "scale": 0.0}}


def row(name: str, gain: float, error: float) -> Value:
    return Value(name, None, None, None, 1.0, 1.0, 1.0, gain, error, 0.0, 0, 1.0, "why")


@pytest.mark.parametrize(
    ("gains", "seconds", "options", "words"),
    [
        ([0.01, -0.1], 33.0, ["--horizon", "50", "--repeats", "27"], "about 5 minutes, and may give 1 of 2"),
        ([0.01, 0.02], 33.0, ["--horizon", "50", "--repeats", "27"], "about 5 minutes, and may give 2 of 2"),
        ([0.01], 3000.0, [], "within 30 minutes: over 50 steps the nearest needs 27 repeats, about 8 hours;"),
        (
            [0.001],
            30.0,
            ["--horizon", "200", "--repeats", "5"],
            "about 3 minutes, as over 50 steps the nearest needs",
        ),
        (
            [-0.01, 0.0],
            30.0,
            ["--horizon", "200", "--repeats", "5"],
            "over 50 steps no true gradient of theirs gains anything and gains grow with the horizon",
        ),
        (
            [-0.01, 0.0],
            300.0,
            [],
            "more repeats cannot resolve it: over 50 steps no true gradient of theirs gains",
        ),
    ],
)
def test_measuring_again_is_advised_at_its_cost_where_it_may_help(
    gains: list[float], seconds: float, options: list[str], words: str
) -> None:
    """With repeats by the standard error, which falls with their root; else with a longer horizon, unless rates have fallen."""
    rows = tuple(row(f"a->{place}", gain, 0.01) for place, gain in enumerate(gains))
    rows += (row(ALL, gains[0], 0.01),)
    measured, names = Values(rows, 100, 50, 3, seconds), [each.name for each in rows]
    found = without_value(measured, names, "known", fallen=False)
    assert [*found.again] == (["--value", *options] if options else [])
    assert words in (found.cost or found.instead)
    late = without_value(measured, names, "known", fallen=True)
    assert ("--horizon" in late.again) == ("27" in late.again)


def test_keys_of_a_scenario_that_are_advised_can_be_written_as_they_stand() -> None:
    own = chain("decoupled").scenario
    fields = {name: getattr(own, name) for name in type(own).model_fields}
    measured = Values((row("a->b", -0.1, 0.01), row(ALL, -0.1, 0.01)), 100, 50, 3, 30.0)
    with Simulation(own) as simulation:
        known = circumstances(simulation.running).replace("…", "100")
    for line in (without_value(measured, ["a->b"], "", fallen=False).cost, known):
        (given,) = re.findall(r"telemetry: (\{.*\})", line)
        spec = Scenario(**fields | {"telemetry": yaml.safe_load(given)}).telemetry.value
        assert spec is not None
        assert spec.period == 100
    assert "{value: {period: 100, horizon: 200}}" in without_value(measured, ["a->b"], "", fallen=False).cost


def test_a_channel_without_a_value_is_better_or_worse_than_none_or_neither() -> None:
    """By the losses with its signal and with none, which the run logs."""
    losses = (
        ("better than none", (0.4, 0.2, 0.5)),
        ("worse than none", (0.4, 0.6, 0.39)),
        ("not resolved", (0.4, 0.4, 0.5)),
        ("worse than none", (0.4, 0.6, 0.5)),  # also where true gradients lose
    )
    for words, (zero, synthetic, true) in losses:
        found = value_of("a->b", [(true + 0.01 * n, synthetic + 0.01 * n, zero) for n in (-1, 0, 1)], 0, 1.0)
        assert found.value is None
        assert found.why.startswith(f"{words}; over this horizon true gradients ")
        assert ("lose significantly" in found.why) == (true == 0.5)
        metrics = {row.metric: row.value for row in value_rows(Values((found,), 0, 50, 3, 1.0))}
        own = zero - synthetic
        half = (metrics.pop("own_gain_high") - metrics.pop("own_gain_low")) / 2
        assert metrics == pytest.approx(
            {"loss_zero": zero, "loss_synthetic": synthetic, "loss_true": true, "own_gain": own}
        )
        assert (abs(own) > half) == (words != "not resolved")
    assert (
        "(loss with no signal 0.4, with its own 0.6, with the true gradient 0.5, no signal − own -0.2 [-0.22, -0.18], gain -0.1, "
        "standard error 0.0058)" in found.why
    )


@pytest.mark.parametrize("valued", [False, True])
def test_after_a_run_whose_rates_have_fallen_it_is_said_that_forks_learn_at_the_first(valued: bool) -> None:
    """And a run that measures values itself is not advised to."""
    own = chain("decoupled", training={"steps": 9, "optimiser": COSINE}).scenario
    fields = {name: getattr(own, name) for name in type(own).model_fields}
    measures = {"telemetry": {"value": {"period": 100, "horizon": 2}}} if valued else {}
    with Simulation(Scenario(**fields | measures)) as simulation:
        simulation.run(5)
        assert "first rates" not in circumstances(simulation.running)
        simulation.run()
        said = circumstances(simulation.running)
    where = "which earlier steps show" if valued else "which telemetry: {value: {period: …}} measures"
    assert where in said
    assert "forks learn at its first rates (up to 0.01, it ended at 0.000" in said


class Followed(Recorder):
    """How far measurements are, as they are told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def measuring(self, step: int, done: int, total: int) -> None:
        """Keep how many of how many are done."""
        self.told.append((done, total))


def test_a_measurement_that_ends_early_is_told_to_have_ended() -> None:
    """The second half of the horizon of its second repeat has no step with a label."""
    values = {"agents": 6, "readouts": 1, "width": 4, "neighbours": 2, "steps": 4}
    document = plain(antiphon.load("corporation").resolve(values=values))
    telemetry = {"period": 4, "max": 1, "value": {"period": 4, "horizon": 2}}
    followed = Followed()
    with Simulation(Scenario(**{**document, "telemetry": telemetry})) as simulation:
        simulation.recorders.append(followed)
        simulation.run()
    assert followed.told == [(1, 3), (3, 3)]
