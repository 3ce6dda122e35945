"""Differences: what two simulations show of one step, to the last bit, causes before effects."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Scenario, Simulation
from antiphon.engine.compare.differences import (
    DIGESTED,
    QUANTITIES,
    Difference,
    Place,
    StepTaken,
    Tensors,
    difference,
    differences,
    equal_as_run,
    learned_tensors,
    step_tensors,
)
from antiphon.engine.metrics.digests import numbers
from antiphon.engine.state.state_dict import snapshot
from tests.engine.scenes import CLASSIFY, scenario_of

PLACE: Place = ("parameter", "agent", "eye", "0.weight")


def scenario(**training: Any) -> Scenario:
    """Three listeners that are alike, on links that lose and add noise."""
    listener = {"objective": CLASSIFY, "network": {"kind": "mlp", "hidden": [4]}}
    agents = {"eye": {"observes": ["image"], "network": {"kind": "mlp", "hidden": [5]}}}
    link = {"delay": 1, "drop": 0.3, "noise": 0.1}
    channel = {"from": "eye", "size": 3, "link": link, "gradient": {"kind": "linear", "context": ["label"]}}
    names = ("ear", "lip", "mind")
    return scenario_of(
        {**agents, **dict.fromkeys(names, listener)},
        [{**channel, "to": name} for name in names],
        batch=4,
        **training,
    )


def taken(simulation: Simulation) -> StepTaken:
    signals = simulation.world.step_signals
    return StepTaken(simulation, signals, simulation.step()["ended"])


def learned(simulation: Simulation) -> Tensors:
    return learned_tensors(snapshot(simulation.system))


def found(first: Tensor | None, second: Tensor | None) -> Difference:
    each = difference(PLACE, first, second)
    assert each is not None
    return each


def test_equal_tensors_do_not_differ() -> None:
    for tensor in (
        torch.ones(2, 3),
        torch.tensor(math.nan),
        torch.tensor(True),
        torch.arange(3),
        torch.empty(0),
    ):
        assert difference(PLACE, tensor, tensor.clone()) is None
    assert difference(PLACE, None, None) is None


def test_how_much_differs_is_told() -> None:
    one = torch.zeros(2, 3)
    other = one.clone()
    other[0, 1], other[1, 2] = 0.5, -2.0
    assert found(one, other) == (*PLACE, 2, 6, 2.0, "")


def test_the_last_bit_and_the_sign_of_zero_count() -> None:
    one = torch.ones(3, dtype=torch.float64)
    assert found(one, torch.nextafter(one, one + 1)).largest == pytest.approx(2**-52)
    assert found(torch.zeros(2), -torch.zeros(2))[4:] == (2, 2, 0.0, "")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_has_no_largest_difference(value: float) -> None:
    assert found(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, value, 4.0]))[4:] == (2, 3, None, "")


def test_shapes_and_types_are_told() -> None:
    assert found(torch.zeros(2, 3), torch.zeros(4)).note == "2 x 3 against 4"
    assert found(torch.zeros(2), torch.zeros(())).note == "2 against one number"
    each = found(torch.tensor([0.5, 0.1]), torch.tensor([0.5, 0.1], dtype=torch.float64))
    assert each.note == "float32 against float64"
    assert each.different == 1
    assert found(torch.zeros(3), None).note == "only the first run has it"
    assert found(None, torch.zeros(3)).note == "only the second run has it"


def test_equal_simulations_do_not_differ() -> None:
    with Simulation(scenario()) as one, Simulation(scenario()) as other:
        assert differences(learned(one), learned(other)) == []
        for _ in range(5):
            both = taken(one), taken(other)
            assert equal_as_run(*both)
            assert differences(step_tensors(both[0]), step_tensors(both[1])) == []
            sent = [place[3] for place in step_tensors(both[0]) if place[::2] == ("transmission", "eye->lip")]
            assert sent == ["received", "lost"]


def test_every_digested_tensor_is_compared() -> None:
    """Those of synthetic inputs and of their hidden layers' normalisation among them."""
    agents = {"eye": {"observes": ["image"]}, "ear": {"objective": CLASSIFY}}
    models = {
        "gradient": {"kind": "mlp", "hidden": [3]},
        "input": {"kind": "mlp", "hidden": [4], "context": []},
    }
    unlocked = {"from": "eye", "to": "ear", "size": 3, "coupling": "unlocked", **models}
    with Simulation(scenario_of(agents, [unlocked], batch=4)) as simulation:
        found = {place[1:] for place in learned(simulation) if place[0] in DIGESTED}
        system = simulation.system
        digested = {("agent", a.name, tensor) for a in system.agents.values() for tensor in numbers(a)}
        digested |= {("channel", c.name, tensor) for c in system.channels.values() for tensor in numbers(c)}
    assert found == digested
    assert any(tensor.startswith("input.0.norm") for _, _, tensor in found)


def test_looking_changes_no_number() -> None:
    with Simulation(scenario()) as one, Simulation(scenario()) as other:
        for _ in range(5):
            step_tensors(taken(one))
            other.step()
        assert differences(learned(one), learned(other)) == []


def test_another_seed_differs_from_the_start() -> None:
    with Simulation(scenario()) as one, Simulation(scenario(), seed=1) as other:
        names = {(each.what, each.name) for each in differences(learned(one), learned(other))}
        assert names == {("parameter", name) for name in ("ear", "eye", "lip", "mind")}
        both = taken(one), taken(other)
        assert not equal_as_run(*both)
        whats = [each.what for each in differences(step_tensors(both[0]), step_tensors(both[1]))]
        assert whats == sorted(whats, key=QUANTITIES.index)
        assert set(whats) == set(QUANTITIES) - {"episode end"}


def test_another_learning_rate_differs_in_parameters_alone() -> None:
    fast = scenario(optimiser={"kind": "adam", "lr": 0.1})
    with Simulation(scenario()) as one, Simulation(fast) as other:
        both = taken(one), taken(other)
        assert not equal_as_run(*both)
        assert {each.what for each in differences(step_tensors(both[0]), step_tensors(both[1]))} == {
            "parameter"
        }


@pytest.mark.parametrize(
    "backends", [("cohort", "cohort"), ("reference", "reference"), ("reference", "cohort")]
)
@pytest.mark.parametrize("what", ["signal", "message", "transmission", "moment", "parameter"])
def test_one_bit_is_found_whoever_holds_it(backends: tuple[str, str], what: str) -> None:
    settings: dict[str, Any] = {"dtype": torch.float64}
    with Simulation(scenario(), backend=backends[0], **settings) as one:
        other = one.fork(backends[1])
        both = taken(one), taken(other)
        before = differences(step_tensors(both[0]), step_tensors(both[1]))
        assert backends[0] != backends[1] or (before == [] and equal_as_run(*both))
        place = next(
            place
            for place in step_tensors(both[1])
            if place[0] == what and place[2] in ("", "eye", "eye->lip")
        )
        step_tensors(both[1])[place].data.view(-1)[-1:].add_(64)
        assert not equal_as_run(*both)
        after = differences(step_tensors(both[0]), step_tensors(both[1]))
        assert [each[:4] for each in after if each not in before] == [place]
        other.close()


def test_other_agents_do_not_count() -> None:
    eye = {"observes": ["image"], "objective": CLASSIFY, "network": {"kind": "mlp", "hidden": [5]}}
    alone = scenario_of({"eye": eye}, batch=4)
    with Simulation(scenario()) as one, Simulation(alone) as other:
        both = taken(one), taken(other)
        assert not equal_as_run(*both)
        names = {each.name for each in differences(step_tensors(both[0]), step_tensors(both[1]))}
    assert names == {"eye"}


def test_messages_are_told_in_the_order_in_which_they_are_made() -> None:
    agents: dict[str, Any] = {"z": {"observes": ["image"]}, "m": {}, "a": {"objective": CLASSIFY}}
    channels = [{"from": "z", "to": "m", "size": 3}, {"from": "m", "to": "a", "size": 3}]
    chain = scenario_of(agents, channels, batch=4)
    with Simulation(chain) as one, Simulation(chain, seed=1) as other:
        found = differences(step_tensors(taken(one)), step_tensors(taken(other)))
    assert [each.name for each in found if each.what == "message"] == ["z->m", "m->a"]
    assert [channel.name for channel in chain.channels] == ["m->a", "z->m"]
