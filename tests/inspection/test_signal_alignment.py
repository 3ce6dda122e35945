"""What a channel's signal does to its sender's parameters, beside what the true gradient would."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from tests.engine.numbers import unchanged
from tests.inspection.probed import EYE, JUDGE, chain, corporation, make
from tests.kit.documented import signal_alignment
from tests.kit.some import some


def test_a_mean_lies_between_its_ends_and_no_bit_of_the_simulation_changes() -> None:
    simulation = chain("decoupled")
    simulation.run(10)
    with unchanged(simulation):
        found = signal_alignment(simulation, messages=6)
    assert found.keys() == {"a->b", "b->c", "c->d"}
    for row in found.values():
        assert row.messages == 6
        assert -1 <= row.parameter_low < row.parameter_cosine < row.parameter_high <= 1
    assert found["c->d"].parameter_cosine > found["a->b"].parameter_cosine


@pytest.mark.long
def test_an_untrained_signal_causes_nothing_and_one_against_the_truth_is_negative() -> None:
    simulation = chain("decoupled")
    row = signal_alignment(simulation, channels=["c->d"], messages=2)["c->d"]
    assert (row.cosine, row.parameter_cosine, row.parameter_norm_ratio) == (0, 0, 0)
    simulation.run(40)
    before = signal_alignment(simulation, channels=["c->d"])["c->d"]
    for p in some(simulation.channels["c->d"].synthetic_gradient).parameters.values():
        p.data.neg_()
    after = signal_alignment(simulation, channels=["c->d"])["c->d"]
    assert after.parameter_cosine == pytest.approx(-before.parameter_cosine, abs=1e-10)
    assert after.cosine == pytest.approx(-before.cosine, abs=1e-10)


@pytest.mark.long
def test_a_common_error_hides_in_the_messages_and_shows_in_the_parameters() -> None:
    """Where samples disagree their sum is small: a little of one direction in every message outweighs it."""
    simulation = chain("decoupled", norm="none")
    simulation.run(100)
    before = signal_alignment(simulation, channels=["c->d"], messages=8)["c->d"]
    assert before.parameter_cosine > 0.6
    some(simulation.channels["c->d"].synthetic_gradient).parameters["last.bias"].data += 0.2
    found = signal_alignment(simulation, channels=["c->d"], messages=8)["c->d"]
    assert found.cosine > 0.6
    assert found.parameter_cosine < 0.1


@pytest.mark.long
def test_modules_cycles_and_locked_groups() -> None:
    modules = {
        "eye": nn.Sequential(nn.Linear(64, 9), nn.Tanh(), nn.Linear(9, 5)),
        "mid": nn.Sequential(nn.Tanh(), nn.Linear(5, 6)),
    }
    agents: dict[str, Any] = {name: {"network": module} for name, module in modules.items()}
    agents["eye"]["observes"] = ["image"]
    channels = [
        {"from": "eye", "to": "mid", "size": 5},
        {"from": "mid", "to": "judge", "size": 6, "coupling": "locked"},
    ]
    for simulation in (corporation("decoupled"), make({**agents, "judge": JUDGE}, channels)):
        simulation.run(12)
        found = signal_alignment(simulation, messages=4)
        assert list(found) == [n for n, c in simulation.channels.items() if c.synthetic_gradient is not None]
        assert all(0 < abs(row.parameter_cosine) < 1 for row in found.values())


@pytest.mark.long
def test_frozen_senders_and_messages_without_a_truth_have_no_row() -> None:
    agents = {"a": EYE, "b": JUDGE, "frozen": {**EYE, "learn": False}}
    channels = [{"from": "a", "to": "b", "link": {"delay": 3}}, {"from": "frozen", "to": "b"}]
    assert signal_alignment(make(agents, channels), ahead=2) == {}
