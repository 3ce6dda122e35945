"""Rules 37 to 42: actions, what follows them, losses of a window, and the passes of `ppo`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.distributions import Categorical
from antiphon.engine.reference.backward import window_update
from antiphon.engine.reference.forward import replay
from antiphon.engine.reference.policies import pass_losses, policy_window
from antiphon.engine.reference.records import PolicyWindow, StepSignals, Tape
from antiphon.engine.reference.state import State
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.backends import ReferenceBackend
from antiphon.nets.random import seed_for, uniform
from tests.contracts.builders import LABEL, Document, document
from tests.contracts.games import Game
from tests.contracts.twins import made

MLP: Document = {"kind": "mlp", "hidden": [5], "norm": "none", "activation": "tanh"}
BATCH = 8


def actor(objective: Document, **keys: Any) -> Document:
    return {
        "observes": ["x"],
        "acts": True,
        "network": MLP,
        "clock": {"unroll": 4},
        "objective": objective,
        **keys,
    }


def playing(agents: Document, channels: list[Document] | None = None, **game: Any) -> Simulation:
    optimiser = {"kind": "sgd", "lr": 0.1}
    env = Game(**{"share": 0.3, **game})
    return made(document(agents, channels or [], env, batch=BATCH, optimiser=optimiser), "reference")


def closing(simulation: Simulation, agent: str = "a") -> tuple[State, Tape, list[StepSignals], int]:
    """Take steps up to the end of a window of an agent, and return it as it is just before anything learns from it."""
    backend = simulation.backend
    assert isinstance(backend, ReferenceBackend)
    state, steps = backend.engine.state, []
    group = state.group_of[agent]
    for step in range(simulation.now, simulation.now + 50):
        backend.tick(step, simulation.world.step_signals)
        steps.append(StepSignals(step, simulation.world.step_signals.signals))
        backend.cut(step, simulation.world.advance(backend.action))
        if group.windows.ending(step) is not None:
            return state, group.tape, steps, step
        backend.learn(step)
    raise AssertionError


def evaluated(simulation: Simulation, agent: str = "a") -> tuple[PolicyWindow, list[StepSignals]]:
    state, tape, steps, _ = closing(simulation, agent)
    window = policy_window(state, state.agents[agent], tape)
    assert window is not None
    return window, steps


# --- 37: actions ------------------------------------------------------------------------------------------


def test_an_action_is_a_sample_from_the_counter_and_holds_until_the_next_tick() -> None:
    simulation = playing(
        {"a": actor({"kind": "a2c"}, clock={"period": 3, "phase": 1, "unroll": 2})}, share=0.0
    )
    assert isinstance(simulation.backend, ReferenceBackend)
    state, seed = simulation.backend.engine.state, simulation._system.agents["a"].seed
    actions, outputs = [], []
    for step in range(7):
        simulation.backend.tick(step, simulation.world.step_signals)
        ticks = [tick for _, tick in state.group_of["a"].tape.ticks()]
        outputs.append(ticks[-1].ports["objective"].detach() if ticks else None)
        action = simulation.backend.action
        assert isinstance(action, Tensor)
        actions.append(action)
        simulation.world.advance(action)
    assert actions[0].tolist() == [2] * BATCH  # the mode of zeros, as the space counts
    for first in (1, 4):
        sampled = outputs[first]
        assert sampled is not None
        numbers = uniform(seed_for(seed, "action"), first, BATCH).unsqueeze(1)
        expected = Categorical(3).sample(sampled, numbers) + 2
        for step in range(first, min(first + 3, 7)):
            assert torch.equal(actions[step], expected)
    assert not torch.equal(actions[1], actions[4])


def test_a_replay_has_the_same_actions() -> None:
    state, tape, _, _ = closing(playing({"a": actor({"kind": "a2c"})}))
    before = [tick.action for _, tick in tape.ticks()]
    replay(state, tape)
    assert all(tick.action is action for (_, tick), action in zip(tape.ticks(), before, strict=True))


def test_several_agents_act_for_their_parts() -> None:
    agents = {
        "a": actor({"kind": "a2c"}, acts="arm"),
        "b": actor({"kind": "reinforce"}, acts="leg", clock={"period": 2, "unroll": 2}),
    }
    simulation = playing(agents, parts=("arm", "leg"), space="numbers")
    for _ in range(3):
        simulation.step()
    action = simulation.backend.action
    assert isinstance(action, dict)
    assert {part: tuple(value.shape) for part, value in action.items()} == {
        "arm": (BATCH, 2),
        "leg": (BATCH, 2),
    }


# --- 38 to 40: what follows -------------------------------------------------------------------------------


@pytest.mark.parametrize("next_step", [False, True])
def test_the_reward_of_a_tick_counts_up_to_the_next_or_to_the_end_of_its_episode(next_step: bool) -> None:
    simulation = playing({"a": actor({"kind": "a2c"}, clock={"period": 3, "unroll": 3})}, next_step=next_step)
    window, steps = evaluated(simulation)
    assert len(steps) == 7  # the window ends with its last tick
    unseen = 0
    for tick, b in ((tick, b) for tick in range(3) for b in range(BATCH)):
        own = steps[3 * tick : 3 * tick + 3] if tick < 2 else steps[6:]
        reward, done, cut = 0.0, False, False
        for signals in (each.values for each in own):
            known = bool(signals["_reward"][b]) if next_step else True
            reward += float(signals["reward"][b]) if known else 0.0
            done, cut = bool(signals["terminated"][b]), bool(signals["truncated"][b])
            if done or cut:
                break
        t = window.trajectory
        absent = next_step and not bool(own[0].values["_reward"][b])
        if not absent:
            assert float(t.rewards[tick, b]) == pytest.approx(reward)
            assert bool(t.terminated[tick, b]) == done
        assert bool(t.unseen[tick, b]) == (absent or cut or tick == 2), (tick, b)
        unseen += bool(t.unseen[tick, b])
    assert BATCH < unseen < 3 * BATCH


def test_a_last_tick_counts_where_the_length_of_episodes_is_known() -> None:
    window, steps = evaluated(playing({"a": actor({"kind": "a2c"})}, share=0.0, lengths=(4,)))
    assert [bool(each.values["terminated"][0]) for each in steps] == [False] * 3 + [False]
    assert window.trajectory.unseen[-1].all()  # the first episode is truncated
    once = playing({"a": actor({"kind": "a2c"}, clock={"unroll": "episode"})}, share=0.0, lengths=(3, 5))
    window, _ = evaluated(once)
    assert not window.trajectory.unseen.any()
    assert window.trajectory.terminated[-1].all()
    window, _ = evaluated(playing({"a": actor({"kind": "a2c"})}, share=0.9))
    assert window.trajectory.terminated[-1].any()
    assert window.trajectory.unseen[-1].all()


def test_rewards_are_weighted_and_may_be_an_agents_own() -> None:
    objective = {"kind": "a2c", "reward": {"reward": 2.0, "reward.a": -0.5}}
    window, steps = evaluated(playing({"a": actor(objective)}, own=("a",)))
    for t, signals in enumerate(each.values for each in steps):
        known = signals["_reward.a"]
        expected = 2 * signals["reward"] - torch.where(known, 0.5 * signals["reward.a"], 0.0)
        assert torch.equal(window.trajectory.rewards[t][known], expected[known])
        assert bool(window.trajectory.unseen[t][~known].all())
    default, steps = evaluated(playing({"a": actor({"kind": "a2c"})}, own=("a",)))
    known = steps[0].values["_reward.a"]
    assert torch.equal(default.trajectory.rewards[0][known], steps[0].values["reward.a"][known])


@pytest.mark.parametrize("coupling", ["locked", "decoupled"])
def test_the_cosine_of_a_goal(coupling: str) -> None:
    goal = {"channel": "s->a", "signal": "position"}
    objective = {"kind": "a2c", "reward": {"goal.cosine": 0.5, "reward": 1.0}, "goal": goal}
    agents = {"s": {"observes": ["y"], "network": MLP, "clock": {"unroll": 4}}, "a": actor(objective)}
    channels = [{"from": "s", "to": "a", "size": 4, "coupling": coupling}]
    state, tape, steps, _ = closing(playing(agents, channels))
    window = policy_window(state, state.agents["a"], tape)
    assert window is not None
    sent = {record.stamp: record.message for name, record in tape.sent}
    if coupling == "decoupled":
        sent = {stamp: record.message for stamp, record in state.ledgers["s->a"].records.items()}
    for t in range(3):
        here, there = (steps[t + k].values["position"] for k in (0, 1))
        cosine = torch.cosine_similarity(there - here, sent[t].detach())
        ended = (steps[t].values["terminated"] + steps[t].values["truncated"]) > 0
        expected = steps[t].values["reward"] + 0.5 * torch.where(ended, 0.0, cosine)
        torch.testing.assert_close(window.trajectory.rewards[t], expected)


# --- 41: losses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a2c", "ppo", "reinforce"])
@pytest.mark.parametrize("space", ["choices", "numbers"])
def test_gradients_follow_finite_differences_of_the_losses_with_constant_advantages(
    kind: str, space: str
) -> None:
    """Of a group of two agents, and of what it received from a third."""
    agents = {
        "a": actor(
            {"kind": kind, "entropy": 0.1, **({"epochs": 1} if kind == "ppo" else {})}, observes=["y"]
        ),
        "s": {"observes": ["x"], "network": MLP, "clock": {"unroll": 4}},
        "t": {"observes": ["position"], "network": MLP, "clock": {"unroll": 4}},
    }
    channels = [
        {"from": "s", "to": "a", "size": 3, "coupling": "locked"},
        {"from": "t", "to": "s", "size": 3, "coupling": "decoupled", "link": {"delay": 1}},
    ]
    simulation = playing(agents, channels, space=space)
    for _ in range(4):
        simulation.step()
    state, tape, _, step = closing(simulation)
    group = state.group_of["a"]
    uses = {id(e.use): e.use for _, tick in tape.ticks() for e in tick.consumed if e.use is not None}.values()
    before = {
        id(use): torch.zeros(()) if use.record.delta is None else use.record.delta.clone() for use in uses
    }
    update = window_update(state, group, tape, step)
    assert update is not None
    policy = update.loss.agents["a"].policy
    assert policy is not None

    def total() -> float:
        replay(state, tape)
        constants = (policy.trajectory, policy.advantages, policy.first.log_prob)
        return pass_losses(state.agents["a"], policy.ticks, *constants).losses.sum().item() / BATCH

    def slope(tensor: Tensor, index: int) -> float:
        flat, found = tensor.data.view(-1), []
        start = flat[index].item()
        for change in (1e-5, -1e-5):
            flat[index] = start + change
            found.append(total())
        flat[index] = start
        return (found[0] - found[1]) / 2e-5

    for name in ("a", "s"):
        largest = 0.0
        for parameter, gradient in zip(
            state.agents[name].learner.trainable, update.gradients[name], strict=True
        ):
            assert gradient is not None
            index = int(gradient.abs().argmax())
            largest = max(largest, float(gradient.view(-1)[index].abs()))
            assert float(gradient.view(-1)[index]) == pytest.approx(
                slope(parameter, index), abs=1e-8, rel=1e-6
            )
        assert largest > 1e-3
    checked = 0
    for use in uses:
        delta = torch.zeros(()) if use.record.delta is None else use.record.delta - before[id(use)]
        if not delta.any():
            continue
        index, checked = int(delta.abs().argmax()), checked + 1
        assert float(delta.reshape(-1)[index]) == pytest.approx(
            BATCH * slope(use.leaf, index), abs=1e-8, rel=1e-6
        )
    assert checked >= 2


def test_losses_do_not_depend_on_how_many_ticks_teach() -> None:
    """The exception to rule 1: they are means over what is valid, weighted like any other objective's."""
    window, _ = evaluated(playing({"a": actor({"kind": "a2c"})}))
    valid, log_prob = window.advantages.valid, window.first.log_prob
    assert 0 < valid.sum() < valid.numel()
    expected = -(log_prob * window.advantages.advantages)[valid].mean()
    torch.testing.assert_close(window.first.figures["policy_loss"][0], expected)


# --- 42: passes of ppo -------------------------------------------------------------------------------------


def test_further_passes_move_the_agents_group_and_nothing_else() -> None:
    def after(epochs: int) -> dict[str, Tensor]:
        agents = {
            "a": actor({"kind": "ppo", "epochs": epochs, "minibatches": 3}, observes=["y"]),
            "s": {"observes": ["x"], "network": MLP, "clock": {"unroll": 4}, "objective": LABEL},
            "t": {"observes": ["position"], "network": MLP, "clock": {"unroll": 4}},
        }
        channels = [
            {"from": "s", "to": "a", "size": 3, "coupling": "locked"},
            {"from": "t", "to": "a", "size": 3, "coupling": "decoupled", "gradient": {"kind": "linear"}},
        ]
        simulation = playing(agents, channels)
        for _ in range(4):
            simulation.step()
        system = simulation._system
        found = {
            f"{n} {p}": v.detach() for n, a in system.agents.items() for p, v in a.learner.parameters.items()
        }
        predictor = system.channels["t->a"].predictor
        assert predictor is not None
        found |= {f"gradient {p}": v.detach() for p, v in predictor.parameters.items()}
        found |= {
            f"delta {s}": r.delta
            for s, r in system.channels["t->a"].ledger.records.items()
            if r.delta is not None
        }
        found["updates"] = torch.tensor([system.agents[n].learner.updates for n in ("a", "s", "t")])
        return found

    one, three = after(1), after(3)
    assert one.keys() == three.keys()
    moved = {name for name in one if not torch.equal(one[name], three[name])}
    assert {name.split()[0] for name in moved} == {"a", "s", "updates"}
    assert {"a objective.weight", "a value.weight", "s 0.weight"} <= moved
    assert not any(
        name.startswith("s objective") for name in moved
    )  # no objective but the policy's is followed
    assert (three["updates"] - one["updates"]).tolist() == [6, 6, 0]


def test_the_first_pass_has_ratio_1_and_further_ones_are_held_to_it() -> None:
    simulation = playing({"a": actor({"kind": "ppo", "epochs": 2, "minibatches": 2})})
    state, tape, _, step = closing(simulation)
    update = window_update(state, state.group_of["a"], tape, step)
    assert update is not None
    policy = update.loss.agents["a"].policy
    assert policy is not None
    assert float(policy.first.figures["approx_kl"]) == 0.0  # the first pass has ratio 1
    for parameter in state.agents["a"].learner.trainable:
        parameter.data.add_(0.05)
    replay(state, tape)
    constants = (policy.trajectory, policy.advantages, policy.first.log_prob)
    assert float(pass_losses(state.agents["a"], policy.ticks, *constants).figures["approx_kl"]) > 0.0
