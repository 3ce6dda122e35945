"""States as contexts of predictors: delayed, copied and recorded (semantics 15, 25)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.metrics.figures import of_channels
from antiphon.engine.simulation import Simulation
from tests.engine.recurring import GOAL, LENGTHS, LINEAR, STATE, STEPS, flags, make, played
from tests.numerics.played import Played

TRACED = {**LINEAR, "trace": 0.5, "span": 3}
MIND: dict[str, Any] = {"network": {"kind": "gru", "size": 3}, "objective": GOAL}


# --- what predictors are told of the states of the two ends ---------------------------------------------------


@pytest.mark.parametrize("ends", [{"endless": True}, {"truncated": flags(0, 3)}, {"lengths": LENGTHS}])
@pytest.mark.parametrize(
    ("delay", "periods"), [(0, (1, 1)), (1, (1, 1)), (3, (1, 2)), (2, (2, 3)), (1, (3, 1))]
)
def test_contexts_hold_the_states_that_had_crossed_the_link(
    delay: int, periods: tuple[int, int], ends: dict[str, Any]
) -> None:
    source = played(**ends)
    gradient = {"kind": "linear", "context": ["from.state", "to.state"]}
    others = {"b": {**MIND, "clock": {"period": periods[1], "phase": -1}}}
    channel = {"from": "a", "to": "b", "size": 2, "gradient": gradient, "link": {"delay": delay}}
    own: dict[str, Any] = {"clock": {"period": periods[0], "unroll": 1}}
    made: dict[str, dict[int, Tensor]] = {"a": {}, "b": {}}
    told: dict[int, dict[str, Tensor]] = {}
    with make(source, LINEAR, others=others, channels=[channel], **own) as simulation:
        ledger = simulation._system.channels["a->b"].ledger
        for step in range(STEPS):
            simulation.step()
            for name in "ab":
                memory = simulation._system.agents[name].memory
                assert memory is not None
                if step in memory.ledger.records:
                    made[name][step] = memory.ledger.records[step].message
            if step in ledger.records:
                told[step] = ledger.records[step].states
    assert len(told) == STEPS // periods[0]
    crossed = 0
    for step, states_of in told.items():
        assert torch.equal(states_of["from.state"], made["a"][step])
        known = [t for t in made["b"] if t <= step - delay and (delay or t < step)]
        assert ("to.state" in states_of) == bool(known)
        if known:
            crossed += 1
            expected = made["b"][max(known)].clone()
            for gone in range(max(known), step):
                expected[torch.logical_or(*source.ends(gone))] = 0
            assert torch.equal(states_of["to.state"], expected)
    assert crossed > 5


def test_a_predictor_is_asked_and_taught_with_the_same_states() -> None:
    gradient = {"kind": "linear", "context": ["from.state", "to.state"]}
    channel = {"from": "a", "to": "b", "size": 2, "gradient": gradient, "link": {"delay": 2}}
    with make(played(terminated=flags(1)), LINEAR, others={"b": MIND}, channels=[channel]) as simulation:
        asked: dict[tuple[float, ...], Tensor] = {}
        trainer, taught = simulation.backend.predictor_trainer, 0
        for _ in range(STEPS):
            step = simulation.now
            simulation.step()
            for each, records in [
                (c, c.ledger.records) for c in simulation._system.channels.values() if c.ends
            ]:
                if step in records:
                    found = trainer.example(each, records[step], answered=False)
                    assert found is not None
                    assert found.context is not None
                    asked[tuple(records[step].message.flatten().tolist())] = found.context
            lesson = simulation.learned.predictor_updates.get("a->b")
            for example in lesson.examples if lesson is not None else []:
                taught += 1
                assert example.context is not None
                assert torch.equal(asked[tuple(example.message.flatten().tolist())], example.context)
        assert taught > 20


# --- forks and checkpoints -----------------------------------------------------------------------------------


def test_a_copy_remembers_which_gradients_of_states_were_outliers(tmp_path: Path) -> None:
    """Whether or not one comes."""

    def known(simulation: Simulation) -> list[dict[str, Any]]:
        channels = simulation._system.channels.values()
        return [channel.outliers.state_dict() for channel in channels if channel.outliers is not None]

    with make(played(terminated=flags(0), truncated=flags(2)), TRACED) as simulation:
        simulation.run(13)
        loaded = Simulation.load(simulation.save(tmp_path / "saved"), simulation.scenario)
        assert known(simulation.fork()) == known(loaded) == known(simulation)
        assert known(simulation)[0]["seen"]


# --- recording -----------------------------------------------------------------------------------------------


def test_a_state_its_gradient_and_its_prediction_can_be_recorded() -> None:
    with make(played(endless=True), LINEAR, unroll=2) as simulation:
        recording = simulation.channels[STATE].record(["message", "delta", "prediction"])
        expected, told, injected = [], [], []
        for step in range(8):
            simulation.step()
            expected.append(simulation._system.channels[STATE].ledger.records[step].message)
            lesson = simulation.learned.predictor_updates.get(STATE)
            told += [] if lesson is None else [lesson.examples[-1].delta]
            injected += [u.injected[STATE] for u in simulation.learned.updates if STATE in u.injected]
        assert torch.equal(recording.stack("message"), torch.stack(expected))
        assert recording.steps["message"] == list(range(8))
        assert recording.steps["delta"] == [3, 5, 7]
        assert recording.steps["prediction"] == [1, 3, 5, 7]
        assert torch.equal(recording.stack("delta"), torch.stack(told))  # type: ignore[arg-type]
        assert torch.equal(recording.stack("prediction"), torch.stack(injected))
        assert isinstance(simulation.scenario.env, Played)


# --- what it costs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["reference", "cohort"])
@pytest.mark.parametrize(
    ("context", "period", "bits", "more"),
    [
        ([], 1, None, 0.0),
        (["from.state", "returned", "to.phase"], 1, None, 0.0),  # at the sender already, or known to it
        (["to.state"], 1, None, 3 * 64),
        (["to.state"], 3, None, 3 * 64 / 3),  # once at every tick of the receiver
        (["to.state"], 1, 4, 3 * 64),  # a state is not rounded
    ],
)
def test_the_state_of_the_far_end_is_counted_as_traffic(
    backend: str, context: list[str], period: int, bits: int | None, more: float
) -> None:
    gradient = {"kind": "linear", "context": context}
    link = {"delay": 1} | ({} if bits is None else {"bits": bits})
    channel = {"from": "a", "to": "b", "size": 2, "gradient": gradient, "link": link}
    others = {"b": {**MIND, "clock": {"period": period, "phase": -1}}}
    with make(played(endless=True), LINEAR, others=others, channels=[channel]) as simulation:
        simulation._rerun_on(backend)
        simulation.run(4)
        system, learned = simulation.backend.view(), simulation.learned.stacks
        found = {
            name: value
            for row in of_channels(system, learned, simulation.now - 1)
            if row.metric == "traffic"
            for name, value in zip(row.names, row.values, strict=True)
        }
    assert found == {"a->b": 2 * (bits or 64) + more}
