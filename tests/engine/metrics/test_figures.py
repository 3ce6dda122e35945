"""Figures: what a step says is the same however its agents are run, and looking at it costs nothing of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from antiphon.engine.metrics.figures import LARGEST, figures, sampled_at, samples
from antiphon.engine.probes.language import entropy
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from antiphon.telemetry import Figure, Recorder
from tests.engine.numbers import all_parameters, equal
from tests.engine.scenes import CLASSIFY, scenario_of


def ring(link: Mapping[str, Any] | None = None, **channel: Any) -> Scenario:
    """Four agents in a ring that each see the image and name its label."""
    network = {"kind": "mlp", "hidden": [8], "norm": "none"}
    agent = {"observes": ["image"], "network": network, "objective": CLASSIFY}
    one = {"size": 4, "norm": "none", "link": {"delay": 1, **(link or {})}, **channel}
    channels = [{"from": f"a{i}", "to": f"a{(i + 1) % 4}", **one} for i in range(4)]
    found = scenario_of(
        {f"a{i}": agent for i in range(4)}, channels, telemetry={"every": 3}, batch=6, steps=30
    )
    return found.model_copy(update={"readout": ("a0",)})


def table(simulation: Simulation, step: int) -> dict[tuple[str, str, str], float]:
    rows = figures(simulation, step, simulation.train_means.pop())
    assert len({row[:3] for row in rows}) == len(rows), "a figure comes once"
    return {row[:3]: row.value for row in rows}


def test_energy_is_the_root_of_the_mean_square() -> None:
    with Simulation(ring(), backend="cohort") as simulation:
        simulation._advance(watch=True)
        found = table(simulation, 0)
        records = simulation._system.channels["a1->a2"].ledger.records
        message = records[max(records)].message
    assert found["channel", "a1->a2", "message_energy"] == pytest.approx(
        message.square().mean().sqrt().item()
    )
    assert found["channel", "a1->a2", "message_std"] == pytest.approx(message.std(correction=0).item())


def test_the_entropy_and_the_traffic_of_symbols() -> None:
    scenario = ring(size=None, symbols={"vocabulary": 4, "length": 2})
    with Simulation(scenario, backend="cohort") as simulation:
        simulation._advance(watch=True)
        found = table(simulation, 0)
        entropies = []
        for name, channel in simulation._system.channels.items():
            symbols = channel.ledger.records[0].message.view(6, 2, 4).argmax(2)
            entropies.append(sum(entropy(symbols[:, i]) for i in range(2)) / 2)
            assert found["channel", name, "symbol_entropy"] == pytest.approx(entropies[-1], abs=1e-5)
            assert found["channel", name, "traffic"] == pytest.approx(2 * math.log2(4))
    assert len(set(entropies)) > 1
    assert not any(metric == "symbol_entropy" for _, _, metric in table(Simulation(ring()), 0))


def test_what_is_injected_has_the_mean_norm_of_its_samples() -> None:
    with Simulation(
        ring(gradient={"kind": "linear", "context": ["label"]}), seed=2, backend="reference"
    ) as simulation:
        for _ in range(4):
            simulation._advance(watch=True)
        found = table(simulation, 3)
        (put,) = [u.injected["a1->a2"] for u in simulation.learned.updates if "a1->a2" in u.injected]
    assert put.norm() > 0
    assert found["channel", "a1->a2", "injection_norm"] == pytest.approx(put.norm(dim=1).mean().item())


def test_labels_that_are_no_class_are_none() -> None:
    with Simulation(ring(), seed=1, backend="reference") as simulation:
        simulation._advance()
        for channel in simulation._system.channels.values():
            signals = channel.ledger.records[0].step_signals.signals
            signals["label"] = signals["label"].clone()
            signals["label"][2] = -1
        found = dict(samples(simulation._system, simulation.scenario))
    assert np.flatnonzero(np.isnan(found["a0->a1"][:, -1])).tolist() == [2]


def test_samples_are_the_newest_messages_with_their_labels() -> None:
    scenario = ring().model_copy(update={"telemetry": ring().telemetry.model_copy(update={"top": 2})})
    for backend in ("reference", "cohort"):
        with Simulation(scenario, seed=1, backend=backend) as simulation:
            simulation._advance(watch=True)
            simulation._advance(watch=True)
            found = dict(samples(simulation.backend.view(), scenario))
            assert list(found) == ["a3->a0", "a0->a1"], "those to readouts come first"
            record = simulation._system.channels["a3->a0"].ledger.records[1]
            np.testing.assert_allclose(found["a3->a0"][:, :-1], record.message.detach().numpy(), rtol=1e-6)
            np.testing.assert_array_equal(
                found["a3->a0"][:, -1], record.step_signals.signals["label"].numpy()
            )


def test_long_messages_are_left_out_and_many_are_cut_short() -> None:
    with Simulation(ring(size=LARGEST + 1)) as simulation:
        simulation._advance()
        assert samples(simulation._system, simulation.scenario) == []
    many = ring(size=240).with_training(batch=200)
    with Simulation(many) as simulation:
        simulation._advance()
        (_, rows), *_ = samples(simulation._system, simulation.scenario)
    assert rows.shape == (33, 241)


def test_messages_are_sampled_at_the_first_every_tenth_and_the_last_row() -> None:
    assert [step + 1 for step in range(67) if sampled_at(step, 3, 67)] == [1, 30, 60, 67]


class Listener(Recorder):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def figures(self, step: int, rows: Any) -> None:
        self.told.append(("figures", step))
        assert all(isinstance(row, Figure) and not math.isinf(row.value) for row in rows)

    def samples(self, step: int, rows: Any) -> None:
        self.told.append(("samples", step))


def test_recorders_are_told_at_the_rows_and_no_bit_moves() -> None:
    quiet, watched = Simulation(ring(), seed=5), Simulation(ring(), seed=5)
    listener = Listener()
    watched.recorders.append(listener)
    with quiet, watched:
        quiet.run(steps=7)
        watched.run(steps=7)
        assert watched.graph.number_of_edges() == 4
        assert equal(all_parameters(quiet), all_parameters(watched))
    assert [step for kind, step in listener.told if kind == "figures"] == [1, 3, 6, 7]
    assert [step for kind, step in listener.told if kind == "samples"] == [1, 7]


def test_a_loss_is_the_mean_since_the_row_before() -> None:
    with Simulation(ring(), seed=5) as simulation:
        history = simulation.history
        losses = [float(simulation.step()["losses"]["a0"]) for _ in range(9)]
        steps, values = history.of("a0", "loss")
    assert steps.tolist() == [1, 3, 6, 9]
    means = [losses[0], np.mean(losses[1:3]), np.mean(losses[3:6]), np.mean(losses[6:9])]
    assert values == pytest.approx(means, rel=1e-5)


class Histograms(Recorder):
    """Keeps the steps at which arrays come, and the arrays."""

    def __init__(self) -> None:
        self.told: dict[int, list[tuple[str, str, str, np.ndarray[Any, Any]]]] = {}

    def histograms(self, step: int, rows: Any) -> None:
        self.told[step] = list(rows)


def test_histograms_are_told_at_the_rows_of_the_figures() -> None:
    scenario = ring()
    telemetry = scenario.telemetry.model_copy(update={"histograms": True})
    listener = Histograms()
    with Simulation(scenario.model_copy(update={"telemetry": telemetry}), seed=5) as simulation:
        simulation.recorders.append(listener)
        simulation.run(steps=7)
        records = simulation._system.channels["a0->a1"].ledger.records
        newest = records[6].message.detach().numpy()
    assert list(listener.told) == [1, 3, 6, 7]
    (row,) = [row for row in listener.told[7] if row[:3] == ("channel", "a0->a1", "message")]
    assert np.array_equal(row[3], newest)


@pytest.mark.parametrize(("delay", "period"), [(0, 1), (0, 3), (1, 1), (1, 2), (3, 2)])
def test_age_is_counted_from_the_newest_message_that_has_crossed(delay: int, period: int) -> None:
    net = {"kind": "mlp", "hidden": [4], "norm": "none"}
    agents = {
        "a": {"observes": ["image"], "network": net, "clock": {"period": period}},
        "b": {"network": net, "objective": CLASSIFY},
    }
    link = {"from": "a", "to": "b", "size": 3, "norm": "none", "link": {"delay": delay}}
    with Simulation(scenario_of(agents, [link], telemetry={"every": 1}, batch=4, steps=12)) as simulation:
        history = simulation.history
        simulation.run()
        steps, ages = history.of("a->b", "age")
    sent = range(0, 12, period)
    expected = {
        now + 1: now - max(stamp for stamp in sent if stamp + delay <= now) for now in range(delay, 12)
    }
    assert dict(zip(steps.tolist(), ages.tolist(), strict=True)) == expected
