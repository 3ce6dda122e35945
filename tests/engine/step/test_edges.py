"""Edges: windows without a tick, episodes as windows, absent targets, rows without a message, what a divergence leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from antiphon.engine.core.clock import EpisodeWindows
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError
from tests.contracts.builders import GOAL, LABEL, Document
from tests.engine.numbers import all_parameters, equal
from tests.engine.scenes import scenario_of
from tests.numerics.linear import leaves, said, simulation_of
from tests.numerics.recurring import BATCH, LENGTHS, LINEAR, STEPS, make, played

MLP: Document = {"kind": "mlp", "hidden": [5], "norm": "none"}


@pytest.mark.parametrize("coupling", ["decoupled", "detached"])
def test_a_window_in_which_an_agent_never_ticks_is_no_wait(coupling: str) -> None:
    goal = {"kind": "classification", "target": "label", "when": "each"}
    agents = {
        "a": {"observes": ["image"], "clock": {"period": 7}},
        "b": {"objective": goal, "clock": {"period": 3, "unroll": "episode"}},
    }
    env = {"hold": 2, "episode": "example"}
    channel = {"from": "a", "to": "b", "size": 4, "coupling": coupling}
    with Simulation(scenario_of(agents, [channel], env)) as simulation:
        simulation.run(steps=60)
        assert simulation.agents["b"].updates > 0


@pytest.mark.parametrize("lengths", [(3, 1, 4, 2), (1, 1, 1), (4,)])
def test_windows_of_episodes_agree_with_counting(lengths: tuple[int, ...]) -> None:
    """`engine/core/clock.py`: what is to come is known only once it has begun (rule 16)."""
    windows, start = EpisodeWindows(4), 0
    for number, length in enumerate(lengths):
        windows.begin(start, length, number)
        last = start + length - 1
        assert windows.end(number) == last
        for tick in range(start, last + 1):
            assert windows.number(tick) == number
            assert windows.ending(tick) == (number if tick == last else None)
        for later in range(last + 1, last + 9):
            assert windows.number(later) == number + 1
            assert windows.ending(later) is None
        assert windows.end(number + 1) == last + 4  # at the latest
        if number:
            assert windows.number(start - 1) == number - 1
        start += length


def test_who_ticks_rarely_learns_at_the_end_of_those_episodes_in_which_it_did() -> None:
    clock = {"period": 8, "phase": 1, "unroll": "episode"}  # ticks at 1, 9, 17 and 25
    with make(played(lengths=LENGTHS), "detached", clock=clock) as simulation:
        updates = []
        for _ in range(STEPS):
            simulation.step()
            updates.append(simulation.agents["a"].updates)
    assert [step for step in range(1, STEPS) if updates[step] > updates[step - 1]] == [5, 9, 20, 29]


def test_who_ticks_more_rarely_than_episodes_end_waits_late() -> None:
    """It is told by one and tells another late: episodes in which it does not tick are windows too."""
    others = {
        "b": {"network": {"kind": "mlp", "hidden": []}, "objective": {**GOAL, "target": "y"}},
        "c": {"observes": ["x"], "network": MLP},
    }
    channels = [
        {"from": "c", "to": "a", "size": 2, "gradient": LINEAR},
        {"from": "a", "to": "b", "size": 3, "coupling": "delayed", "staleness": 1},
    ]
    clock = {"period": 21, "unroll": "episode"}
    with make(played(lengths=LENGTHS), others=others, channels=channels, clock=clock) as simulation:
        simulation.run(2 * STEPS + 10)
        assert simulation.now == 2 * STEPS + 10


@pytest.mark.parametrize("kind", ["linear", "local", "sobolev_label"])
@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_an_absent_target_teaches_nothing_whatever_stands_in_its_place(kind: str, backend: str) -> None:
    runs: list[list[torch.Tensor]] = []
    for value in (1e6, float("nan")):
        source = played(endless=True)
        present = torch.tensor([True, False] * 2).expand(STEPS, BATCH)
        source.shown["y"] = torch.where(present.unsqueeze(2), source.shown["y"], value)
        source.shown["_y"] = present
        agents: Any = {
            "a": {"observes": ["x"], "network": MLP},
            "b": {"network": MLP, "objective": {**GOAL, "target": "y"}},
        }
        channel = {"from": "a", "to": "b", "gradient": {"kind": kind, "target": "y"}}
        with simulation_of(agents, [channel], source, backend) as simulation:
            for _ in range(5):
                assert simulation.step()["losses"]["b"] < 100
            predictor = simulation.channels["a->b"].synthetic_gradient
            assert predictor is not None
            runs.append([*all_parameters(simulation), *predictor.parameters.values()])
    assert all(bool(p.isfinite().all()) for p in runs[0])
    assert equal(*runs)


def test_rows_without_a_message_count_as_zeros_in_running_statistics() -> None:
    source = played(endless=True)
    norm = {"kind": "mlp", "hidden": [4], "norm": "batch"}
    agents = {"a": {"observes": ["x"]}, "b": {"network": norm, "objective": {**GOAL, "target": "y"}}}
    with simulation_of(agents, [{"from": "a", "to": "b", "link": {"drop": 0.5}}], source) as simulation:
        p = leaves(simulation.agents["b"])
        simulation.step()
        message = simulation.channels["a->b"].messages[0]
        assert 0 < int(message.counted.sum()) < BATCH
        hidden = said(p, "0", torch.where(message.counted.unsqueeze(1), message.received, 0.0)).detach()
        statistics = simulation.agents["b"].buffers
        torch.testing.assert_close(statistics["0.norm.mean"], 0.1 * hidden.mean(0))
        torch.testing.assert_close(statistics["0.norm.var"], 0.9 + 0.1 * hidden.var(0))


def test_a_divergence_leaves_what_was_learned_and_cannot_be_gone_on_from(tmp_path: Path) -> None:
    """Running statistics of predictors too; so it is after a checkpoint."""
    scene = {"a": {"observes": ["image"]}, "b": {"objective": {"kind": "classification", "target": "label"}}}
    gradient = {"kind": "mlp", "hidden": [4], "norm": "batch"}
    simulation = Simulation(scenario_of(scene, [{"from": "a", "to": "b", "size": 4, "gradient": gradient}]))
    simulation.run(steps=10)
    before = simulation.evaluate()
    predictor = simulation.channels["a->b"].synthetic_gradient
    assert predictor is not None
    statistics = {name: b.clone() for name, b in predictor.buffers.items()}
    weight = simulation.agents["b"].parameters["objective.weight"]
    kept = weight.detach().clone()
    weight.data.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="step 10"):
        simulation.step()
    weight.data.copy_(kept)
    assert simulation.evaluate() == before
    assert equal(statistics.values(), predictor.buffers.values())
    saved = Simulation.load(simulation.save(tmp_path / "saved"))
    assert saved.evaluate() == before
    for one in (simulation, saved):
        with pytest.raises(DivergenceError, match="step 10"):
            one.step()


def test_a_synthetic_input_that_diverges_stops_the_run_before_any_parameter_moves() -> None:
    channel = {"from": "a", "to": "b", "input": {"context": ["x"]}, "link": {"drop": 1e-9}}
    agents: Any = {"a": {"observes": ["x"]}, "b": {"objective": {**GOAL, "target": "y"}}}
    with simulation_of(agents, [channel], played(endless=True)) as simulation:
        simulation.run(2)
        model = simulation.channels["a->b"].synthetic_input
        assert model is not None
        model.parameters["last.weight"].data.fill_(1e308)
        before = [p.detach().clone() for p in model.parameters.values()], all_parameters(simulation)
        with pytest.raises(DivergenceError, match="a->b"):
            simulation.step()
        assert equal(before[0], model.parameters.values())
        assert equal(before[1], all_parameters(simulation))


def test_a_locked_group_learns_each_episode_as_if_there_were_no_other() -> None:
    """After the first it goes on with the parameters it has then: a run of the second alone takes the same step."""
    own: Document = {
        "network": {"kind": "gru", "size": 3},
        "objective": LABEL,
        "clock": {"unroll": "episode"},
    }
    agents = {"a": {"observes": ["x"], **own}, "b": own}
    channel = {"from": "a", "to": "b", "size": 2, "norm": "none", "coupling": "locked", "link": {"delay": 2}}
    label = torch.arange(STEPS * BATCH).view(STEPS, BATCH) % 3
    found = []
    for first in (0, LENGTHS[0]):
        source = played(lengths=LENGTHS if first == 0 else LENGTHS[1:])
        source.shown["label"] = label
        source.shown.update({name: values[first:] for name, values in source.shown.items()})
        source = type(source)(source.shown, ("y", "hint", "label"), lengths=source.lengths)
        with simulation_of(agents, [channel], source) as simulation:
            if first == 0:
                simulation.run(LENGTHS[0])
                start = {name: leaves(simulation.agents[name]) for name in "ab"}
            else:
                for name in "ab":
                    for key, p in simulation.agents[name].parameters.items():
                        p.data.copy_(start[name][key].detach())
            simulation.run(LENGTHS[1])
            found.append(all_parameters(simulation))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-13, rtol=0)


def test_a_users_module_samples_anew_at_every_step() -> None:
    """Under a seed of its agent and step: an echo with dropout shows which of its numbers are left."""
    agents: Any = {
        "a": {"observes": ["x"], "network": lambda inputs, outputs: nn.Dropout(0.5)},
        "b": {"objective": {**GOAL, "target": "y"}},
    }
    channel = {"from": "a", "to": "b", "size": 3, "coupling": "detached"}
    found = []
    for _ in range(2):
        with simulation_of(agents, [channel], played(endless=True)) as simulation:
            shown = []
            for step in range(4):
                simulation.step()
                shown.append(simulation.channels["a->b"].messages[step].value != 0)
            found.append(torch.stack(shown))
    assert torch.equal(found[0], found[1])
    assert not any(torch.equal(found[0][0], other) for other in found[0][1:])
