"""Replicas: each seed is what it would be alone, whatever is masked, ended, lost or disabled in the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.core.divergence import Report
from antiphon.engine.core.masks import EnvMask
from antiphon.engine.core.records import EpisodeEnds, StepSignals
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.replicated_engine import Replica, ReplicatedEngine
from antiphon.errors import DivergenceError
from antiphon.scenarios import Scenario
from tests.contracts.builders import LABEL, OWN, Document, Play, document, levels, ring
from tests.contracts.sites import SITES
from tests.contracts.twins import agree, made
from tests.engine.numbers import kept
from tests.engine.scenes import BATCH, BATCH_NORM, ENDS, LSTM, QUARANTINE, gradient
from tests.engine.stacks import single_agents, stacks

SEEDS = (3, 4, 5)
CRITIC = gradient(kind="critic", hidden=[4], norm="layer")
DEEP = gradient(kind="mlp", hidden=[4], norm="batch")
SGD: Document = {"predictor": {"kind": "sgd", "lr": 0.05}}
INPUT: Document = {"kind": "mlp", "hidden": [4], "norm": "batch", "context": ["x", "held"]}
OFTEN = Play(share=0.35)


def together(scene: Document, seeds: tuple[int, ...] = SEEDS) -> Seeds:
    """Seeds in one program."""
    found = Seeds(Scenario.model_validate(scene), list(seeds), dtype=torch.float64)
    assert found.sequential_reason is None
    return found


def engine_of_all(seeds: Seeds) -> ReplicatedEngine:
    backend = seeds.simulations[0].backend
    assert isinstance(backend, Replica)
    return backend.all_replicas


def alone(scene: Document) -> list[Simulation]:
    return [single_agents(scene, seed=seed) for seed in SEEDS]


def recurrent(**state: Any) -> Document:
    return ring(
        2, agent=LSTM, channel=gradient(context=["from.state", "returned"]), env=ENDS, state=gradient(**state)
    )


def chain(**how: Any) -> Document:
    """Four different networks, one after the other: none has a second of its kind but in another seed."""
    agents = {name: {**OWN, "network": {"kind": "mlp", "hidden": [3 + i]}} for i, name in enumerate("abcd")}
    agents["d"]["objective"] = LABEL
    return document(agents, [{"from": s, "to": r, "size": 4, **how} for s, r in ("ab", "bc", "cd")], ENDS)


SCENES: dict[str, Document] = {
    "chain": chain(**gradient()),
    "locked chain": chain(coupling="locked"),
    "critics, no loss of their own": chain(**CRITIC),
    "targets now and then": levels(env=Play(gaps=0.6), batch=1, channel=DEEP, **SGD),
    "own targets now and then": levels(
        env=Play(gaps=0.6), batch=2, channel=gradient(kind="local", target="label", context=[])
    ),
    "episodes end": levels(env=OFTEN, batch=1, channel={**DEEP, "link": {"delay": 2}}, **SGD),
    "episodes end in windows": levels(
        env=OFTEN,
        batch=2,
        channel={"coupling": "locked", "link": {"delay": 1}},
        low={"clock": {"unroll": 3}},
        high={"clock": {"unroll": 3}},
    ),
    "inputs": levels(env=OFTEN, batch=2, channel={"input": INPUT, "link": {"delay": 1, "drop": 0.5}}, **SGD),
    "unlocked": levels(env=OFTEN, channel={"coupling": "unlocked", "input": INPUT}, **SGD),
    "noise and bits": ring(channel={"link": {"delay": 1, "noise": 0.1, "bits": 8}}),
    "draws": levels(low={"p_update": 0.5}, high={"p_update": 0.5}, channel={"coupling": "locked"}),
    "sums": levels(wide=True, high={"fan_in": "mean"}, channel={"link": {"drop": 0.4}}, env=OFTEN),
    "ages": ring(agent={"observes": ["x", "age"]}, channel={"link": {"delay": 2, "drop": 0.4}}, env=OFTEN),
    "statistics": ring(agent=BATCH_NORM, env=OFTEN),
    "states": recurrent(),
    "returns of states": recurrent(trace=0.5, span=2),
    "aligned": levels(high={"align": True, "observes": ["x"]}, channel={"link": {"delay": 2}}),
    "frozen": levels(low={"learn": False}),
    "mixed in at once": levels(channel=gradient(trace=0.5, propagate=0.3)),
    "bounds": ring(bound=0.7, **QUARANTINE),
    **{name: SITES[name] for name in ("tokens, labels at times", "pixels, critic", "tokens, inputs")},
}


@pytest.mark.parametrize("name", SCENES)
def test_each_seed_is_what_it_is_alone(name: str) -> None:
    seeds = together(SCENES[name], SEEDS[:2])
    single = [made(SCENES[name], "reference", seed=seed) for seed in SEEDS[:2]]
    for step in range(10):
        infos = seeds.step()
        for own, info, simulation in zip(single, infos, seeds.simulations, strict=True):
            expected = own.step()
            assert info["step"] == expected["step"] == step
            assert _environments(info["ended"]) == _environments(expected["ended"])
            losses, others = dict(info["losses"]), dict(expected["losses"])
            assert sorted(losses) == sorted(others)
            for agent, loss in others.items():
                torch.testing.assert_close(losses[agent], loss, rtol=1e-9, atol=1e-9, msg=f"{agent} {step}")
            if step in (4, 9):
                agree(own, simulation)


def _environments(ended: EnvMask) -> list[bool] | bool:
    return ended.tolist() if isinstance(ended, Tensor) and bool(ended.any()) else ended is True


# --- several environments as one -------------------------------------------------------------------------


def test_ends_of_all_replicas_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    all_replicas = engine_of_all(together(ring()))
    given: list[EpisodeEnds] = []
    monkeypatch.setattr(all_replicas.engine, "cut", lambda step, ends: given.append(ends))
    some = torch.tensor([True, False, False, True])
    all_replicas.cut(0, [EpisodeEnds()] * 3)
    all_replicas.cut(1, [EpisodeEnds(True, False)] * 3)
    assert given == [EpisodeEnds(), EpisodeEnds(True, False)]
    all_replicas.cut(2, [EpisodeEnds(), EpisodeEnds(some, some), EpisodeEnds(True, False)])
    found = given[-1]
    assert isinstance(found.ended, Tensor)
    assert found.ended.tolist() == [False] * BATCH + some.tolist() + [True] * BATCH
    assert isinstance(found.terminated, Tensor)
    assert found.terminated.tolist() == [False] * BATCH + some.tolist() + [False] * BATCH


def test_all_seeds_share_one_engine_and_own_their_place_in_it() -> None:
    seeds = together(chain())
    all_replicas = engine_of_all(seeds)
    found = stacks(all_replicas.engine.stacked)
    assert [agent.names for agent in found] == [
        tuple(f"{name}@{replica}" for replica in range(3)) for name in "abcd"
    ]
    for index, simulation in enumerate(seeds.simulations):
        replica = simulation.backend
        assert isinstance(replica, Replica)
        assert replica.all_replicas is all_replicas
        assert (replica.index, replica.name) == (index, "cohort")
        for p, stacked in zip(
            simulation._system.agents["b"].learner.parameters.values(),
            found[1].learner.parameters.values(),
            strict=True,
        ):
            assert p.data_ptr() == stacked[index].data_ptr()


def test_records_and_ticks_of_a_seed_have_the_signals_of_its_own_environment() -> None:
    seeds = together(ring(agent={"clock": {"unroll": 4}}, channel={"link": {"delay": 1, "drop": 0.5}}))
    signals: list[list[StepSignals]] = []
    for _ in range(6):
        signals.append([simulation.world.step_signals for simulation in seeds.simulations])
        seeds.step()
    for index, simulation in enumerate(seeds.simulations):
        system = simulation._system
        records = [r for c in system.channels.values() for r in c.ledger.records.values()]
        parts = [part for group in system.groups for tick in group.tape.ticks for part in tick.parts]
        assert records
        assert parts
        for found in [r.step_signals for r in records] + [part.step_signals for part in parts]:
            assert found is signals[found.step][index]


def test_what_one_seed_learned_is_reported_by_its_own_names() -> None:
    scene = ring(
        3, channel={"input": {"kind": "linear", "context": ["x"]}, "link": {"delay": 1, "drop": 0.5}}
    )
    seeds, single = together(scene), alone(scene)
    for _ in range(5):
        seeds.step()
        for own, simulation in zip(single, seeds.simulations, strict=True):
            own.step()
            one, other = own.learned, simulation.learned
            assert sorted(one.predictor_updates) == sorted(other.predictor_updates)
            assert sorted(one.input_updates) == sorted(other.input_updates)
            for name, trained in one.input_updates.items():
                torch.testing.assert_close(other.input_updates[name].loss, trained.loss, rtol=1e-9, atol=1e-9)
            for name, own_update in one.predictor_updates.items():
                torch.testing.assert_close(
                    other.predictor_updates[name].loss, own_update.loss, rtol=1e-9, atol=1e-9
                )
            learned = {name: u for u in one.updates for name in u.gradients}
            told = {name: u for u in other.updates for name in u.gradients}
            assert sorted(learned) == sorted(told)
            for name, update in learned.items():
                for a, b in zip(update.gradients[name], told[name].gradients[name], strict=True):
                    assert a is not None
                    torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)
            assert {n for u in one.updates for n in u.injected} == {
                n for u in other.updates for n in u.injected
            }


# --- one that diverges -----------------------------------------------------------------------------------


def spoil(simulation: Simulation, place: str, value: float = torch.nan) -> None:
    """Put a value into all numbers of an agent, or of a channel's predictor."""
    system = simulation._system
    owner = system.agents[place].learner if place in system.agents else system.channels[place].predictor
    assert owner is not None
    for p in owner.parameters.values():
        p.data.fill_(value)


def numbers(simulation: Simulation) -> dict[str, Any]:
    """Parameters, running statistics, optimisers and counts of agents and predictors."""
    state = simulation._state_dict()["system"]
    return kept({key: state[key] for key in ("learners", "predictors", "inputs")})


@pytest.mark.parametrize("place", ["a1", "b0", "a0->b0"])
@pytest.mark.parametrize("replica", [0, 2])
def test_one_that_stops_is_left_as_it_would_be_alone(replica: int, place: str) -> None:
    """Its running statistics are those of before the step, its message that of the run alone; the others go on."""
    scene = levels(low=BATCH_NORM, channel=DEEP, env=ENDS, **SGD)
    seeds, single = together(scene), alone(scene)
    seeds.run(6)
    for simulation in single:
        simulation.run(6)
    spoil(seeds.simulations[replica], place)
    spoil(single[replica], place)
    with pytest.raises(DivergenceError) as caught:
        single[replica].run(4)
    seeds.run(4)
    for n, (own, simulation) in enumerate(zip(single, seeds.simulations, strict=True)):
        if n == replica:
            assert simulation.diverged == str(caught.value)
            assert simulation.now == own.now
            ours, theirs = numbers(own), numbers(simulation)
            assert ours.keys() == theirs.keys()
            for key, value in ours.items():
                if isinstance(value, Tensor):
                    torch.testing.assert_close(
                        theirs[key], value, rtol=1e-9, atol=1e-9, equal_nan=True, msg=key
                    )
                else:
                    assert theirs[key] == value, key
        else:
            own.run(4)
            agree(own, simulation)


def test_nothing_of_one_that_has_stopped_moves_while_the_others_go_on() -> None:
    seeds = together(levels(low=BATCH_NORM, channel=DEEP, env=ENDS, **SGD))
    seeds.run(5)
    spoil(seeds.simulations[1], "b1", torch.inf)
    seeds.run(1)
    ended = seeds.simulations[1]
    assert ended.diverged is not None
    before = numbers(ended)
    seeds.run(6)
    after = numbers(ended)
    for key, value in before.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(after[key], value, rtol=0, atol=0, equal_nan=True, msg=key)
        else:
            assert after[key] == value, key
    assert seeds.simulations[0].now == 12


@pytest.mark.parametrize("place", ["b1", "a0->b0"])
def test_in_quarantine_only_the_seed_that_it_is_about_has_the_event(place: str) -> None:
    scene = levels(env=ENDS, **QUARANTINE)
    seeds, single = together(scene), alone(scene)
    for simulation in (*single, *seeds.simulations):
        assert simulation.events == []
    seeds.run(4)
    for simulation in single:
        simulation.run(4)
    spoil(seeds.simulations[1], place)
    spoil(single[1], place)
    seeds.run(8)
    for own, simulation in zip(single, seeds.simulations, strict=True):
        own.run(8)
        assert simulation.events == own.events
        assert simulation.diverged is None
        agree(own, simulation)
    assert [bool(simulation.events) for simulation in seeds.simulations] == [False, True, False]
    assert not any("@" in line for _, line in seeds.simulations[1].events)


# --- states ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["episodes end in windows", "returns of states", "inputs", "critics, no loss of their own"]
)
def test_states_go_from_runs_alone_to_replicas_and_back_in_mid_window(name: str) -> None:
    scene = SCENES[name]
    seeds, single = together(scene), alone(scene)
    for own, simulation in zip(single, seeds.simulations, strict=True):
        own.run(5)
        simulation._load_state_dict(own._state_dict())
    for steps in (3, 4):
        seeds.run(steps)
        for own, simulation in zip(single, seeds.simulations, strict=True):
            own.run(steps)
            agree(own, simulation)
    forks = [
        simulation.fork(backend)
        for simulation, backend in zip(seeds.simulations, ("cohort", "reference", None), strict=True)
    ]
    seeds.run(4)
    for own, fork, simulation in zip(single, forks, seeds.simulations, strict=True):
        own.run(4)
        fork.run(4)
        agree(own, fork)
        agree(own, simulation)


@pytest.mark.parametrize("how", [{}, QUARANTINE])
def test_the_seed_of_a_report_is_data_whatever_its_text(how: dict[str, Any]) -> None:
    seeds = together(ring(**how), SEEDS[:2])
    divergence = engine_of_all(seeds).union.divergence
    first, second = seeds.simulations
    divergence.report(Report(3, "something went wrong @0", ("n0@1",)))
    divergence.report(Report(4, "agent {agents}, channel {channel}", ("n0@1", "n1@1"), "n0->n1@1"))
    if divergence.quarantine:
        assert first.events == []
        assert second.events == [(3, "something went wrong @0"), (4, "agent 'n0', 'n1', channel n0->n1")]
    else:
        assert divergence.stopped == {1: "something went wrong @0"}
    divergence.note(Report(5, "channel {channel}", ("n0@0",), "n0->n1@0"))
    assert first.events == [(5, "channel n0->n1")]
