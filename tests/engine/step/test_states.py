"""States as channels: an agent hands its state to its own next tick (semantics 2, 7, 11, 12, 15, 20, 27a, 27b, 32)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.core.records import AgentTick, Read
from antiphon.engine.simulation import Simulation
from tests.engine.recurring import (
    BATCH,
    FROZEN,
    GOAL,
    LENGTHS,
    LINEAR,
    STATE,
    STEPS,
    flags,
    make,
    numbers,
    played,
)

TRACED = {**LINEAR, "trace": 0.5, "span": 3}
MIND: dict[str, Any] = {"network": {"kind": "gru", "size": 3}, "objective": GOAL}


def open_parts(simulation: Simulation, agent: str = "a") -> list[AgentTick]:
    """What an agent has done in its open window."""
    tape = simulation._system.group_of[agent].tape
    return [part for tick in tape.ticks for part in tick.parts if part.agent == agent]


def tick(simulation: Simulation) -> AgentTick:
    """Let a step's agents tick, and nothing else."""
    simulation.backend.tick(simulation.now, simulation.world.step_signals)
    return open_parts(simulation)[-1]


def states(simulation: Simulation, steps: int, agent: str = "a") -> list[Tensor]:
    """The state that an agent that ticks at every step makes at each."""
    memory = simulation._system.agents[agent].memory
    assert memory is not None
    found = []
    for info in (simulation.step() for _ in range(steps)):
        found.append(memory.ledger.records[info["step"]].message)
    return found


def lessons(simulation: Simulation, steps: int, channel: str = STATE) -> list[tuple[int, Tensor, Tensor]]:
    """(step, state, what is learned of it) of each example of a channel."""
    found = []
    for info in (simulation.step() for _ in range(steps)):
        lesson = simulation.learned.predictor_updates.get(channel)
        for example in lesson.examples if lesson is not None else []:
            assert example.delta is not None
            found.append((info["step"], example.message, example.delta))
    return found


# --- within a window, and over its border --------------------------------------------------------------------


@pytest.mark.parametrize("coupling", [None, "detached", LINEAR], ids=["implicit", "detached", "decoupled"])
def test_a_state_keeps_its_graph_within_a_window_and_is_a_leaf_at_its_border(coupling: Any) -> None:
    with make(played(endless=True), coupling, unroll=3) as simulation:
        read: list[Read] = []
        for step in range(9):
            part = tick(simulation)
            assert part.memory is not None
            read.append(part.memory)
            live = simulation.backend.system.groups[0].tape.graph_outputs
            assert live[STATE, step].requires_grad
            if step % 3:
                assert part.memory.stamp == step - 1
                assert part.memory.value is None
            elif step:
                assert part.memory.stamp is None
                value = part.memory.value
                assert value is not None
                assert value.grad_fn is None
                assert value.requires_grad == (coupling == LINEAR)
            simulation.world.advance()
            simulation.backend.learn(step)
            simulation.now += 1
        assert read[0].value is None
        assert read[0].available is False


def test_a_locked_state_has_no_leaf_at_all() -> None:
    with make(played(lengths=(5,) * 6), "locked", unroll=1) as simulation:
        for step in range(10):
            part = tick(simulation)
            assert part.memory is not None
            assert part.memory.use is None
            assert part.memory.stamp == (None if step % 5 == 0 else step - 1)
            assert part.memory.value is None
            simulation._system.cut(step, simulation.world.advance())
            simulation.backend.learn(step)
            simulation.now += 1


# --- what is learned of a state ------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [{"lengths": LENGTHS}, {"terminated": flags()}, {"terminated": flags(0, 2)}])
@pytest.mark.parametrize(
    "gradient", [LINEAR, TRACED, {**LINEAR, "auxiliary": 0.7}], ids=["plain", "traced", "auxiliary"]
)
def test_a_state_is_an_example_at_most_once(gradient: dict[str, Any], ends: dict[str, Any]) -> None:
    with make(played(**ends), gradient, p_update=0.8) as simulation:
        found = lessons(simulation, STEPS)
    seen = [tuple(state.flatten().tolist()) for _, state, _ in found]
    assert len(seen) > 6
    if ends.get("terminated") is None or bool(ends["terminated"].all(1).any()):
        assert len(set(seen)) == len(seen)


def test_a_clipped_prediction_does_not_clip_what_is_returned() -> None:
    """lambda = 1 over a whole episode contains no prediction, however short those are cut."""
    found = []
    for more in ({}, {"clip": 1e-3}):
        learning = {"kind": "adam", "lr": 0.01}
        gradient = {**LINEAR, "trace": 1.0, "span": 3, "optimiser": learning, **more}
        with make(played(lengths=(6,) * 5), gradient, training={"optimiser": FROZEN}) as simulation:
            found.append(lessons(simulation, STEPS))
    assert len(found[0]) == len(found[1]) > 8
    for (_, _, free), (_, _, cut) in zip(*found, strict=True):
        torch.testing.assert_close(free, cut, atol=1e-12, rtol=0)


# --- who does not learn --------------------------------------------------------------------------------------


def test_a_state_goes_on_where_its_agent_is_not_drawn_and_is_no_example_there() -> None:
    frozen: dict[str, Any] = {"optimiser": FROZEN}
    with make(played(endless=True), LINEAR, unroll=2, training=frozen) as simulation:
        always = states(simulation, STEPS)
    with make(played(endless=True), LINEAR, unroll=2, training=frozen, p_update=0.5) as simulation:
        agent = simulation._system.agents["a"]
        drawn = [agent.participates(window) for window in range(STEPS // 2)]
        assert True in drawn[1:]
        assert False in drawn
        assert all(torch.equal(x, y) for x, y in zip(states(simulation, STEPS), always, strict=True))
    with make(played(endless=True), LINEAR, unroll=2, training=frozen, p_update=0.5) as simulation:
        found = [step for step, _, _ in lessons(simulation, STEPS)]
    assert found == [2 * window + 1 for window, learns in enumerate(drawn) if learns and window]


def poisoned(context: list[str], **more: Any) -> Simulation:
    """`a` tells `b`, whose weights become no numbers after six steps."""
    channel = {"from": "a", "to": "b", "size": 3, "gradient": {"kind": "linear", "context": context}, **more}
    simulation = make(
        played(endless=True),
        LINEAR,
        others={"b": MIND},
        channels=[channel],
        training={"on_divergence": "quarantine"},
    )
    simulation.run(6)
    for p in simulation._system.agents["b"].learner.parameters.values():
        p.data.fill_(torch.nan)
    return simulation


def test_the_state_of_who_diverges_is_void_and_its_teller_goes_on() -> None:
    with poisoned(["hint"]) as simulation:
        before = numbers(simulation)
        simulation.run(3)
        assert simulation._system.agents["b"].agent_disabled
        assert not simulation._system.agents["a"].agent_disabled
        memory = simulation._system.agents["b"].memory
        assert memory is not None
        reading = memory.mailbox.receive(simulation.now)
        assert reading.value is None
        assert reading.available is False
        assert not all(torch.equal(x, y) for x, y in zip(before, numbers(simulation), strict=True))
        part = tick(simulation)
        assert bool(part.ports["objective"].isfinite().all())


def test_the_state_of_who_diverges_does_not_spread_through_contexts() -> None:
    with poisoned(["to.state"], link={"delay": 1}) as simulation:
        simulation.run(8)
        assert simulation._system.agents["b"].agent_disabled
        assert not simulation._system.agents["a"].agent_disabled
        assert not simulation._system.channels["a->b"].predictor_disabled
        assert simulation.agents["a"].updates > 10 // 2


# --- tied agents, and late ones ------------------------------------------------------------------------------


def test_tied_recurrent_agents_have_a_state_each_and_one_set_of_parameters() -> None:
    """Two that see the same learn as one alone would: the mean of equal gradients is any of them."""
    own: dict[str, Any] = {"observes": ["x"], "network": {"kind": "gru", "size": 4}, "objective": GOAL}
    member = {**own, "share": "g", "clock": {"unroll": 2}}
    second = {"from": "b", "to": "b", "carries": "state", "coupling": "decoupled", "gradient": LINEAR}
    with (
        make(played(terminated=flags(0, 1)), LINEAR) as alone,
        make(
            played(terminated=flags(0, 1)), LINEAR, others={"b": member}, channels=[second], share="g"
        ) as pair,
    ):
        for own_p, theirs in zip(
            alone.agents["a"].parameters.values(), pair.agents["a"].parameters.values(), strict=True
        ):
            theirs.data.copy_(own_p)
        for _ in range(STEPS):
            alone.step()
            pair.step()
        for own_p, theirs in zip(
            alone.agents["a"].parameters.values(), pair.agents["b"].parameters.values(), strict=True
        ):
            torch.testing.assert_close(own_p, theirs, atol=1e-11, rtol=0)
        for name in (STATE, "b->b:state"):
            expected, found = (s._system.channels[n].predictor for s, n in ((alone, STATE), (pair, name)))
            assert expected is not None
            assert found is not None
            for key, p in found.parameters.items():
                torch.testing.assert_close(p, expected.parameters[key], atol=1e-11, rtol=0)


def test_tied_agents_that_see_different_things_have_different_states() -> None:
    source = played(endless=True)
    source.shown["other"] = source.shown["x"].flip(0)
    network, clock = {"kind": "gru", "size": 4}, {"unroll": 2}
    members = {
        "b": {"share": "g", "observes": ["other"], "network": network, "clock": clock, "objective": GOAL}
    }
    second = {"from": "b", "to": "b", "carries": "state", "coupling": "detached"}
    frozen: dict[str, Any] = {"training": {"optimiser": FROZEN}}
    with (
        make(source, "detached", others=members, channels=[second], share="g", **frozen) as pair,
        make(source, "detached", observes=["other"], **frozen) as alone,
    ):
        for own_p, theirs in zip(
            alone.agents["a"].parameters.values(), pair.agents["a"].parameters.values(), strict=True
        ):
            own_p.data.copy_(theirs)
        found = []
        for _ in range(8):
            step = pair.now
            pair.step()
            alone.step()
            found.append([c.ledger.records[step].message for c in pair._system.channels.values()])
            expected = alone._system.channels[STATE].ledger.records[step].message
            torch.testing.assert_close(found[-1][1], expected, atol=1e-12, rtol=0)
            assert not torch.allclose(found[-1][0], found[-1][1])


def test_a_late_replay_of_a_recurrent_window_has_its_state() -> None:
    """On networks that stay as they are, what comes late is what a locked channel would have brought at once."""
    found: dict[str, list[list[Tensor]]] = {}
    for coupling in ("locked", "delayed"):
        others = {"b": {**MIND, "network": {"kind": "mlp", "hidden": []}, "clock": {"unroll": 3}}}
        channel = {"from": "a", "to": "b", "size": 2, "norm": "none", "coupling": coupling}
        with make(
            played(terminated=flags(0, 1)),
            "detached",
            unroll=3,
            others=others,
            channels=[channel],
            training={"optimiser": FROZEN},
            objective=None,
        ) as simulation:
            found[coupling] = []
            for _ in range(18):
                simulation.step()
                for update in simulation.learned.updates:
                    if "a" in update.gradients:
                        found[coupling].append([g for g in update.gradients["a"] if g is not None])
    locked, late = found["locked"], found["delayed"]
    assert len(locked) == 6
    assert len(late) == 5
    for own, theirs in zip(locked, late, strict=False):
        for x, y in zip(own, theirs, strict=True):
            torch.testing.assert_close(x, y, atol=1e-12, rtol=0)
            assert bool(x.any())


@pytest.mark.parametrize("gradient", [LINEAR, {**LINEAR, "auxiliary": 0.5}], ids=["plain", "auxiliary"])
def test_late_and_decoupled_states_go_together(gradient: dict[str, Any]) -> None:
    """What a late window says of its state is learned when it learns, each once."""
    others = {"b": {**MIND, "clock": {"unroll": 2}}}
    late = {"from": "a", "to": "b", "size": 2, "coupling": "delayed", "link": {"delay": 3}, "staleness": 3}
    with make(
        played(terminated=flags(1)), gradient, others=others, channels=[late], training={"batch": BATCH}
    ) as simulation:
        found = lessons(simulation, STEPS)
        assert len(found) > 4
        assert len({tuple(state.flatten().tolist()) for _, state, _ in found}) == len(found)
        assert all(bool(p.isfinite().all()) for p in numbers(simulation))
