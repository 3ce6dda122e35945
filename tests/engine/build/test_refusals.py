"""What cannot be built or learned of scenarios that are well-formed: one line each, that names the place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import nn

import antiphon
from antiphon import ScenarioError, Simulation
from antiphon.scenarios import Scenario
from tests.contracts.builders import levels, ring
from tests.contracts.documents import tied as weights_tied
from tests.contracts.sites import TOKENS
from tests.engine.acting import ONE, SEVERAL, Stage
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of

Document = dict[str, Any]
Making = Callable[[], Scenario]
CONV: Document = {"kind": "conv", "hidden": [3]}
SEES: Document = {"observes": ["image"]}
NAMES: Document = {"objective": CLASSIFY}
ACTS: Document = {"observes": ["view"], "network": {"hidden": [4], "norm": "none"}, "clock": {"unroll": 4}}
PPO: Document = {"kind": "ppo"}
GOAL: Document = {"channel": "s->m", "observes": "place"}
CRITIC: Document = {"observes": ["view"], "network": {"hidden": [5]}}
BAD_CRITIC = "agents.m.objective.critic"


def digits(a: Document | None = None, b: Document | None = None, *channels: Document) -> Making:
    """Agents a and b over the embedded digits; a alone where b has nothing."""
    agents = {name: own for name, own in (("a", a), ("b", b)) if own is not None}
    return partial(scenario_of, agents, channels)


def told(**channel: Any) -> Making:
    """a tells b of a picture."""
    return digits(SEES, NAMES, {"from": "a", "to": "b", **channel})


def actor(objective: Document | None = None, **keys: Any) -> Document:
    return {**ACTS, "acts": True, "objective": objective or PPO, **keys}


def alone(objective: Document | None = None, space: Any = ONE, **keys: Any) -> Making:
    """One agent that acts."""
    return partial(scenario_of, {"m": actor(objective, **keys)}, (), Stage(space))


def led(sender: Document, channel: Document, objective: Document | None = None, **keys: Any) -> Making:
    """An agent that acts, to which another sends."""
    agents = {"s": {**ACTS, **sender}, "m": actor(objective, **keys)}
    return partial(scenario_of, agents, [{"from": "s", "to": "m", **channel}], Stage(ONE))


def pair(one: Document, other: Document, space: Any = ONE, *channels: Document) -> Making:
    return partial(scenario_of, {"l": one, "m": other}, channels, Stage(space))


def tied(one: Document, other: Document) -> Making:
    """Two agents that act with shared parameters."""
    agents = (actor(objective, acts=acts, share="g") for objective, acts in ((one, "left"), (other, "right")))
    return pair(*agents, spaces.Dict({"left": ONE, "right": ONE}))


def tied_readers(**other: Document) -> Making:
    """Two agents with shared parameters that read and send; the keys of the second, and those of the channel that it sends over."""
    tie = {**SEES, "share": "g"}
    agents = {"s": SEES, "a": tie, "b": {**tie, **other.get("agent", {})}, "r": NAMES}
    read = [{"from": "s", "to": name, "size": 3} for name in "ab"]
    said = [{"from": name, "to": "r", "size": 4, "port": "said"} for name in "ab"]
    said[1] |= other.get("channel", {})
    return partial(scenario_of, agents, [*read, *said])


REFUSED: dict[str, Making] = {
    # signals and shapes
    "agents.a.observes: no signal 'imag'; did you mean 'image'?": digits({"observes": ["imag"], **NAMES}),
    "agents.a.observes: 'label' is a training-only signal": digits({"observes": ["label"], **NAMES}),
    "agents.a.objective.target: no signal 'labl'; did you mean 'label'?": digits(
        {**SEES, "objective": {**CLASSIFY, "target": "labl"}}
    ),
    "agents.a.objective: classification does not fit the target 'image' (floats, shape [1, 8, 8]); use another kind, or another target": digits(
        {**SEES, "objective": {**CLASSIFY, "target": "image"}}
    ),
    "agents.a.objective: regression does not fit the target 'label' (10 classes, shape []); use another kind, or another target": digits(
        {**SEES, "objective": {"kind": "regression", "target": "label"}}
    ),
    "channels[a->b].gradient.target: no signal 'labels'": told(
        size=3, gradient={"kind": "local", "target": "labels"}
    ),
    "agents.b: a conv network needs [channels, height, width] inputs of equal height and width, got": digits(
        SEES, {**NAMES, "network": CONV}, {"from": "a", "to": "b", "size": 3}
    ),
    "agents.a: it has no objective and no channel leaves it; nothing could use it": digits(
        SEES, {**SEES, **NAMES}
    ),
    "agents.a.network: Linear turns [2, 64] into": digits(
        {**SEES, **NAMES, "network": lambda inputs, outputs: nn.Linear(inputs, 9)}
    ),
    # sites
    "channels[a->b].gradient.sites: a message of 8 components has no sites; give it a size such as": told(
        size=8, gradient={"sites": True}
    ),
    # windows
    "agents.a.clock.unroll: 'episode' needs episodes of one known length": digits(
        {**SEES, **NAMES, "clock": {"unroll": "episode"}}
    ),
    # actions and rewards
    "agents.m.objective: a policy (ppo) needs actions; give the agent": alone(acts=False),
    "agents.m.clock.unroll: a policy needs a window of 2 or more ticks, not 1": alone(clock={"unroll": 1}),
    "agents.m.acts: 'l' already acts, and the environment takes the action": pair(actor(), actor()),
    "agents.m.acts: the environment's actions have no part 'lift'; did": alone(None, SEVERAL, acts="lift"),
    "agents.m.acts: the environment takes no actions; give it a target": partial(
        scenario_of, {"m": {**SEES, "acts": True, "clock": {"unroll": 4}, "objective": PPO}}
    ),
    "agents.m.align: a policy acts on the signals of the": led({}, {"size": 3}, align=True),
    "agents.m.objective.target: ppo has no target; leave it out, or use": alone({**PPO, "target": "place"}),
    "agents.m.objective.reward: must be a mapping of at least 1 key, not {}": alone({**PPO, "reward": {}}),
    "agents.m.objective.minibatches: 9 minibatches of 8 environment": alone({**PPO, "minibatches": 9}),
    "agents.m.objective.epochs: differs from 'l', with which the agent learns together": pair(
        actor(acts="left"),
        actor({**PPO, "epochs": 2}, acts="right"),
        SEVERAL,
        {"from": "l", "to": "m", "size": 3, "coupling": "locked"},
    ),
    "agents.m.objective.reward: 'view' is not a single number that follows": alone({**PPO, "reward": "view"}),
    "agents.m.objective.reward: 'goal.cosine' needs a": alone({**PPO, "reward": {"goal.cosine": 1}}),
    "agents.m.objective.goal: is for the reward 'goal.cosine'; give it": alone({**PPO, "goal": GOAL}),
    "channels[0].sample: sampled messages are trained by their sender's policy, but 's' has none": led(
        {}, {"size": 2, "sample": {"kind": "gaussian", "noise": 0.1}}
    ),
    # critics
    f"{BAD_CRITIC}: ": alone({"kind": "reinforce", "critic": CRITIC}),
    # what else a learner is made of, where agents share one
    "agents.m.share: its inputs, ports or objective differ from agent 'l', with which it shares": tied(
        {**PPO, "critic": CRITIC}, {**PPO, "critic": {**CRITIC, "network": {"hidden": [6]}}}
    ),
}


@pytest.mark.parametrize("line", REFUSED)
def test_refused_in_one_line(line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Simulation(REFUSED[line]())
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


# --- what cannot be learned ------------------------------------------------------------------------------


def line_of(**gradient: Any) -> Document:
    return levels(channel={**TOKENS, "gradient": gradient})


def stand_in(*context: str) -> Document:
    return levels(channel={"input": {"kind": "linear", "context": list(context)}})


NOT_LEARNED: dict[str, tuple[Document, str]] = {
    "a stand-in told a label": (stand_in("label"), r"input.context.*label.*training-only"),
    "a stand-in told what comes back": (stand_in("returned"), r"input.context.*returned"),
    "unlocked without a stand-in": (levels(channel={"coupling": "unlocked"}), "input"),
    "tied agents that see different things": (
        ring(
            2,
            agent=[{"share": "g", "observes": ["x"]}, {"share": "g", "observes": ["y"]}],
            channel={"port": "p"},
        ),
        r"agents\.n1\.share: its inputs, ports or objective differ from agent 'n0', with which it shares parameters",
    ),
    "a tie of two shapes": (
        weights_tied(ring(), ["n0.0.weight", "n1.0.bias"]),
        r"share\[0\]\[1\]: 'n1.0.bias' has shape \[4\], 'n0.0.weight' has \[4, 8\]; tied",
    ),
    "a tie of what there is not": (
        weights_tied(ring(), ["n0.0.weight", "n1.weight"]),
        r"share\[0\]\[1\]: agent 'n1' has no parameter 'weight'; did you mean '0.weight'",
    ),
    "a head by name": (
        line_of(kind="local", target="label", network="mlp"),
        r"network: must be a torch module or a factory, from Python",
    ),
}


@pytest.mark.parametrize("name", NOT_LEARNED)
def test_what_cannot_be_learned_is_refused_in_one_line(name: str) -> None:
    scene, line = NOT_LEARNED[name]
    with pytest.raises(ScenarioError, match=line) as found:
        Simulation(Scenario.model_validate(scene))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("period", "phase"), [(4, -1), (3, 0)])
def test_a_clock_that_misses_ends_of_sequences_is_refused(period: int, phase: int) -> None:
    """Labels count at the ends, of sequences of 6 and 12 steps."""
    sequences = [torch.randn(6, 3), torch.randn(12, 3)] * 8
    env = antiphon.envs.from_sequences(x=sequences, y=torch.arange(16) % 2, training_only=["y"])
    goal = {"kind": "classification", "target": "y"}

    def scene(period: int, phase: int) -> Scenario:
        return scenario_of(
            {"a": {"observes": ["x"], "objective": goal, "clock": {"period": period, "phase": phase}}},
            env=env,
        )

    Simulation(scene(3, -1)).close()
    with one_line(
        rf"agents\.a\.clock: it ticks every {period} steps, .* multiples of 6: it would miss ends, where 'y' counts"
    ):
        Simulation(scene(period, phase))
