"""What a learning signal is worth: 1 for the truth, 0 for nothing, and no bit of the run changed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.core.channel import Channel
from antiphon.engine.core.records import Record
from antiphon.engine.probes.signal_alignment import signal_alignment
from antiphon.engine.probes.truth import true_gradients
from antiphon.engine.probes.value import COUPLING, TrueGradient, ZeroGradient, value
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from antiphon.scenarios.spec import plain
from tests.engine.numbers import assert_same_state, equal, kept, parameters
from tests.engine.probes.probed import EYE, JUDGE, chain, corporation, make, timescales

COSINE = {"kind": "adam", "lr": 0.01, "schedule": {"kind": "cosine", "factor": 0.0}}


MEASURED: dict[str, Callable[[], Simulation]] = {
    "links": lambda: chain("decoupled", link={"drop": 0.3, "noise": 0.1, "bits": 6}),
    "input": lambda: chain("decoupled", link={"drop": 0.3}, input={"kind": "linear"}, agent={"p_update": 0.5}),
    "unlocked": lambda: chain("unlocked", input={"kind": "linear"}),
    "dfa": lambda: chain("locked", feedback={"kind": "dfa", "of": "d"}),
    "trace": lambda: chain("decoupled", gradient={"kind": "linear", "context": ["label"], "trace": 0.5}),
    "clocks": timescales,
    "episodes": lambda: corporation("decoupled", unroll=2),
}  # fmt: skip


def wide(coupling: str, **settings: Any) -> Simulation:
    """A chain with a batch large enough to tell what a few steps bring."""
    return chain(coupling, **{**settings, "training": {"batch": 64, **settings.get("training", {})}})


def measured(simulation: Simulation, **settings: Any) -> Any:
    return value(simulation, **{"horizon": 6, "repeats": 3, **settings})


def test_a_locked_chain_is_worth_what_backpropagation_is() -> None:
    found = measured(wide("locked"))
    assert [row.name for row in found.rows] == [COUPLING, "a->b", "b->c", "c->d"]
    for row in found.rows:
        assert (row.value, row.low, row.high) == pytest.approx((1, 1, 1), abs=1e-9)
        assert row.gain > 3 * row.error > 0
        assert row.ahead == 0
    assert found[COUPLING].gain == pytest.approx(found["c->d"].gain)  # a cut there is a cut for all
    data = json.loads(json.dumps(found.to_dict()))
    assert ([row["name"] for row in data["rows"]][1:], data["horizon"]) == (["a->b", "b->c", "c->d"], 6)
    assert str(found).startswith("value over 6 steps from step 0, 3 repeats\n  all channels: ")
    with pytest.raises(ScenarioError, match=r"^value: 'c->e' was not measured; did you mean 'c->d'\?$"):
        found["c->e"]


@pytest.mark.parametrize(
    "channel",
    [
        {"coupling": "detached"},
        {"coupling": "decoupled", "gradient": {"kind": "linear", "context": ["label"], "apply": False}},
        {"coupling": "decoupled", "gradient": {"kind": "linear", "optimiser": {"kind": "sgd", "lr": 1e-300}}},
    ],
    ids=["detached", "shadow", "zero predictor"],
)
def test_a_signal_that_is_nothing_is_worth_nothing(channel: dict[str, Any]) -> None:
    found = measured(wide(**channel), channels=["a->b"])
    for row in found.rows:
        assert (row.value, row.low, row.high) == (0, 0, 0)
        assert row.synthetic == row.zero > row.true


def test_without_a_signal_a_chain_learns_as_a_detached_one_does() -> None:
    for coupling in ("locked", "decoupled", "delayed"):
        detached, silenced = chain("detached"), chain(coupling)
        silenced.backend = ZeroGradient(silenced._system, list(silenced._system.channels), 0)
        compare(detached, silenced, 6)


@pytest.mark.parametrize(("scene", "ahead"), [("clocks", 4), ("episodes", 7)])
def test_the_truth_put_on_messages_is_that_of_the_step_they_are_made_at(scene: str, ahead: int) -> None:
    """Of senders that learn several ticks at once, over holds and delays, and beyond the ends of episodes."""
    simulation = MEASURED[scene]().fork(stacked=False)
    names = list(simulation._system.channels)
    simulation.run(5)
    simulation.backend = backend = TrueGradient(simulation, names, simulation.fork(), ahead)
    for step in range(5, 17):
        probes = true_gradients(simulation, ahead)
        simulation._advance()
        for name, probe in probes.items():
            channel = simulation._system.channels[name]
            record = channel.ledger.records[step]
            assert backend.applies(channel, record)
            found = backend.signal(channel, record)
            assert found is not None
            torch.testing.assert_close(found, probe.true, atol=1e-12, rtol=0)


@pytest.mark.long
def test_feedback_alignment_is_worth_something_between() -> None:
    found = measured(wide("locked", feedback="fa"), horizon=30, channels=[])[COUPLING]
    assert found.value is not None
    assert 0.01 < found.value < 0.99


def test_a_locked_corporation_is_worth_all_over_its_episodes() -> None:
    row = value(corporation("locked"), horizon=8, repeats=2, channels=[])[COUPLING]
    assert row.synthetic == pytest.approx(row.true, abs=1e-9)
    assert abs(row.gain) > 1e-4
    assert row.ahead == 3
    found = value(corporation("locked"), horizon=2, channels=[])[COUPLING]
    assert found.value is None
    line = "no readout (a, d) learns from a loss in the second half of 2 steps; use a longer horizon"
    assert found.why.endswith(line)


def test_repeats_see_other_examples_and_start_from_the_same_parameters() -> None:
    simulation = chain("decoupled")
    first, both = (
        measured(simulation, repeats=2, channels=[])[COUPLING],
        measured(simulation, channels=[])[COUPLING],
    )
    assert first.zero != both.zero
    assert abs(first.zero - both.zero) < 0.1  # nothing was learned between the repeats


def test_where_the_truth_brings_nothing_there_is_no_value() -> None:
    agents = {"a": {**EYE, "learn": False}, "b": JUDGE}
    found = measured(make(agents, [{"from": "a", "to": "b"}]))
    for row in found.rows:
        assert row.value is row.low is row.high is None
        assert row.gain == row.error == 0
        assert "the truth brings nothing that can be told from chance" in row.why
    assert "a->b: undefined: over this horizon the truth brings nothing" in str(found)


def test_a_run_that_is_over_learns_at_the_rates_its_schedules_started_from() -> None:
    simulation = wide("locked", training={"steps": 10, "optimiser": COSINE})
    simulation.run()
    assert measured(simulation, channels=[])[COUPLING].value == pytest.approx(1, abs=1e-9)


def test_divergence_leaves_no_value_and_is_named() -> None:
    simulation = chain("decoupled", training={"optimiser": {"kind": "sgd", "lr": 1e200}})
    found = measured(simulation)
    assert all(row.value is None for row in found.rows)
    assert "as it is, it diverges: agent" in found[COUPLING].why


def test_divergence_of_one_row_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = wide("decoupled")
    honest = TrueGradient.signal

    def broken(self: TrueGradient, channel: Channel, record: Record) -> Tensor | None:
        true = honest(self, channel, record)
        spoilt = true is not None and channel.name == "a->b" and len(self.names) == 1
        return true * torch.nan if spoilt else true

    monkeypatch.setattr(TrueGradient, "signal", broken)
    found = measured(simulation)
    assert found["a->b"].why.startswith("with a true signal, it diverges: agent 'a'")
    assert found["a->b"].value is None
    assert found["b->c"].why == ""


@pytest.mark.parametrize("horizon", [5, 6])
def test_losses_count_in_the_second_half_of_the_horizon(horizon: int) -> None:
    """With a rate of next to nothing, the losses are those of the parameters there are."""
    simulation = chain("decoupled", training={"optimiser": {"kind": "sgd", "lr": 1e-300}})
    simulation.run(3)
    row = value(simulation, horizon=horizon, repeats=2, channels=[])[COUPLING]
    with simulation.fork(stacked=False) as twin:
        losses = [float(info["losses"]["d"]) for info in (twin.step() for _ in range(2 * horizon))]
    halves = [losses[start + horizon // 2 : start + horizon] for start in (0, horizon)]
    expected = sum(sum(half) / len(half) for half in halves) / 2
    assert (row.true, row.synthetic, row.zero) == pytest.approx((expected,) * 3, rel=1e-12)
    assert abs(expected - sum(losses) / len(losses)) > 1e-4


def test_a_signal_steered_to_the_truth_learns_what_a_locked_one_does_and_to_nothing_what_a_detached_one() -> (
    None
):
    locked, decoupled = (chain(coupling, "layer") for coupling in ("locked", "decoupled"))
    decoupled.backend = TrueGradient(decoupled, list(decoupled._system.channels), decoupled.fork())
    compare(locked, decoupled, 6)
    locked, decoupled = (corporation(coupling, unroll="episode") for coupling in ("locked", "decoupled"))
    decoupled.backend = TrueGradient(decoupled, list(decoupled._system.channels), decoupled.fork())
    compare(locked, decoupled, 12)  # delays over whole episodes
    for coupling in ("locked", "decoupled", "delayed"):
        detached, silenced = chain("detached"), chain(coupling)
        silenced.backend = ZeroGradient(silenced._system, list(silenced._system.channels), 0)
        compare(detached, silenced, 4)


def compare(one: Simulation, other: Simulation, steps: int) -> None:
    """Take steps and hold the parameters of all agents together."""
    for simulation in (one, other):
        for _ in range(steps):
            simulation._advance()
    for name, agent in one.agents.items():
        for key, parameter in agent.parameters.items():
            torch.testing.assert_close(other.agents[name].parameters[key], parameter, atol=1e-9, rtol=0)


def test_messages_sent_before_keep_their_signal() -> None:
    simulation = chain("decoupled", link={"delay": 1})
    simulation.run(10)
    steered = simulation.fork(stacked=False)
    steered.backend = ZeroGradient(steered._system, ["a->b"], 11)  # what is sent at step 10 is not meant
    for same in (True, False):
        simulation.step()
        steered.step()
        assert equal(parameters(steered, "a"), parameters(simulation, "a")) is same


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("unlocked", "dfa", "clocks") else pytest.mark.long) for n in MEASURED],
)
def test_every_coupling_can_be_measured_and_keeps_its_bits(name: str) -> None:
    simulation = MEASURED[name]()
    simulation.run(9)
    before = kept(simulation._state_dict())
    found = value(simulation, horizon=8, repeats=2, channels=list(simulation.channels)[:1])
    assert_same_state(simulation, before)
    for row in found.rows:
        assert row.why == "" or row.value is None
        # Who reads stand-ins alone loses the same whatever the message: what differs there is rounding.
        assert row.true != row.zero or name == "unlocked"
        assert row.synthetic == pytest.approx(row.zero, abs=1)


def test_a_run_has_its_values_and_the_cosines_of_its_parameter_gradients(tmp_path: Path) -> None:
    own = wide("decoupled").scenario
    fields = {name: getattr(own, name) for name in type(own).model_fields}
    telemetry = plain(own.telemetry) | {"value": {"every": 4, "horizon": 6}}
    scenario, settings = Scenario(**{**fields, "telemetry": telemetry}), {"dtype": torch.float64}
    with Simulation(scenario, logdir=tmp_path / "run", **settings) as simulation:
        simulation.run(4)
        signals = signal_alignment(simulation)
    with (tmp_path / "run/metrics.csv").open(encoding="utf-8") as table:
        rows = [row for row in csv.DictReader(table) if row["step"] == "4"]
    found = {(row["name"], row["metric"]): float(row["value"]) for row in rows}
    assert found["", "value_seconds"] > 0
    assert {name for name, metric in found if metric == "parameter_cosine"} == {"a->b", "b->c", "c->d"}
    for name in simulation.channels:
        assert found[name, "parameter_cosine"] == pytest.approx(signals[name].parameter_cosine, rel=1e-6)
        assert found[name, "value_low"] <= found[name, "value"] <= found[name, "value_high"]
