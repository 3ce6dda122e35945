"""What an agent follows and returns, against finite differences of losses as they are reported (semantics 1 to 3, 18).

A number is moved in a fork, the fork goes on, and its losses tell. Of a window of the learners the surrogate is

    losses + sum_j scale_j <m_j, SG_j> / B

over the messages m_j that they send, the synthetic gradients SG_j fixed; with `discount` for `scale` it gives what they
return. Nothing else learns meanwhile. Senders that are `TELLER` add to their message what they see of a signal `nudge_NAME`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from tests.contracts.builders import Document
from tests.numerics.linear import GOAL, leaves, said, sgd, simulation_of
from tests.numerics.played import Played
from tests.numerics.whole import drawn

BATCH, STEPS, EPSILON, RATE = 5, 40, 1e-5, 0.01
STILL: Document = {"optimiser": sgd(1e-300)}
TELLER: Document = {**STILL, "observes": ["x"]}
JUDGE: Document = {**STILL, "objective": GOAL}
GRU: Document = {"network": {"kind": "gru", "size": 4}}


def mlp(norm: str, *hidden: int, activation: str = "tanh") -> Document:
    return {"network": {"kind": "mlp", "hidden": list(hidden), "norm": norm, "activation": activation}}


def drawn_like(seed: int, p: Tensor) -> Tensor:
    return drawn(seed, p.numel()).view_as(p)


def _name_of(channel: Document) -> str:
    return f"{channel['from']}->{channel['to']}" + (f":{channel['key']}" if "key" in channel else "")


class Scene:
    """A simulation, and the window of its learners that is looked at.

    Args:
        agents: Those that are `TELLER` have nudges.
        channels: Whose synthetic gradients, linear ones of a hint, are drawn and stay.
        learners: Those whose window it is: one, or a locked group.
        **clock: Of the tellers.
    """

    def __init__(self, agents: Document, channels: list[Document], *learners: str, **clock: int) -> None:
        self.learners, self.channels = learners, channels
        shown = {
            "x": drawn(0, STEPS, BATCH, 3),
            "y": drawn(1, STEPS, BATCH, 2),
            "hint": drawn(2, STEPS, BATCH, 2),
        }
        tellers = {c["from"]: c for c in channels if agents[c["from"]] is TELLER}
        for name, channel in tellers.items():
            size = (
                math.prod(channel["size"])
                if isinstance(channel.get("size"), list)
                else channel.get("size", 2)
            )
            shown[f"nudge_{name}"] = torch.zeros(STEPS, BATCH, size, dtype=torch.float64)
            agents[name] = {**TELLER, "observes": ["x", f"nudge_{name}"], "clock": clock}
        self.source = Played(shown, ("y", "hint"), endless=True)
        told: Document = {"kind": "linear", "context": ["hint"], "optimiser": sgd(1e-300)}
        every = [{**c, "gradient": {**told, **c.get("gradient", {})}} for c in channels]
        self.simulation = simulation_of(agents, every, self.source, optimiser=sgd(RATE))
        for name, handle in self.simulation.channels.items():
            if handle.synthetic_gradient is not None:
                for p in handle.synthetic_gradient.parameters.values():
                    p.data.copy_(0.5 * drawn_like(len(name) + p.dim(), p))
        for name, channel in tellers.items():
            weight = self.simulation.agents[name].parameters[f"to_{channel['to']}.weight"].data
            weight[:, 3:] = torch.eye(len(weight), dtype=torch.float64)
        self._take_the_window()

    def _take_the_window(self) -> None:
        """Take the learners' third window; keep a fork of a step before it, what was injected in it and what came of it."""
        simulation, first = self.simulation, self.simulation.agents[self.learners[0]]
        while first.updates < 2 and simulation.now < STEPS:
            self.before = simulation.fork()
            simulation.step()
        self.start = simulation.now
        own = {name: leaves(simulation.agents[name]) for name in self.learners}
        self.put: dict[str, dict[int, Tensor]] = {}
        while first.updates < 3 and simulation.now < STEPS:
            step = simulation.now
            simulation.step()
            for name, channel in simulation.channels.items():
                if name.partition("->")[0] in self.learners and channel.synthetic_gradient is not None:
                    sg, message = leaves(channel.synthetic_gradient), channel.messages.get(step)
                    if message is not None and message.injects.all():
                        hint = self.source.at(step)["hint"]
                        self.put.setdefault(name, {})[step] = said(sg, "last", message.value, hint).detach()
        self.gradients = {
            (name, key): (p.detach() - simulation.agents[name].parameters[key].detach()) / RATE
            for name, numbers in own.items()
            for key, p in numbers.items()
        }
        self.returned = {
            (name, stamp): message.gradient
            for name, channel in simulation.channels.items()
            if f"nudge_{name.partition('->')[0]}" in self.source.shown
            for stamp, message in channel.messages.items()
            if message.complete and stamp >= self.start and message.gradient is not None
        }

    def surrogate(self, factor: str, move: Callable[[Simulation], object] = bool) -> float:
        """The surrogate of the window, after something was moved before its first step."""
        specs = {_name_of(channel): channel.get("gradient", {}) for channel in self.channels}
        total = 0.0
        with self.before.fork() as twin:
            twin.step()
            move(twin)
            for step in range(self.start, self.simulation.now):
                losses = twin.step()["losses"]
                total += sum(float(losses[name]) for name in self.learners if name in losses)
                for name, put in self.put.items():
                    weight = specs[name].get(factor, 1.0)
                    if step in put:
                        message = twin.channels[name].messages[step].value
                        total += weight * float((message * put[step]).sum()) / BATCH
        return total

    def check_parameters(self) -> None:
        """Hold what the parameters of each learner followed to the slope in a direction of all that is drawn at random."""
        for agent in self.learners:
            gradients = {key: g for (name, key), g in self.gradients.items() if name == agent}
            ways = {key: drawn_like(number, g) for number, (key, g) in enumerate(gradients.items())}

            def moved(by: float, agent: str = agent, ways: dict[str, Tensor] = ways) -> float:
                def move(twin: Simulation) -> None:
                    for key, way in ways.items():
                        twin.agents[agent].parameters[key].data.add_(by * way)

                return self.surrogate("scale", move)

            slope = (moved(EPSILON) - moved(-EPSILON)) / (2 * EPSILON)
            followed = sum(float((g * ways[key]).sum()) for key, g in gradients.items())
            assert followed == pytest.approx(slope, abs=1e-8, rel=1e-6), agent
        assert max(float(g.abs().max()) for g in self.gradients.values()) > 1e-3

    def check_returned(self, least: int = 1) -> None:
        """Hold what came back for the messages of each channel, at least so many, to the slope in such a direction."""
        names = [name for name, _ in self.returned]
        assert names
        for name in dict.fromkeys(names):
            returned = {stamp: g for (channel, stamp), g in self.returned.items() if channel == name}
            assert len(returned) >= least
            nudge = self.source.shown[f"nudge_{name.partition('->')[0]}"]
            ways = {stamp: drawn_like(stamp, g) for stamp, g in returned.items()}
            found = []
            for sign in (1, -1):
                for stamp, way in ways.items():
                    nudge[stamp] = (sign * EPSILON * way).view_as(nudge[stamp])
                found.append(self.surrogate("discount"))
            nudge.zero_()
            slope = BATCH * (found[0] - found[1]) / (2 * EPSILON)
            came = sum(float((g * ways[stamp]).sum()) for stamp, g in returned.items())
            assert came == pytest.approx(slope, abs=1e-7, rel=1e-6), name
            assert min(float(g.abs().max()) for g in returned.values()) > 1e-4


@pytest.mark.parametrize(
    ("norm", "scale", "discount"),
    [("none", 1.0, 1.0), ("layer", 0.3, 0.7), ("batch", 2.0, 0.5)],
)
def test_a_link_of_a_chain_follows_and_returns_the_surrogate(
    norm: str, scale: float, discount: float
) -> None:
    agents = {"a": TELLER, "b": mlp(norm, 7, 5), "c": JUDGE}
    onward = {"from": "b", "to": "c", "norm": norm, "size": 3}
    counts = {"scale": scale, "discount": discount}
    scene = Scene(agents, [{"from": "a", "to": "b"}, {**onward, "gradient": counts}], "b")
    scene.check_parameters()
    scene.check_returned()


def test_an_objective_and_several_injections_add_up_whatever_port_they_are_put_on() -> None:
    """Two channels share a port, one has its own, one is a shadow; the sender has an objective of its own."""
    agents = {
        "a": TELLER,
        "b": {**mlp("layer", 6, activation="gelu"), "objective": {**GOAL, "scale": 0.4}},
        "c": JUDGE,
        "d": JUDGE,
    }
    channels: list[Document] = [
        {"from": "a", "to": "b"},
        {"from": "b", "to": "c", "size": 3, "port": "out"},
        {"from": "b", "to": "d", "size": 3, "port": "out", "gradient": {"scale": 3.0, "discount": 0.2}},
        {"from": "b", "to": "d", "key": 1},
        {"from": "b", "to": "c", "key": "aside", "gradient": {"scale": 0, "discount": 0}},
    ]
    scene = Scene(agents, channels, "b")
    scene.check_parameters()
    scene.check_returned()


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_convolutions_that_read_and_send_feature_maps(norm: str) -> None:
    network = {
        "kind": "conv",
        "norm": norm,
        "activation": "tanh",
        "size": 3,
        "hidden": [3, 2],
        "pool": ["avg", "none"],
    }
    channels: list[Document] = [
        {"from": "a", "to": "b", "size": [2, 4, 4]},
        {"from": "b", "to": "c", "size": [1, 2, 3]},
    ]
    scene = Scene({"a": TELLER, "b": {"network": network}, "c": JUDGE}, channels, "b")
    scene.check_parameters()
    scene.check_returned()


@pytest.mark.long
def test_every_sender_gets_its_own() -> None:
    """Over two ticks, from one to three steps away."""
    hub = {**mlp("layer", 6), "observes": ["x"], "clock": {"unroll": 4}}
    channels: list[Document] = [
        {"from": s, "to": "hub", "size": 4, "link": {"delay": i + 1}} for i, s in enumerate("abc")
    ]
    agents = {**dict.fromkeys("abc", TELLER), "hub": hub, "judge": JUDGE}
    scene = Scene(agents, [*channels, {"from": "hub", "to": "judge", "size": 4}], "hub")
    scene.check_parameters()
    scene.check_returned()


def test_a_slower_senders_message_is_one_leaf_for_all_ticks_of_a_window_that_read_it() -> None:
    agents = {
        "a": TELLER,
        "b": {**mlp("layer", 6), "clock": {"unroll": 4}, "objective": GOAL},
        "c": {**JUDGE, "clock": {"unroll": 2}},
        "d": JUDGE,
    }
    channels = [
        {"from": "a", "to": "b"},
        *({"from": "b", "to": to, "port": "out", "link": {"delay": 2}} for to in "cd"),
    ]
    scene = Scene(agents, channels, "b", period=2)
    scene.check_parameters()
    scene.check_returned(2)


@pytest.mark.parametrize("coupling", ["decoupled", "locked"])
def test_a_posterior_follows_and_returns_its_divergence_and_what_is_read_of_its_sample(coupling: str) -> None:
    """Of a prior that is held for two ticks; locked, its reader's loss is of the window too."""
    fast = {"observes": ["x"], "network": {"kind": "posterior", "size": 4}, "clock": {"unroll": 4}}
    judge = JUDGE if coupling == "decoupled" else {"objective": GOAL, "clock": {"unroll": 4}}
    agents = {"a": TELLER, "b": {**fast, "objective": {"kind": "own_loss", "scale": 0.3}}, "c": judge}
    channels: list[Document] = [
        {"from": "a", "to": "b", "size": 4},
        {"from": "b", "to": "c", "size": 2, "sample": "latent", "coupling": coupling},
    ]
    scene = Scene(agents, channels, *("b", "c")[: 1 + (coupling == "locked")], period=2)
    scene.check_parameters()
    scene.check_returned(2)


# --- several messages of a faster sender ---------------------------------------------------------------------

CLOCKS = {
    "three to one": {},
    "delayed": {"delay": 1},
    "two to one, late": {"sender": (2, 1), "receiver": (4, 3), "delay": 3},
    "two to three": {"sender": (2, 0)},
}


def clock(period: int, phase: int) -> dict[str, int]:
    return {"period": period, "phase": phase}


@pytest.mark.cases(2)
@pytest.mark.parametrize("read", ["last", "concat"])
@pytest.mark.parametrize("clocks", list(CLOCKS)[:3])
def test_over_a_locked_channel_every_parameter_follows_both_losses(read: str, clocks: str) -> None:
    own: dict[str, Any] = CLOCKS[clocks]
    ends = {"a": own.get("sender", (1, 0)), "b": own.get("receiver", (3, -1))}
    agents: Document = {
        name: {**GRU, "clock": {**clock(*end), "unroll": 2}, "objective": GOAL} for name, end in ends.items()
    }
    agents["a"]["observes"] = ["x"]
    channel = {
        "from": "a",
        "to": "b",
        "coupling": "locked",
        "read": read,
        "link": {"delay": own.get("delay", 0)},
    }
    Scene(agents, [channel], "a", "b").check_parameters()


@pytest.mark.cases(3)
@pytest.mark.parametrize("read", ["last", "concat"])
@pytest.mark.parametrize("clocks", CLOCKS)
def test_over_a_decoupled_channel_every_message_gets_its_own(read: str, clocks: str) -> None:
    if (clocks, read) == ("two to three", "concat"):
        return  # side by side, there must be equally many each time
    own: dict[str, Any] = CLOCKS[clocks]
    slow = {**clock(*own.get("receiver", (3, -1))), "unroll": 2}
    agents = {"a": TELLER, "b": {**GRU, "clock": slow, "objective": GOAL}}
    channel = {"from": "a", "to": "b", "read": read, "link": {"delay": own.get("delay", 0)}}
    Scene(agents, [channel], "b", **clock(*own.get("sender", (1, 0)))).check_returned(
        1 if read == "last" else 2
    )
