"""Quarantine: what diverges learns no more and falls silent; the others go on (semantics 32)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError
from antiphon.scenarios import Scenario
from tests.engine.numbers import equal, fill, one_line, parameters, predictor_of
from tests.engine.scenes import CLASSIFY, scenario_of

BATCH = 8
LAYER = {"kind": "mlp", "hidden": [6], "norm": "none", "activation": "tanh"}


def fork_of_two(*, clock: dict[str, Any] | None = None, **training: Any) -> Scenario:
    """Two eyes that tell one mind; each knows what it is for."""
    agents = {
        eye: {"observes": [f"{eye}_half"], "network": LAYER, "clock": clock or {}}
        for eye in ("left", "right")
    }
    channel = {"to": "mind", "size": 4, "norm": "none", "gradient": {"context": ["label"]}}
    return scenario_of(
        {**agents, "mind": {"network": LAYER, "objective": CLASSIFY}},
        [{"from": eye, **channel} for eye in agents],
        **{"batch": BATCH, "on_divergence": "quarantine", **training},
    )


def poison(simulation: Simulation, channel: str, value: float) -> None:
    """Let a channel's predictor say something enormous, or no number at all."""
    fill(predictor_of(simulation, channel), value)


def last_message(simulation: Simulation, channel: str) -> Tensor:
    """What the receiver reads of the newest message."""
    mailbox = simulation._system.channels[channel].mailbox
    reading = mailbox.receive(simulation.now - 1)
    return torch.zeros(BATCH, 4) if reading.value is None else reading.value


@pytest.mark.parametrize(("value", "bound"), [(1e6, 100.0), (float("nan"), None), (float("inf"), None)])
def test_a_diverging_agent_stays_as_it_was_and_the_others_go_on(value: float, bound: float | None) -> None:
    with Simulation(fork_of_two(bound=bound)) as simulation:
        simulation.run(5)
        assert simulation.events == []
        poison(simulation, "left->mind", value)
        before = {name: parameters(simulation, name) for name in ("left", "right", "mind")}
        simulation.step()
        assert equal(before["left"], parameters(simulation, "left"))
        for name in ("right", "mind"):
            assert not equal(before[name], parameters(simulation, name))
        simulation.run(10)
        assert equal(before["left"], parameters(simulation, "left"))
        assert all(bool(p.isfinite().all()) for name in before for p in parameters(simulation, name))
        step, line = simulation.events[0]
        assert step == 5
        assert "left" in line
        assert "\n" not in line
        assert simulation._system.agents["left"].agent_disabled
        assert not simulation._system.agents["right"].agent_disabled
        assert simulation.agents["left"].updates == 5
        assert simulation.agents["right"].updates == 16


def test_its_messages_fall_silent_and_count_no_more() -> None:
    with Simulation(fork_of_two(bound=100.0)) as simulation:
        simulation.run(5)
        poison(simulation, "left->mind", 1e6)
        simulation.run(3)
        assert not last_message(simulation, "left->mind").any()
        assert last_message(simulation, "right->mind").any()
        record = simulation._system.channels["left->mind"].ledger.records[simulation.now - 1]
        assert not record.complete
        assert "left->mind" not in simulation.learned.predictor_updates
        assert "right->mind" in simulation.learned.predictor_updates


def test_nothing_re_enters_by_itself() -> None:
    with Simulation(fork_of_two(bound=100.0)) as simulation:
        simulation.run(3)
        poison(simulation, "left->mind", 1e6)
        simulation.step()
        poison(simulation, "left->mind", 0.0)
        before = parameters(simulation, "left")
        simulation.run(10)
        assert equal(before, parameters(simulation, "left"))
        assert len([line for _, line in simulation.events if "left" in line]) >= 1


@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_a_diverging_predictor_is_muted_and_its_sender_goes_on(value: float) -> None:
    """A shadow injects nothing, so that only the predictor is at fault."""
    document = fork_of_two(bound=1e6).model_dump(mode="json")
    document["channels"][0]["gradient"]["apply"] = False
    document["agents"]["left"]["objective"] = CLASSIFY
    with Simulation(Scenario.model_validate(document)) as simulation:
        simulation.run(5)
        poison(simulation, "left->mind", value)
        predictor = predictor_of(simulation, "left->mind")
        before = [p.clone() for p in predictor.parameters.values()]
        left = parameters(simulation, "left")
        simulation.run(4)
        assert equal(
            [torch.nan_to_num(p) for p in before],
            [torch.nan_to_num(p) for p in predictor.parameters.values()],
        )
        assert simulation._system.channels["left->mind"].predictor_disabled
        assert not simulation._system.agents["left"].agent_disabled
        assert not equal(left, parameters(simulation, "left"))
        assert last_message(simulation, "left->mind").any()
        ((step, line),) = simulation.events
        assert step == 5
        assert "left->mind" in line


def test_a_locked_group_is_silenced_as_one() -> None:
    document = fork_of_two(bound=100.0).model_dump(mode="json")
    document["agents"]["ear"] = {"observes": ["image"], "network": LAYER}
    document["channels"].append(
        {"from": "ear", "to": "left", "size": 4, "norm": "none", "coupling": "locked"}
    )
    with Simulation(Scenario.model_validate(document)) as simulation:
        simulation.run(3)
        poison(simulation, "left->mind", 1e6)
        before = {name: parameters(simulation, name) for name in ("ear", "left", "right")}
        simulation.run(3)
        assert equal(before["ear"], parameters(simulation, "ear"))
        assert equal(before["left"], parameters(simulation, "left"))
        assert not equal(before["right"], parameters(simulation, "right"))
        assert "ear" in simulation.events[0][1]


def test_without_quarantine_the_run_stops_at_the_bound() -> None:
    with Simulation(fork_of_two(on_divergence="stop", bound=100.0)) as simulation:
        simulation.run(5)
        poison(simulation, "left->mind", 1e6)
        before = {name: parameters(simulation, name) for name in ("left", "right", "mind")}
        with one_line("'left'", DivergenceError):
            simulation.step()
        for name, found in before.items():
            assert equal(found, parameters(simulation, name))


def test_the_bound_is_on_what_reaches_parameters() -> None:
    """What an agent returns is per sample, and as many times longer as the batch is large: no bound is on that."""
    largest = 0.0
    with Simulation(fork_of_two(), stacked=False) as simulation:  # stacks let their predictors' gradients go
        for _ in range(5):
            simulation.step()
            learned = simulation.learned
            found: list[Sequence[Tensor | None]] = [
                lesson.gradients for lesson in learned.predictor_updates.values()
            ]
            found += [g for update in learned.updates for g in update.gradients.values()]
            largest = max([largest, *(norm_of(gradients) for gradients in found)])
    with Simulation(fork_of_two(bound=largest * 1.01)) as simulation:
        simulation.run(5)
        assert simulation.events == []
    with Simulation(fork_of_two(bound=largest * 0.99)) as simulation:
        simulation.run(5)
        assert len(simulation.events) == 1


def norm_of(gradients: Sequence[Tensor | None]) -> float:
    return float(torch.stack([g.norm() for g in gradients if g is not None]).norm())


def test_a_bound_that_is_never_reached_changes_no_bit() -> None:
    found = []
    for training in ({"bound": 1e6}, {}, {"on_divergence": "stop"}):
        with Simulation(fork_of_two(**training)) as simulation:
            simulation.run(10)
            found.append([p for name in ("left", "mind") for p in parameters(simulation, name)])
    assert equal(found[0], found[1])
    assert equal(found[1], found[2])


def test_a_message_that_is_no_number_is_silent_before_anyone_reads_it() -> None:
    """The eye whose output overflows is the only one harmed: the mind goes on, and learns from the other."""
    with Simulation(fork_of_two()) as simulation:
        simulation.run(3)
        for name, parameter in simulation.agents["left"].parameters.items():
            if name.startswith("to_mind"):
                parameter.data.fill_(torch.inf)
        before = parameters(simulation, "mind")
        simulation.run(3)
        assert not simulation._system.agents["mind"].agent_disabled
        assert not equal(before, parameters(simulation, "mind"))
        assert all(bool(p.isfinite().all()) for p in simulation.agents["mind"].parameters.values())
        assert not bool(last_message(simulation, "left->mind").any())


@pytest.mark.parametrize("count", [1, 3], ids=["lone", "stacked"])
@pytest.mark.parametrize("backend", ["reference", "cohort", "native"])
def test_running_statistics_of_a_receiver_stay_finite(backend: str, count: int) -> None:
    """The first eye's messages are finite, and of length 1e22 at one step; it is disabled at once, and its mind goes on."""
    see = {"kind": "regression", "target": "right_half"}
    eye = {"observes": ["left_half"], "network": {**LAYER, "activation": "relu"}, "objective": see}
    batch_norm = {"kind": "mlp", "hidden": [16], "norm": "batch"}
    mind = {"observes": ["right_half"], "network": batch_norm, "objective": CLASSIFY}
    agents = {f"{kind}{i}": own for kind, own in (("eye", eye), ("mind", mind)) for i in range(count)}
    agents["eye0"] = {**eye, "optimiser": {"kind": "sgd", "lr": 1e22}}
    channels = [{"from": f"eye{i}", "to": f"mind{i}", "coupling": "detached"} for i in range(count)]
    scenario = scenario_of(
        agents, channels, readout="mind0", batch=32, on_divergence="quarantine", optimiser={"lr": 0.01}
    )
    with Simulation(scenario, backend=backend) as simulation:
        simulation.run(2)
        assert [(step, line[:12]) for step, line in simulation.events] == [(1, "agent 'eye0'")]
        simulation.run(100)
        statistics = simulation.agents["mind0"].module.state_dict()
        assert all(bool(one.isfinite().all()) for one in statistics.values())
        accuracy = simulation.evaluate(links="as_run").accuracy
        assert accuracy is not None
        assert accuracy > 0.5
