"""Training of stacked predictors: each predicts, learns and is disabled as its channel's own would be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.comms.stacked import StackedModels
from antiphon.comms.synthetic_gradients import Example
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.updates import PredictorUpdate
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.predictors import PredictorTrainer
from antiphon.errors import DivergenceError
from tests.contracts.builders import LABEL, OWN, Document, Play, levels, ring
from tests.contracts.twins import agree, twins
from tests.engine.numbers import fill, kept, normal
from tests.engine.scenes import BATCH, BATCH_NORM, ENDS, LSTM, QUARANTINE, gradient
from tests.engine.stacks import (
    both,
    channel_stacks,
    engine_of,
    mask,
    only_channel_stack,
    stacked_system,
    system_of,
)

COUNT = 4
SGD: Document = {"predictor": {"kind": "sgd", "lr": 0.05}}
MLP: Document = {"kind": "mlp", "hidden": [4], "norm": "batch"}
INPUT: Document = {"kind": "linear", "context": ["x"]}
# --- models ----------------------------------------------------------------------------------------------


def test_models_take_over_what_their_members_have_become() -> None:
    system = system_of(ring(COUNT, channel=gradient(**MLP)))
    together = StackedModels([c.predictor for c in system.channels.values() if c.predictor], BATCH)
    model = together.members[2]
    with torch.no_grad():
        model.parameters["last.bias"].fill_(5.0)
    model.buffers = {name: value + 3 for name, value in model.buffers.items()}
    together.read_members()
    assert bool((together.parameters["last.bias"][2] == 5.0).all())
    for name, value in model.buffers.items():
        assert torch.equal(together.buffers[name][2], value)
    together.buffers = {name: value * 2 for name, value in together.buffers.items()}
    together.write_members()
    assert torch.equal(model.buffers["0.norm.mean"], together.buffers["0.norm.mean"][2])


# --- who learns ------------------------------------------------------------------------------------------


def training(*members: Tensor | None, disabled: Tensor | None) -> PredictorUpdate:
    """What the predictors of a ring are trained with, of one example a step for these channels each."""
    found = stacked_system(ring(COUNT))
    channels = only_channel_stack(found)
    channels.predictors_disabled = disabled
    given = [
        Example(
            normal(COUNT * BATCH, 4, seed=i),
            normal(COUNT * BATCH, 3, seed=i + 10),
            normal(COUNT * BATCH, 4, seed=i + 20),
            members=one,
        )
        for i, one in enumerate(members)
    ]
    trainer = PredictorTrainer(found.system)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GradientLedger, "take", lambda ledger, step: given)
        patch.setattr(trainer, "_returned_example", lambda channel, example, step: example)
        return trainer.gradients({}, {}, 0, watch=False)[channels.name]


@pytest.mark.parametrize(
    ("members", "disabled", "expected"),
    [
        ([None], None, None),
        ([mask(1, 0, 0, 1)], None, [1, 0, 0, 1]),
        ([mask(1, 0, 0, 1), mask(0, 0, 1, 1)], None, [1, 0, 1, 1]),
        ([mask(1, 0, 0, 1), None], None, None),
        ([None], mask(0, 1, 0, 0), [1, 0, 1, 1]),
        ([mask(1, 1, 0, 0)], mask(0, 1, 0, 1), [1, 0, 0, 0]),
    ],
)
def test_an_update_is_for_the_channels_that_any_of_its_examples_is_for(
    members: list[Tensor | None], disabled: Tensor | None, expected: list[int] | None
) -> None:
    found = training(*members, disabled=disabled).members
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.tolist() == [bool(one) for one in expected]


def test_examples_of_inputs_are_dropped_at_the_end_of_the_step() -> None:
    """Of stacks of channels, and of a stack of one, whose input is its own."""
    scene = levels(channel={"input": {**INPUT, "context": []}, "link": {"delay": 1}})
    scene["channels"][0] = {**scene["channels"][0], "link": {"delay": 2}}
    _, cohort = twins(scene)
    cohort.run(6)
    found = channel_stacks(engine_of(cohort).stacked)
    assert sorted(len(channels.members) for channels in found) == [1, 2]
    for channels in found:
        assert channels.input_examples == []
        assert channels.input_example_members == []


# --- who diverges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [torch.nan, 1e9])
def test_the_report_of_a_step_leaves_out_an_input_that_diverges_at_it(value: float) -> None:
    scene = levels(channel={"coupling": "unlocked", "input": INPUT}, bound=100.0, **QUARANTINE)
    reported = []
    for simulation in both(scene):
        simulation.run(4)
        fill(simulation._system.channels["a1->b1"].input, value)
        simulation.step()
        reported.append(set(simulation.learned.input_updates))
        assert any("'b1'" in line for _, line in simulation.events)
    assert reported == [{"a0->b0", "a2->b2"}] * 2


def one_of_many(count: int, **training: Any) -> Document:
    """Only one of a stack sends to a lone agent: a stack of one channel."""
    scene = ring(count, **training)
    scene["agents"]["z"] = {**OWN, "observes": ["y"], "objective": LABEL}
    scene["channels"] += [{"from": "n1", "to": "z", "link": {"delay": 1}, **gradient()}]
    return scene


def after(simulation: Simulation, place: str, which: str, value: float) -> Simulation:
    simulation.run(4)
    channel = simulation._system.channels[place]
    fill(channel.predictor if which == "gradient" else channel.input, value)
    simulation.run(5)
    return simulation


@pytest.mark.parametrize("value", [torch.nan, 1e9])
@pytest.mark.parametrize(
    ("scene", "place", "which"),
    [
        (ring(bound=100.0, **QUARANTINE), "n1->n2", "gradient"),
        (levels(channel=gradient(**MLP), bound=100.0, **QUARANTINE, **SGD), "a2->b2", "gradient"),
        (
            levels(channel={"coupling": "unlocked", "input": INPUT}, bound=100.0, **QUARANTINE),
            "a1->b1",
            "input",
        ),
        (
            ring(
                channel={"input": INPUT, "link": {"delay": 1, "drop": 0.4}},
                bound=100.0,
                **QUARANTINE,
            ),
            "n3->n0",
            "input",
        ),
        (one_of_many(3, bound=100.0, **QUARANTINE), "n1->z", "gradient"),
    ],
)
def test_one_that_diverges_is_reported_once_as_alone_and_the_others_go_on(
    scene: Document, place: str, which: str, value: float
) -> None:
    reference, cohort = (after(s, place, which, value) for s in twins(scene))
    assert reference.events == cohort.events
    assert any(repr(end) in line for _, line in cohort.events for end in place.split("->"))
    agree(reference, cohort)


def test_where_a_run_stops_running_statistics_are_those_of_before_the_step() -> None:
    scene = levels(low=BATCH_NORM, channel=gradient(**MLP), env=ENDS, **SGD)
    found = []
    for simulation in twins(scene):
        simulation.run(5)
        fill(simulation._system.agents["b1"].learner, torch.nan)
        before = _statistics(simulation)
        with pytest.raises(DivergenceError):
            simulation.step()
        after_all = _statistics(simulation)
        assert before.keys() == after_all.keys()
        assert all(torch.equal(value, after_all[key]) for key, value in before.items())
        found.append(before)
    assert len(found[0]) > 6


def _statistics(simulation: Simulation) -> dict[str, Tensor]:
    state = simulation._state_dict()["system"]
    held = {key: {n: own["buffers"] for n, own in state[key].items()} for key in ("learners", "predictors")}
    return {place: value for place, value in kept(held).items() if isinstance(value, Tensor)}


def test_a_disabled_predictor_does_not_change_any_more() -> None:
    _, cohort = twins(levels(**QUARANTINE))
    cohort.run(3)
    channels = next(
        b for b in channel_stacks(engine_of(cohort).stacked) if isinstance(b.predictor, StackedModels)
    )
    channels.disable_predictors([1])
    before = kept(cohort._state_dict()["system"]["predictors"])
    cohort.run(4)
    after_all = kept(cohort._state_dict()["system"]["predictors"])
    moved = {
        key.split("/")[1]
        for key, value in before.items()
        if not torch.equal(torch.as_tensor(value), torch.as_tensor(after_all[key]))
    }
    assert moved == {"a0->b0", "a2->b2"}


# --- outliers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [4, 1])
def test_states_gradients_out_of_all_proportion_are_clipped_and_noted_as_alone(batch: int) -> None:
    own = {**LSTM, "clock": {"unroll": 1}}
    scene = ring(3, agent=own, env=ENDS, state=gradient(), steps=40, batch=batch)
    found = []
    for simulation in twins(scene):
        simulation.run(16)
        for p in simulation._system.agents["n1"].learner.parameters.values():
            p.data.mul_(30.0)
        simulation.run(6)
        outliers = {n: c.outliers.state_dict() for n, c in simulation._system.channels.items() if c.outliers}
        found.append((simulation.events, outliers))
    (events, one), (others, other) = found
    assert events == others
    assert any("n1->n1:state" in line and "shortened" in line for _, line in events)
    assert len({line for _, line in events}) == len(events)
    assert one.keys() == other.keys()
    for name, state in one.items():
        assert state["median"] == pytest.approx(other[name]["median"], rel=1e-9)
        assert (state["seen"], state["bites"]) == (other[name]["seen"], other[name]["bites"])
    assert one["n1->n1:state"]["bites"] > 0


def test_an_aligned_sender_s_messages_lack_what_a_mixture_of_steps_did_not_know() -> None:
    """Where messages get lost it works on several steps at once, whose `goal` nobody knew at the tick: nothing is learned."""
    agent: Document = {"observes": ["x"], "network": {"hidden": [4], "norm": "none"}, "objective": LABEL}
    document: Document = {
        "scenario": "late",
        "env": Play(),
        "agents": {"a": agent, "b": {**agent, "align": True}, "c": agent},
        "channels": [
            {"from": "a", "to": "b", "size": 4, "link": {"drop": 0.5}},
            {"from": "b", "to": "c", "size": 4, "gradient": {"kind": "linear", "context": ["goal"]}},
        ],
        "training": {"batch": 8, "steps": 6},
    }
    one, other = twins(document)
    for simulation in (one, other):
        simulation.run(6)
    agree(one, other)
    for simulation in (one, other):
        predictor = simulation._system.channels["b->c"].predictor
        assert predictor is not None
        assert predictor.updates == 0
