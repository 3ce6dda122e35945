"""All documents that every way of running is held to, by name: themes, agents that differ in one thing, actors, the library."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch

import antiphon
from antiphon.agents.models import GPT, ResNet
from antiphon.scenarios import Scenario
from tests.contracts.builders import GOAL, LABEL, OWN, TOLD, Document, Play, document, levels, ring
from tests.contracts.games import SPACES, Game
from tests.contracts.library import MORE, SMALL, resolved
from tests.contracts.sites import SITES
from tests.contracts.themes import ENDS, GRU, INPUT, LSTM, THEMES
from tests.contracts.unlike import UNLIKE

BATCH: Document = {"network": {"kind": "mlp", "hidden": [4], "norm": "batch"}}
DEEP: Document = {"gradient": {"kind": "mlp", "hidden": [4], "context": ["label", "returned"]}}
OFTEN = Play(share=0.35)
SEVERAL: list[Document] = [
    LABEL,
    {"kind": "regression", "target": "aim", "scale": 0.3},
    {**GOAL, "scale": 2.0},
]
LOCKED_LATER: Document = {"coupling": "locked", "link": {"delay": 1}}
MLP: Document = {"kind": "mlp", "hidden": [4], "norm": "none", "activation": "tanh"}


def pairs(
    objective: Document,
    count: int = 2,
    *,
    space: str = "choice",
    actor: Document | None = None,
    sender: Document | None = None,
    state: Document | None = None,
    **channel: Any,
) -> Document:
    """Return pairs of a sender and an actor, all alike.

    Args:
        objective: Of the actors.
        count: Of pairs.
        space: Of actions, a key of `SPACES`.
        actor: What each actor has besides.
        sender: What each sender has besides.
        state: The state channel of each actor; None: it has none.
        **channel: Keys of each channel.
    """
    names = [f"a{i}" for i in range(count)]
    agents, channels = dict[str, Document](), []
    for name in names:
        shared = {"network": MLP, "clock": {"unroll": 4}}
        acts = {"observes": ["x"], "acts": f"part-{name}", "objective": deepcopy(objective)}
        agents[name] = {**shared, **acts, **(actor or {})}
        agents[f"s{name}"] = {**shared, "observes": ["y"], **(sender or {})}
        channels.append({"from": f"s{name}", "to": name, "size": 3, **channel})
        if state is not None:
            channels.append({"from": name, "to": name, "key": "state", **state})
    game = Game(space, tuple(f"part-{name}" for name in names), share=0.2)
    return document(agents, channels, game, batch=12)


def rewarded(objective: Document, batch: int, **channel: Any) -> Document:
    """Return three pairs with rewards of their own, which they lose at times: some windows have nothing to learn from."""
    scene = pairs(objective, 3, **channel)
    scene["env"] = Game("choice", scene["env"].parts, share=0.3, next_step=True, own=("a0", "a1", "a2"))
    scene["training"]["batch"] = batch
    return scene


def unread(scene: Document) -> Document:
    """Return pairs turned round: actors read no messages, and tell their readers what they do."""
    for name in (channel["to"] for channel in scene["channels"]):
        scene["agents"][f"s{name}"]["objective"] = LABEL
    channels = [
        {"from": c["to"], "to": c["from"], "size": 3, "coupling": "detached"} for c in scene["channels"]
    ]
    return {**scene, "channels": channels}


def alone(scene: Document) -> Document:
    """Return pairs without their senders: actors that have no channel."""
    actors = {name: agent for name, agent in scene["agents"].items() if "acts" in agent}
    return {**scene, "agents": actors, "channels": []}


def mortals(objective: Document, count: int = 3, *, tells: bool = False, **more_of: Any) -> Document:
    """Return pairs whose actors come late, die and return, alone or with their senders, which see what the actor does.

    Args:
        objective: Of the actors.
        count: Of pairs.
        tells: Whether each actor tells the next one what it makes of it.
        **more_of: See `pairs`; `sees` is what senders observe in place of their actor's view.
    """
    names, sees = tuple(f"a{i}" for i in range(count)), more_of.pop("sees", None)
    scene = pairs(objective, count, **more_of)
    parts = scene["env"].parts
    scene["env"] = Game(more_of.get("space", "choice"), parts, share=0.1, own=names, mortal=True)
    for name in names:
        scene["agents"][name]["observes"] = [f"{name}.seen"]
        scene["agents"][f"s{name}"]["observes"] = sees or [f"{name}.seen"]
    told = [{"from": a, "to": b, "key": "told", "size": 3, **TOLD} for a, b in pairwise([*names, names[0]])]
    return more(scene, {}, *({**one, "link": {"delay": 1 + i % 2}} for i, one in enumerate(told) if tells))


def normalised(scene: Document) -> Document:
    """Return a document whose agents observe all normalised."""
    for agent in scene["agents"].values():
        agent["normalise"] = agent["observes"]
    return scene


def clocks_apart(objective: Document) -> Document:
    """Return pairs whose windows of three ticks, two steps apart, are open at most steps."""
    scene = pairs(objective, 2, coupling="decoupled", link={"delay": 1})
    for agent in scene["agents"].values():
        agent["clock"] = {"period": 2, "unroll": 3}
    return scene


def with_critics(*sees: str) -> Document:
    """Return actors whose critics see other signals of one shape."""
    scene = pairs({"kind": "a2c"}, len(sees), coupling="decoupled", link={"delay": 1})
    for i, signal in enumerate(sees):
        critic = {"observes": ["secret", signal], "network": {"kind": "mlp", "hidden": [3], "norm": "layer"}}
        scene["agents"][f"a{i}"]["objective"] = {"kind": "a2c", "critic": critic}
    return scene


def tied_in_two_waves() -> Document:
    """Return agents that share their parameters, one of which reads the other at once."""
    own = {**OWN, "share": "g", "clock": {"unroll": 3}}
    agents = {
        "a": {**own, "observes": ["x"]},
        "b": {**own, "observes": ["z"]},
        "c": {**OWN, "objective": LABEL},
    }
    later = {"link": {"delay": 1}}
    ends: list[Document] = [
        {"from": "a", "to": "b"},
        {"from": "b", "to": "c"},
        {"from": "b", "to": "a", **later},
    ]
    return document(agents, [{**end, "size": 4, "port": "p", **TOLD} for end in ends])


def groups_of_stacks_and_single_agents() -> Document:
    """Return agents alike that are locked to others of their own clocks, and two that one of them tells."""
    unrolled: Document = {**OWN, "clock": {"unroll": 4}}
    agents: Document = {f"a{i}": {**unrolled, **BATCH} for i in range(3)}
    agents["c"] = {**unrolled, "observes": ["y"], "objective": LABEL}
    agents["z"] = {**OWN, "clock": {"period": 2, "phase": 1, "unroll": 2}, "objective": LABEL}
    agents |= {f"n{i}": {**unrolled, "objective": LABEL} for i in range(2)}
    locked = {"coupling": "locked", "link": {"delay": 1}}
    channels = [{"from": s, "to": r, **locked} for s, r in (("a0", "c"), ("a1", "z"), ("a2", "c"))]
    channels += [{"from": "a0", "to": f"n{i}", "link": {"delay": 2}, **TOLD} for i in range(2)]
    both = {"size": 4, "link": {"delay": 1}, **TOLD}
    channels += [{"from": f"n{i}", "to": f"n{1 - i}", **both} for i in range(2)]
    return document(agents, channels, ENDS)


def chain(**channel: Any) -> Document:
    """Return four different networks, one after the other: none has a second of its kind."""
    agents = {name: {**OWN, "network": {"kind": "mlp", "hidden": [3 + i]}} for i, name in enumerate("abcd")}
    agents["d"]["objective"] = LABEL
    return document(agents, [{"from": s, "to": r, "size": 4, **channel} for s, r in ("ab", "bc", "cd")], ENDS)


def told(ends: list[tuple[str, str, Document]], own: dict[str, Document], env: Any = None) -> Document:
    """Return agents on some channels; those of the letters b and c have objectives, and `own` is by letter or name."""
    names = sorted({name for sender, receiver, _ in ends for name in (sender, receiver)})
    agents = {
        n: {**OWN, **({"objective": LABEL} if n[0] in "bc" else {}), **own.get(n[0], {}), **own.get(n, {})}
        for n in names
    }
    return document(agents, [{"from": a, "to": b, "size": 4, **how} for a, b, how in ends], env)


def more(scene: Document, agents: Document, *channels: Document) -> Document:
    """Return a document with further agents and channels."""
    return {
        **scene,
        "agents": {**scene["agents"], **agents},
        "channels": [*scene["channels"], *channels],
    }


BACK: Document = {"size": 2, "coupling": "locked", "link": {"delay": 1}}


def back_and_forth(scene: Document) -> Document:
    """Return two pairs whose actors read each other: what they say comes back within the window."""
    return more(scene, {}, *({"from": f"a{i}", "to": f"a{1 - i}", **BACK} for i in range(2)))


def to_itself(scene: Document) -> Document:
    """Return two pairs whose actors read what they said the step before."""
    return more(scene, {}, *({"from": f"a{i}", "to": f"a{i}", **BACK} for i in range(2)))


def tied(scene: Document, *ties: list[str]) -> Document:
    """Return a document some of whose parameters are one."""
    return {**scene, "share": list(ties)}


WEIGHTS = ["n0.0.weight", "n2.0.weight", "n3.0.weight"], ["n2.0.bias", "n1.0.bias"]
"""Ties by which all four agents of a ring hang together, some through others."""
SIGHT: Document = {"observes": ["y"]}
LOCKED: Document = {"coupling": "locked"}
ALIGNED: Document = {**OWN, "align": True, "objective": LABEL}

MIXED: dict[str, Document] = {
    "states, hidden layers": ring(agent=LSTM, state=DEEP, env=ENDS),
    "inputs and delays": ring(channel={"input": INPUT, "link": {"delay": 2, "drop": 0.4}}, env=ENDS),
    "windows that wait": levels(
        low={"clock": {"unroll": 2}}, channel={"coupling": "delayed", "link": {"delay": 2}}
    ),
    "batch norm and ends": ring(agent=BATCH, channel={"norm": "batch"}, env=ENDS),
    "clocks": ring(8, agent=[{"clock": {"period": p, "unroll": 5 - p, "phase": -1}} for p in (1, 2, 3, 4)]),
    "locked states in episodes": ring(agent=GRU, state={"coupling": "locked"}, env=Play(lengths=(6, 8))),
    "stand-ins of an agent that learns at times": levels(
        high={"network": {"kind": "rnn", "size": 4}, "clock": {"unroll": 2}, "learn": 0.5},
        channel={"coupling": "unlocked", "input": INPUT},
    ),
    "some alone": ring(6, agent=[{}, {}, {"share": "g"}], channel={"port": "out", "norm": "layer"}),
    "chain": chain(**TOLD),
    "locked chain": chain(coupling="locked"),
    "chain of critics": chain(gradient={"kind": "critic", "hidden": [4], "norm": "layer"}),
    "few targets": levels(env=Play(gaps=0.6), batch=1, channel=DEEP, predictor={"kind": "sgd", "lr": 0.05}),
    "many ends, windows of three": levels(
        env=OFTEN,
        batch=2,
        channel={"coupling": "locked", "link": {"delay": 1}},
        low={"clock": {"unroll": 3}},
        high={"clock": {"unroll": 3}},
    ),
    "many ends, inputs": levels(
        env=OFTEN,
        batch=2,
        channel={
            "input": {"kind": "mlp", "hidden": [4], "norm": "batch", "context": ["x", "held"]},
            "link": {"delay": 1, "drop": 0.5},
        },
        predictor={"kind": "sgd", "lr": 0.05},
    ),
    "critic, discount": ring(
        agent=LSTM,
        state={"gradient": {"kind": "critic", "hidden": [4], "norm": "layer", "discount": 0.5}},
        env=ENDS,
    ),
    "clip of groups": levels(
        low=[{"learn": 0.5}, {}, {"optimiser": {"kind": "sgd", "lr": 0.2, "clip": 0.02}}],
        channel=[LOCKED, LOCKED, TOLD],
        optimiser={"kind": "sgd", "lr": 0.1, "clip": 0.1},
    ),
    "clip of groups that are alike": levels(
        channel=LOCKED, optimiser={"kind": "sgd", "lr": 0.1, "momentum": 0.5, "clip": 0.1}, env=ENDS
    ),
    "clip of a group with tied weights": tied(
        levels(channel=LOCKED, wide=True, optimiser={"kind": "sgd", "lr": 0.1, "clip": 0.1}),
        ["a0.0.weight", "a1.0.weight", "a2.0.weight"],
    ),
    "tied, weight decay and momentum": ring(
        4,
        agent=[{"share": "g"}, {"share": "h"}],
        channel={"port": "out"},
        optimiser={"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.02, "clip": 0.2},
    ),
    "tied in two waves": tied_in_two_waves(),
    "groups of stacks and of single agents": groups_of_stacks_and_single_agents(),
    "aligned, locked": levels(
        low={"clock": {"unroll": 4}},
        high={"clock": {"unroll": 4}, "align": True, "observes": ["x"]},
        channel={"coupling": "locked", "link": {"delay": 2}},
    ),
    "late target": levels(high={"objective": GOAL}, channel=TOLD, sweep=True),
    "tied weights beside a stack": tied(ring(7), ["n0.0.weight", "n2.0.weight"]),
    "tied weights, drawn": tied(
        ring(agent={"learn": 0.5, "clock": {"unroll": 2}}, env=Play(gaps=0.7, share=0.2)), *WEIGHTS
    ),
    "tied weights of states": tied(
        ring(agent=LSTM, state={}), ["n0.cell.input.weight", "n1.cell.input.weight"]
    ),
    "tied weights of one agent": tied(ring(), ["n0.0.bias", "n0.0.norm.bias", "n1.0.bias"]),
    "tied weights of a locked group": tied(
        levels(high={"clock": {"period": 2}}, channel=LOCKED),
        ["a0.0.weight", "a1.0.weight"],
        ["a0.0.bias", "b0.0.bias"],
    ),
    "tied weights, late": tied(
        ring(channel=[LOCKED, {"coupling": "delayed"}]),
        ["n0.0.weight", "n1.0.weight"],
        ["n2.0.bias", "n3.0.bias"],
    ),
    "tied weights, one of which nothing reaches": tied(
        levels(high=[{}, {}, {}, {"objective": GOAL}], channel=LOCKED, count=4, batch=1, env=Play(gaps=0.7)),
        ["a1.0.bias", "b3.0.bias"],
    ),
    "states, drawn": ring(agent={**LSTM, "clock": {}, "learn": 0.7}, state=TOLD),
    "states, late": ring(
        agent={**LSTM, "clock": {}},
        channel={"coupling": "delayed", "horizon": 2, "link": {"delay": 3}},
        state=TOLD,
    ),
    "phases of episodes": ring(
        agent=GRU,
        channel={"gradient": {"kind": "linear", "context": ["from.phase", "to.phase"]}, "link": {"delay": 1}},
        env=Play(lengths=(6, 8)),
    ),
    "an aligned sender and a late context": document(
        {"a": {**OWN, "objective": LABEL}, "b": ALIGNED, "c": {**OWN, "objective": LABEL}},
        [
            {"from": "a", "to": "b", "size": 4, "link": {"drop": 0.5}},
            {"from": "b", "to": "c", "size": 4, "gradient": {"kind": "linear", "context": ["goal"]}},
        ],
    ),
    "schedules of inputs": ring(
        channel={
            "link": {"delay": 1, "drop": 0.4},
            "input": {**INPUT, "optimiser": {"kind": "sgd", "lr": 0.05, "schedule": {"kind": "linear"}}},
        },
        steps=8,
    ),
    "noise and bits": ring(channel={"link": {"delay": 1, "noise": 0.1, "bits": 8}}, env=OFTEN),
    "nothing returned yet": levels(channel={"link": {"delay": 6}}, high={"clock": {"period": 3}}),
    "read by a later window": levels(
        channel={**LOCKED, "link": {"delay": 2}}, low={"clock": {"unroll": 2}}, high={"clock": {"unroll": 2}}
    ),
    "injected for some alone": told(
        [
            ("a0", "b0", {"port": "p", **TOLD}),
            ("a1", "b0", {"port": "p", "coupling": "detached"}),
            ("a2", "b0", {"port": "p", **TOLD}),
            ("a1", "b1", {"port": "p", "coupling": "detached"}),
        ],
        {"b": SIGHT},
    ),
    "locked to who learns and to who does not": told(
        [
            ("a0", "c", {**LOCKED, "link": {"delay": 1}}),
            ("a1", "z", {**LOCKED, "link": {"delay": 1}}),
            ("z", "c2", {"coupling": "detached"}),
        ],
        {"a": {"clock": {"unroll": 2}}, **{key: {**SIGHT, "clock": {"unroll": 2}} for key in "cz"}},
        Play(share=0.3),
    ),
    "locked through agents that stand alone": told(
        [
            *[("a0", "y", LOCKED), ("a1", "z", LOCKED), ("a2", "y", LOCKED), ("y", "c", LOCKED)],
            *[("z", "w", {"link": {"delay": 1}, **TOLD}), ("w", "c2", {"coupling": "detached"})],
        ],
        {
            "y": {**SIGHT, "learn": 0.7},
            "z": {"learn": 0.7},
            "w": SIGHT,
            "c": {"observes": ["x", "y"], "learn": 0.7},
            "c2": SIGHT,
        },
    ),
}
ACTING: dict[str, Document] = {
    **{
        f"{kind}, {coupling}": pairs({"kind": kind}, 3, coupling=coupling)
        for kind in ("a2c", "ppo", "reinforce")
        for coupling in ("locked", "decoupled", "delayed")
    },
    **{f"space {space}": pairs({"kind": "ppo"}, space=space) for space in SPACES},
    "a2c, clocks": clocks_apart({"kind": "a2c"}),
    "ppo, clocks": clocks_apart({"kind": "ppo"}),
    "ppo, epochs": pairs({"kind": "ppo", "epochs": 3, "minibatches": 2}, coupling="locked"),
    "windows without rewards": rewarded({"kind": "reinforce"}, 2, coupling="detached"),
    "critics that see other signals": with_critics("x", "z", "position"),
    "normalised": pairs(
        {
            "kind": "ppo",
            "epochs": 3,
            "minibatches": 2,
            "critic": {"observes": ["secret", "x"], "normalise": ["secret"], "network": MLP},
        },
        2,
        actor={"observes": ["x", "z"], "normalise": ["z"]},
        sender={"observes": ["y"], "normalise": ["y"]},
        coupling="locked",
    ),
    "normalised, recurrent": pairs(
        {"kind": "ppo", "epochs": 2, "minibatches": 2},
        2,
        actor={"observes": ["x"], "normalise": ["x"], "network": {"kind": "gru", "size": 4, "norm": "none"}},
        coupling="decoupled",
    ),
}
PPO: Document = {"kind": "ppo", "epochs": 3, "minibatches": 2}
RECALLS: Document = {"network": {"kind": "gru", "size": 3, "norm": "none"}}
WORDS: Document = {"sample": {"kind": "reinforce", "vocabulary": 3, "size": 2}, "size": None}
ACTING |= {
    "ppo, a critic's gradient": pairs(
        PPO, gradient={"kind": "critic", "hidden": [4], "norm": "layer", "context": ["y"]}
    ),
    "ppo, replayed senders": pairs(
        PPO, gradient={"kind": "mlp", "hidden": [4], "context": ["label"], "gate": "none", "passes": "all"}
    ),
    "ppo, replayed senders, gates": rewarded(
        PPO,
        6,
        link={"noise": 0.1},
        gradient={"kind": "linear", "context": ["label"], "gate": "skill", "passes": "all"},
    ),
    "ppo, actors that speak": more(
        {
            **pairs(PPO, 3),
            "training": {
                "batch": 12,
                "optimiser": {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.1},
            },
        },
        {},
        *(
            {"from": f"a{i}", "to": f"a{(i + 1) % 3}", "key": "told", "size": 2, "link": {"delay": 1}, **told}
            for i, told in enumerate(
                ({"gradient": {"kind": "linear", "gate": "none"}}, LOCKED, {"coupling": "detached"})
            )
        ),
    ),
    "a2c, delayed by the link": pairs({"kind": "a2c"}, coupling="delayed", link={"delay": 1}),
    "ppo, locked, delay and noise": pairs(PPO, coupling="locked", link={"delay": 1, "noise": 0.1}),
    "ppo, locked, drawn": pairs(PPO, coupling="locked", actor={"learn": 0.5}),
    "ppo, locked, a slower actor": pairs(
        PPO, coupling="locked", sender={"clock": {}}, actor={"clock": {"period": 2, "unroll": 2}}
    ),
    "ppo, locked in a circle": back_and_forth(pairs(PPO, coupling="locked", link={"noise": 0.1})),
    "ppo, locked in a circle, with states": back_and_forth(pairs(PPO, coupling="locked", actor=RECALLS)),
    "ppo, replayed senders of what talks to itself": to_itself(
        pairs(PPO, gradient={"kind": "linear", "context": ["label"], "gate": "none", "passes": "all"})
    ),
    "ppo, locked, symbols": pairs(PPO, coupling="locked", sample={"kind": "gumbel", "vocabulary": 3}),
    "ppo, locked, latents": pairs(PPO, coupling="locked", sample="latent"),
    "ppo, states": pairs(PPO, actor=RECALLS, state=TOLD),
    "ppo, auxiliary task": pairs(
        PPO, actor=RECALLS, state={"gradient": {"kind": "linear", "auxiliary": 0.5}}
    ),
    "ppo, frozen and weighed": pairs({**PPO, "scale": 2.0}, actor={"learn": False}),
    "ppo, shared": pairs(PPO, actor={"share": "all"}, port="out"),
    "ppo, alone": alone(rewarded(PPO, 6)),
    "ppo, alone, shared": alone(pairs(PPO, actor={"share": "all", "learn": 0.5})),
    "ppo, alone, mortal": alone(mortals({**PPO, "critic": {"observes": ["secret"], "network": MLP}})),
    "ppo, alone, normalised": alone(normalised(pairs(PPO, actor={"clock": {"period": 2, "unroll": 3}}))),
    "a2c, tied weights": tied(pairs({"kind": "a2c"}), ["a0.0.weight", "a1.0.weight"]),
    "sampled words of one port": more(
        pairs(PPO, 3, sender={"objective": PPO}, port="out", **WORDS),
        {},
        *({"from": f"sa{i}", "to": f"a{(i + 1) % 3}", "port": "out", **WORDS} for i in range(3)),
    ),
    "sampled messages of a late window": more(
        pairs(
            {"kind": "a2c"},
            1,
            sender={"objective": {"kind": "a2c"}},
            sample={"kind": "gaussian", "noise": 0.4},
        ),
        {"late": {**OWN, "objective": LABEL, "clock": {"unroll": 4}}},
        {"from": "sa0", "to": "late", "size": 3, "coupling": "delayed"},
    ),
    "ppo, clip of groups": {
        **pairs({"kind": "ppo", "epochs": 2, "minibatches": 2}, 3, coupling="locked"),
        "training": {"batch": 12, "optimiser": {"kind": "sgd", "lr": 0.05, "clip": 0.1}},
    },
    "sampled messages": pairs(
        {"kind": "a2c"}, sender={"objective": {"kind": "a2c"}}, sample={"kind": "gaussian", "noise": 0.4}
    ),
}
Q: Document = {"kind": "q", "trace": 0.5, "epsilon": 0.3, "explore": 6, "period": 2, "epochs": 1}
ACTING |= {
    "q, locked": pairs(Q, 3, coupling="locked"),
    "q, decoupled": pairs(Q, 3, coupling="decoupled", link={"delay": 1}),
    "q, passes": pairs(
        {**Q, "epochs": 3, "minibatches": 2, "period": 7, "normalise": "none"}, 3, coupling="locked"
    ),
    "q, recurrent passes": pairs({**Q, "epochs": 2, "minibatches": 2}, 2, actor=RECALLS, state=TOLD),
    "q, recurrent": pairs(Q, 2, actor=RECALLS, state=TOLD),
    "q, clocks": clocks_apart(Q),
    "q, replay": unread(pairs({**Q, "epochs": 3, "minibatches": 2, "replay": 3}, 3)),
    "q, replay of mortals": unread(mortals({**Q, "epochs": 3, "replay": 3})),
    "q, replay of some windows": unread(
        rewarded({**Q, "epochs": 2, "minibatches": 2, "replay": 2, "normalise": "none"}, 2)
    ),
    "q, rewards that are missing": rewarded(Q, 2, coupling="detached"),
    "q, shared": pairs(Q, actor={"share": "all"}, port="out"),
    "q, drawn": pairs(Q, 3, coupling="locked", actor={"learn": 0.5}),
    "q, normalised": normalised(pairs(Q, 2, coupling="locked")),
    "q, mortal": mortals(Q, actor=RECALLS, state=TOLD, tells=True),
    "q, masked, shared": pairs(
        Q, 3, actor={"share": "all", **RECALLS}, coupling="locked", mask="near", link={"delay": 1}
    ),
    "ppo, masked, replayed senders": pairs(
        PPO, mask="near", gradient={"kind": "linear", "context": ["label"], "passes": "all"}
    ),
    "mortal, masked": mortals({"kind": "a2c"}, tells=True, mask="near", link={"delay": 1}),
    "mortal, locked": mortals({"kind": "a2c"}, coupling="locked"),
    "mortal, states": mortals({"kind": "a2c"}, actor=RECALLS, state=TOLD, tells=True),
    "mortal, ppo, senders that recall": mortals(
        PPO, actor=RECALLS, sender=RECALLS, state=TOLD, sees=["y"], link={"delay": 1}, **TOLD
    ),
    "mortal, slower actors": mortals(
        {"kind": "a2c"},
        actor={**RECALLS, "clock": {"period": 2, "unroll": 2}},
        state=TOLD,
        read="concat",
        tells=True,
    ),
    "mortal, lossy links and inputs": mortals(
        PPO, link={"delay": 1, "drop": 0.4}, input={**INPUT, "context": ["x", "held"]}, tells=True, **TOLD
    ),
    "mortal, delayed": mortals({"kind": "a2c"}, 2, coupling="delayed", link={"delay": 1}),
    "mortal, contexts of the ends": mortals(
        {"kind": "reinforce"},
        2,
        actor=RECALLS,
        sender=RECALLS,
        gradient={"kind": "linear", "context": ["from.state", "to.state", "returned"]},
        link={"delay": 1},
    ),
    "mortal, critics and samples": mortals(
        {
            **PPO,
            "critic": {"observes": ["secret"], "network": {"kind": "mlp", "hidden": [3], "norm": "layer"}},
        },
        sender={"objective": PPO},
        sample={"kind": "gaussian", "noise": 0.4},
        tells=True,
    ),
    "mortal, normalised": normalised(mortals(PPO, tells=True)),
}
LIBRARY: dict[str, Callable[[], Scenario]] = {
    f"{name}, {values}": (lambda name=name, values=values: resolved(name, values))  # type: ignore[misc]
    for name in SMALL
    for values in [{}, *MORE.get(name, [])]
}


def split_text() -> Scenario:
    """A transformer in parts: dropout, a tied head, and small heads of local losses."""
    torch.manual_seed(0)
    env = {"id": "antiphon/TextWindows-v0", "length": 5}
    model = GPT(77, 5, blocks=3, width=4, heads=2, dropout=0.2, tied=True)
    goal = {"kind": "coding", "target": "following"}
    settings: Document = {"inputs": {"tokens": "tokens"}, "objective": goal, "batch": 3}
    return antiphon.split(model, ["blocks.1", "blocks.2"], env=env, gradient="local", **settings)


def split_pictures() -> Scenario:
    """A residual network in parts that work at the same time: batch norm, also in copied blocks that learn."""
    torch.manual_seed(0)
    env, gradient = {"id": "antiphon/Digits-v0"}, {"kind": "aug_local", "layers": 1}
    model = ResNet(1, 10, channels=2)
    return antiphon.split(model, ["blocks.1", "blocks.2"], env=env, gradient=gradient, delay=1, batch=3)


DOCUMENTS: dict[str, Document | Callable[[], Scenario]] = {
    **THEMES,
    **SITES,
    **{f"unlike {name}": scene for name, scene in UNLIKE.items()},
    **MIXED,
    **{f"acting {name}": scene for name, scene in ACTING.items()},
    **{f"library {name}": make for name, make in LIBRARY.items()},
    "bits": ring(channel={"link": {"delay": 1, "bits": 3}}),
    "split text": split_text,
    "split pictures": split_pictures,
    "newest gradients, many ends": levels(
        env=OFTEN,
        channel={"gradient": {"kind": "linear", "context": ["returned"]}},
        high={"clock": {"unroll": 3}},
    ),
    "several objectives": levels(
        high={"objective": SEVERAL, "clock": {"unroll": 2}},
        env=Play(gaps=0.5, share=0.2),
    ),
    "several objectives, locked": ring(
        agent={"objective": SEVERAL[:2], "clock": {"unroll": 2}, "learn": 0.7},
        channel=LOCKED_LATER,
        env=Play(gaps=0.7),
    ),
}
"""A document, or a function that makes a scenario: of the library (its data are there when a test runs), or of a model."""


def scenario_of(name: str, **training: Any) -> Scenario:
    """Return the scenario of a document; its own object each time.

    Args:
        name: Of the document.
        **training: Keys of `training` to change.
    """
    found = DOCUMENTS[name]
    if not callable(found):
        return Scenario.model_validate({**found, "training": {**found["training"], **training}})
    scenario = found()
    return scenario.model_copy(update={"training": scenario.training.model_copy(update=training)})
