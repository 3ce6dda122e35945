"""Scenarios by hand, one for each thing that the backends must agree on."""

from __future__ import annotations

from typing import Any

from torch import nn

from tests.contracts.builders import GOAL, LABEL, OWN, Document, Play, document, levels, ring
from tests.contracts.drawn_scenes import CELLS, COUPLINGS, KINDS

NETWORKS: dict[str, Document] = {
    "no hidden layer": {"kind": "mlp", "hidden": []},
    "two hidden layers": {"kind": "mlp", "hidden": [6, 4], "norm": "none", "activation": "gelu"},
    "batch norm": {"kind": "mlp", "hidden": [4], "norm": "batch", "activation": "tanh"},
    "conv": {"kind": "conv", "hidden": [2, 3], "size": 3, "pool": ["max", "none"], "norm": "batch"},
    "conv, layer norm": {"kind": "conv", "hidden": [2], "size": 3, "pool": ["avg"], "norm": "layer"},
    "nature": {
        "kind": "nature",
        "filters": [2],
        "sizes": [1],
        "strides": [1],
        "hidden": [4],
        "norm": "batch",
    },
    **{kind: {"kind": kind, "size": 4} for kind in CELLS},
    **{f"{kind}, batch norm": {"kind": kind, "size": 4, "cell_norm": "batch"} for kind in CELLS},
    "lstm, layer norm": {"kind": "lstm", "size": 4, "cell_norm": "layer", "hidden": [5], "norm": "layer"},
    "leak": {"kind": "leaky", "size": 4, "rate": 0.2, "hidden": [5], "norm": "batch"},
}
LSTM: Document = {"network": {"kind": "lstm", "size": 4}, "clock": {"unroll": 3}}
GRU: Document = {"network": {"kind": "gru", "size": 4}, "clock": {"unroll": "episode"}}
INPUT: Document = {"kind": "linear", "context": ["x", "held", "age"]}
DEEP: Document = {"kind": "mlp", "hidden": [4], "norm": "batch", "context": ["y", "from.phase", "to.phase"]}
LABELLED: Document = {"kind": "linear", "context": ["label"]}
ENDS = Play(share=0.15)
EPISODES = Play(lengths=(6, 8))


def gradient(**keys: Any) -> Document:
    """A channel with these keys of its synthetic gradient."""
    return {"gradient": {**LABELLED, **keys}}


def kind_of(kind: str) -> Document:
    """A ring whose synthetic gradients are of a kind."""
    hidden = {} if kind in ("ridge", "linear", "local") else {"hidden": [4], "norm": "layer"}
    hidden |= {"size": 3} if kind == "conv" else {}
    target = {"target": "label"} if kind in ("local", "sobolev_label") else {}
    size = [1, 2, 2] if kind == "conv" else 4
    context = ["label", "returned", "goal"]
    return ring(channel={"size": size, **gradient(kind=kind, context=context, **hidden, **target)})


def network_of(network: Document) -> Document:
    """Agents with a network; those that see images get no messages."""
    if network["kind"] == "conv":
        return levels(low={"network": network, "observes": ["image"]}, channel={"size": [1, 2, 2]})
    if network["kind"] == "nature":
        return levels(low={"network": network, "observes": ["image", "x"]})
    return ring(agent={"network": network, "clock": {"unroll": 2}})


def coupled(coupling: str) -> Document:
    """Pairs of agents under a coupling, over episodes that end."""
    channel = {"coupling": coupling, "input": INPUT if coupling == "unlocked" else None}
    return levels(low={"clock": {"unroll": 2}}, high={"clock": {"period": 2}}, channel=channel, env=ENDS)


def clocked(*clocks: tuple[int, int, int], **keys: Any) -> Document:
    """A ring whose agents have these clocks by turns: period, phase, unroll."""
    own = [{"clock": dict(zip(("period", "phase", "unroll"), clock, strict=True))} for clock in clocks]
    return ring(8, agent=own, **keys)


def module(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs))


def to_themselves() -> Document:
    """Agents that remember by a message to themselves, over two channels."""
    agents = {f"n{i}": {**OWN, "objective": LABEL} for i in range(4)}
    links = {0: {"delay": 1}, "later": {"delay": 3, "drop": 0.2}}
    own = [
        {"from": name, "to": name, "key": key, "link": link} for name in agents for key, link in links.items()
    ]
    return document(agents, own)


def mixed() -> Document:
    """Five architectures, two agents of each, in a ring."""
    names = ("no hidden layer", "two hidden layers", "batch norm", "gru", "lstm, layer norm")
    return ring(10, agent=[{"network": NETWORKS[name]} for name in names])


def unlike_messages() -> Document:
    """One that reads messages of several shapes."""
    agents = {f"a{i}": {**OWN, "observes": ["y"]} for i in range(3)} | {"b": {**OWN, "objective": GOAL}}
    return document(
        agents, [{"from": f"a{i}", "to": "b", "size": [[1, 2, 2], None, None][i]} for i in range(3)]
    )


def foretelling() -> Document:
    """Recurrent agents that have nothing to learn but what their last states will be worth."""
    agents = {f"c{i}": {**OWN, "network": {"kind": "rnn", "size": 4}} for i in range(2)}
    states = [{"from": name, "to": name, "key": "state", **gradient(auxiliary=0.5)} for name in agents]
    return document({**agents, "n": {**OWN, "objective": GOAL}}, states, EPISODES)


def half_drawn() -> Document:
    """Locked pairs in which the receivers, who are alike, do not learn from most windows, and the senders are not."""
    agents = {f"b{i}": {**OWN, "objective": LABEL, "learn": 0.2} for i in range(2)}
    agents |= {"a0": {**OWN, "observes": ["y"]}, "a1": {**OWN, "network": {"kind": "mlp", "hidden": [6]}}}
    pairs = [("a0", "b0"), ("a1", "b1")]
    return document(agents, [{"from": a, "to": b, "size": 4, "coupling": "locked"} for a, b in pairs])


def symbols(**keys: Any) -> Document:
    """The keys of a channel with messages of two symbols."""
    return {
        "size": None,
        "sample": {"kind": "gumbel", "vocabulary": 3, "size": 2, "temperature": 0.7, **keys},
    }


THEMES: dict[str, Document] = {
    **{f"coupling {coupling}": coupled(coupling) for coupling in COUPLINGS},
    **{f"ring {c}": ring(channel={"coupling": c, "input": INPUT}) for c in COUPLINGS if c != "unlocked"},
    **{f"gradient {kind}": kind_of(kind) for kind in KINDS},
    **{f"network {name}": network_of(network) for name, network in NETWORKS.items()},
    "delayed and stale": ring(channel={"coupling": "delayed", "horizon": 2, "link": {"delay": 3}}),
    "locked in windows": levels(
        low={"clock": {"period": 2, "unroll": 2}},
        channel={"coupling": "locked", "link": {"delay": 1}},
        wide=True,
    ),
    "messages of two to four axes": ring(
        6, channel=[{"size": size} for size in ([3, 2], [1, 2, 3], [1, 2, 3, 2])]
    ),
    "axes, concatenated": levels(high={"clock": {"period": 2}}, channel={"size": [2, 3], "read": "concat"}),
    "without context": ring(channel=gradient(context=[], kind="mlp", hidden=[4], norm="layer")),
    "context of phases": ring(
        agent={"clock": {"unroll": 3}}, channel=gradient(context=["from.phase", "to.phase"])
    ),
    "context of states": ring(agent=LSTM, channel=gradient(context=["from.state", "to.state", "returned"])),
    "scale and discount": ring(channel=gradient(scale=0.3, discount=0.6)),
    "shadows": ring(channel=gradient(scale=0, discount=0)),
    "gates, of many to many": levels(
        channel=gradient(kind="linear", context=["aim", "label", "goal"], gate="skill"), wide=True
    ),
    "gates, of one to one": levels(
        channel=gradient(kind="linear", context=["aim", "label", "goal"], gate="skill"), env=ENDS
    ),
    "gates, delayed and lossy": levels(
        channel={
            **gradient(kind="mlp", context=["aim", "label"], hidden=[4], norm="layer", gate="skill"),
            "link": {"delay": 1, "drop": 0.2},
        },
    ),
    "sobolev, batch norm": ring(
        channel=gradient(kind="sobolev", hidden=[4, 3], norm="batch"), predictor={"kind": "sgd", "lr": 0.05}
    ),
    "label of a goal": ring(channel=gradient(kind="sobolev_label", target="goal", hidden=[4], norm="layer")),
    "learn": ring(agent={"learn": 0.5, "clock": {"unroll": 2}}),
    "p_update, locked": levels(low={"learn": 0.5}, high={"learn": 0.5}, channel={"coupling": "locked"}),
    "frozen": ring(agent={"learn": False, "network": NETWORKS["batch norm"]}),
    "tied": ring(6, agent=[{"share": "g"}, {"share": "h"}], channel={"port": "out", "norm": "batch"}),
    "tied, batch norm": ring(
        agent={"share": "g", "network": NETWORKS["batch norm"]}, channel={"port": "out"}
    ),
    "aligned": levels(high={"align": True, "observes": ["x"]}, channel={"link": {"delay": 2, "drop": 0.3}}),
    "aligned, hardly anything arrives": levels(high={"align": True}, channel={"link": {"drop": 0.95}}),
    "normalised": ring(agent={"observes": ["x"], "normalise": ["x"], "clock": {"unroll": 3}}, env=ENDS),
    "normalised, some, some windows": ring(
        6,
        agent=[
            {"observes": ["y", "x"], "normalise": ["y"], "learn": 0.5},
            {"observes": ["z", "x"], "normalise": ["z"]},
        ],
    ),
    "normalised images": levels(
        low={"network": NETWORKS["conv"], "observes": ["image"], "normalise": ["image"]},
        channel={"size": [1, 2, 2]},
    ),
    "normalised, tied": ring(
        6,
        agent=[
            {"share": "g", "observes": ["x"], "normalise": ["x"]},
            {"share": "h", "observes": ["z"], "normalise": ["z"]},
        ],
        channel={"port": "out"},
    ),
    "normalised, aligned": levels(
        high={"align": True, "observes": ["x"], "normalise": ["x"], "clock": {"unroll": 3}},
        channel={"link": {"delay": 2, "drop": 0.3}},
    ),
    "normalised, locked, delayed": levels(
        low={"observes": ["x"], "normalise": ["x"], "clock": {"unroll": 2}},
        high={"observes": ["y"], "normalise": ["y"]},
        channel=[{"coupling": "locked"}, {"coupling": "delayed", "link": {"delay": 2}}],
        wide=True,
    ),
    "normalised, frozen": ring(agent={"learn": False, "observes": ["x"], "normalise": ["x"]}),
    "concat": levels(wide=True, channel={"size": None}),
    "ages": ring(
        agent={"observes": ["x", "age"], "clock": {"period": 2}}, channel={"link": {"delay": 3, "drop": 0.3}}
    ),
    "read at ends": levels(high={"clock": {"period": 3, "phase": 1}}, channel={"read": "concat"}, env=ENDS),
    "read concat": levels(high={"clock": {"period": 4, "phase": -1}}, channel={"read": "concat"}, wide=True),
    "four periods": clocked((1, 0, 1), (2, -1, 1), (3, 1, 1), (4, 2, 1)),
    "four windows": clocked((1, 0, 3), (2, 0, 2), (1, 0, 1), (4, -1, 2), env=ENDS),
    "drops": ring(channel={"link": {"delay": 1, "drop": 0.4}}),
    "drops, all": ring(channel={"link": {"delay": 1, "drop": 1.0}}),
    "noise": ring(channel={"link": {"delay": 1, "noise": 0.2}}),
    "way back": ring(channel={"link": {"delay": [2, 3]}}),
    "long links": ring(channel={"link": {"delay": 5}}),
    "inputs": ring(channel={"input": INPUT, "link": {"delay": 1, "drop": 0.5}}),
    "deep inputs": ring(channel={"input": DEEP, "link": {"delay": 1, "drop": 0.5}}, env=ENDS),
    "inputs without context": ring(
        channel={"norm": "none", "input": "linear", "link": {"delay": 1, "drop": 0.5}}
    ),
    "unlocked ring": ring(channel={"coupling": "unlocked", "input": DEEP, "link": {"delay": 1}}),
    "unlocked levels": levels(channel={"coupling": "unlocked", "input": INPUT}, wide=True, env=ENDS),
    "ends": ring(agent={"clock": {"unroll": 3}}, env=ENDS),
    "ends, batch norm": ring(agent={"network": NETWORKS["batch norm"]}, channel={"norm": "batch"}, env=ENDS),
    "ends of states": ring(agent=LSTM, state={"coupling": "decoupled", **gradient()}, env=ENDS),
    "auxiliary task": ring(agent=LSTM, state=gradient(auxiliary=0.5, scale=0.5)),
    "critics of states": ring(
        agent=LSTM, state=gradient(kind="sobolev", hidden=[4], norm="layer", discount=0.9)
    ),
    "episodes": ring(agent=GRU, state={"coupling": "decoupled"}, env=EPISODES),
    "backpropagation through episodes": ring(agent=GRU, state={"coupling": "locked"}, env=EPISODES),
    "locked episodes": levels(low=GRU, high=GRU, channel={"coupling": "locked"}, env=EPISODES),
    "absent targets": ring(env=Play(gaps=0.4), channel=gradient(kind="local", target="label", context=[])),
    "goals": ring(agent={"objective": {**GOAL, "scale": 0.3}}, channel=gradient(context=["goal"])),
    "sgd": ring(optimiser={"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.02}),
    "adam": ring(optimiser={"kind": "adam", "lr": 0.001, "weight_decay": 0.02, "clip": 0.1}),
    "adamw": ring(
        optimiser={"kind": "adamw", "lr": 0.001, "weight_decay": 0.2}, predictor={"kind": "sgd", "lr": 0.1}
    ),
    "schedules": ring(
        agent={"optimiser": {"kind": "sgd", "lr": 0.1, "schedule": {"kind": "steps", "at": [0.3, 0.6]}}},
        predictor={"kind": "adam", "lr": 0.01, "schedule": {"kind": "linear", "scale": 0.0, "warmup": 0.2}},
    ),
    "one environment": ring(batch=1),
    "to themselves": to_themselves(),
    "broadcasts": levels(channel={"port": "out", "norm": "batch"}, wide=True, env=ENDS),
    "architectures": mixed(),
    "modules": ring(agent={"network": module}),
    "messages of several shapes": unlike_messages(),
    "auxiliary task at an episode's end": foretelling(),
    "locked, half drawn": half_drawn(),
    "local, told to single ones": levels(
        low={"learn": 0.5}, high={"align": True}, channel=gradient(kind="local", target="label")
    ),
    **{
        f"symbols, {coupling}": levels(
            low={"clock": {"unroll": 2}},
            high={"clock": {"period": 2}},
            channel={"coupling": coupling, "input": INPUT if coupling == "unlocked" else None, **symbols()},
            env=ENDS,
        )
        for coupling in COUPLINGS
    },
    "symbols, delayed and stale": ring(
        channel={"coupling": "delayed", "horizon": 2, "link": {"delay": 3}, **symbols()}
    ),
    "symbols, locked in windows": levels(
        low={"clock": {"unroll": 3}},
        channel={"coupling": "locked", "link": {"delay": 1}, **symbols(kind="argmax")},
    ),
    **{
        f"symbols, latents, {coupling}": ring(
            channel={"coupling": coupling, "sample": "latent", "size": size, "link": {"delay": 2}}, env=ENDS
        )
        for coupling, size in (("delayed", 3), ("decoupled", [2, 3]))
    },
    "symbols, broadcast": levels(channel={"port": "out", **symbols(), "size": [2, 3]}, wide=True, env=ENDS),
    "symbols, noise and drops": ring(
        channel={**symbols(kind="argmax"), "link": {"delay": 1, "noise": 0.1, "drop": 0.3}}
    ),
    "symbols, tied": ring(6, agent=[{"share": "g"}, {"share": "h"}], channel={"port": "out", **symbols()}),
    "unit length": ring(channel={"norm": "unit"}),
    "unit length, axes": levels(channel={"norm": "unit", "size": [2, 3], "coupling": "locked"}),
    **{
        f"masked, {coupling}": levels(
            low={"clock": {"unroll": 2}},
            high={"clock": {"unroll": 2}},
            channel=[
                {
                    "coupling": coupling,
                    "input": INPUT if coupling == "unlocked" else None,
                    "link": {"delay": 1},
                    **mask,
                }
                for mask in ({"mask": "near"}, {"mask": "open"}, {})
            ],
            wide=True,
            env=ENDS,
        )
        for coupling in COUPLINGS
    },
    "masked, lossy, with inputs": ring(
        channel={"mask": "near", "input": INPUT, "link": {"delay": 2, "drop": 0.3}}, env=ENDS
    ),
    "masked symbols of one port": levels(
        high={"clock": {"period": 2}},
        channel=[{"port": "out", **symbols(), "mask": mask} for mask in ("near", "open")],
        wide=True,
    ),
    "acting": ring(
        agent=[{"objective": GOAL, "acts": True}, *[{"objective": GOAL}] * 3], env=Play(moved=True)
    ),
}
