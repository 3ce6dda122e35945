"""Agents and channels that differ in one thing alone: they must never be taken as alike where they are not."""

from __future__ import annotations

from typing import Any

from antiphon.base.kinds import fitting
from tests.contracts.builders import GOAL, LABEL, OWN, Document, document, levels, ring
from tests.contracts.drawn_scenes import KINDS
from tests.contracts.themes import ENDS, INPUT, LSTM

LOSSY: Document = {"link": {"delay": 1, "drop": 0.4}}
RNN: Document = {"network": {"kind": "rnn", "size": 4}, "clock": {"unroll": 2}}
SLOW: Document = {"observes": ["x"], "clock": {"period": 2}}

_AGENTS: dict[str, tuple[str, list[Any]]] = {
    "period": ("clock", [{"period": 2}, {"period": 3}]),
    "phase": ("clock", [{"period": 3, "phase": 0}, {"period": 3, "phase": -1}]),
    "unroll": ("clock", [{"unroll": 1}, {"unroll": 3}]),
    "objective": ("objective", [LABEL, {**LABEL, "kind": "coding"}, GOAL, {**GOAL, "scale": 2.0}]),
    "target": ("objective", [GOAL, {**GOAL, "target": "aim"}]),
    "no objective": ("objective", [LABEL, None]),
    "order of observations": ("observes", [["x", "y"], ["y", "x"]]),
    "observations": ("observes", [["x"], ["z"]]),
    "normalised": ("normalise", [[], ["x"]]),
    "activation": ("network", [{"hidden": [4], "activation": name} for name in ("relu", "tanh")]),
    "leak": ("network", [{"kind": "leaky", "size": 4, "rate": leak} for leak in (0.2, 0.7)]),
    "norm": ("network", [{"hidden": [4], "norm": norm} for norm in ("layer", "batch", "none")]),
    "cell": ("network", [{"kind": kind, "size": 4} for kind in ("rnn", "leaky", "gru")]),
    "learn": ("learn", [True, False]),
    "draws": ("learn", [1.0, 0.5, 0.2]),
    "optimiser": ("optimiser", [{"kind": kind} for kind in ("sgd", "adam", "adamw")]),
    "rate": ("optimiser", [{"lr": rate} for rate in (1e-3, 3e-3)]),
    "schedule": ("optimiser", [{}, {"schedule": {"kind": "linear"}}, {"schedule": {"warmup": 0.5}}]),
    "decay": ("optimiser", [{"weight_decay": decay} for decay in (0.0, 0.1)]),
    "momentum": ("optimiser", [{"kind": "sgd", "lr": 0.1, "momentum": beta} for beta in (0.5, 0.9)]),
    "clip": ("optimiser", [{"clip": clip} for clip in (None, 0.1, 0.5)]),
}
_CHANNELS: dict[str, tuple[str, list[Any]]] = {
    "delay": ("link", [{"delay": delay} for delay in (1, 2, 3, 4)]),
    "wave": ("link", [{"delay": 0}, {"delay": 0}, {"delay": 0}, {"delay": 1}]),
    "way back": ("link", [{"delay": [1, back]} for back in (0, 1, 4)]),
    "drop": ("link", [{"delay": 1, "drop": drop} for drop in (0.0, 0.3, 0.7)]),
    "noise": ("link", [{"delay": 1, "noise": noise} for noise in (0.0, 0.1, 0.2)]),
    "coupling": ("coupling", ["decoupled", "detached", "delayed", "decoupled", "locked"]),
    "locked or detached": ("coupling", ["detached", "locked"]),
    "horizon": ("", [{"coupling": "delayed", "horizon": n} for n in (1, 16)]),
    "message": ("size", [4, [1, 2, 2], None]),
    "message norm": ("norm", ["layer", "batch", "none"]),
    "port": ("port", ["out", None]),
    "input": ("", [{"input": INPUT, **LOSSY}, LOSSY]),
    "input kind": ("", [{"input": i, **LOSSY} for i in ("linear", {"kind": "mlp", "hidden": [4]})]),
    "input signals": ("", [{"coupling": "unlocked", "input": {"context": [name]}} for name in "xz"]),
    "input ends": ("", [{"input": {"context": ["x", name]}, **LOSSY} for name in ("age", "from.phase")]),
    "gradient kind": (
        "gradient",
        [fitting("gradient", {"kind": k, "target": "label", "norm": "layer"}) for k in KINDS if k != "conv"],
    ),
    "gradient context": ("gradient", [{"context": some} for some in (["label"], ["goal"], ["y"])]),
    "gradient context of one shape": (
        "gradient",
        [{"context": some} for some in (["x", "label"], ["z", "label"], ["x"], ["z", "label"])],
    ),
    "gradient signals": ("gradient", [{"context": [name]} for name in ("x", "z", "returned")]),
    "gradient target": ("gradient", [{"kind": "local", "target": name} for name in ("goal", "aim")]),
    "gradient scale": ("gradient", [{"scale": scale} for scale in (1.0, 0.3, 0.0)]),
    "gradient discount": ("gradient", [{"discount": discount} for discount in (1.0, 0.3, 0.0)]),
    "gradient apply": ("gradient", [{"scale": 1.0}, {"scale": 0, "discount": 0}]),
    "gradient rate": ("gradient", [{"optimiser": {"lr": rate}} for rate in (1e-3, 3e-3)]),
    "gradient norm": ("gradient", [{"kind": "mlp", "hidden": [4], "norm": n} for n in ("layer", "batch")]),
}
_STATES: dict[str, tuple[str, list[Any]]] = {
    "coupling of a state": ("coupling", ["detached", "decoupled"]),
    "gradient of a state": ("gradient", [{"kind": "linear"}, {"kind": "local", "target": "label"}]),
    "critic of a state": (
        "gradient",
        [{"kind": k, "hidden": [4], "norm": "none"} for k in ("critic", "mlp")],
    ),
    "auxiliary task": ("gradient", [{"auxiliary": weight} for weight in (0.2, 0.7)]),
}


def _turns(key: str, values: list[Any], plain: Document | None = None) -> list[Document]:
    """What those have besides who take turns."""
    if key == "gradient":
        values = [{"kind": "linear", "context": ["label"], **value} for value in values]
    return [{**(plain or {}), **({key: value} if key else value)} for value in values]


def _told_of_states(link: Document | None = None) -> Document:
    contexts = [["from.state"], ["to.state"], ["returned"]] if link is None else [["to.state"]]
    told = _turns("gradient", [{"context": some} for some in contexts])
    links = [{"delay": 1}] if link is None else [{"delay": 1}, link]
    count = max(len(told), len(links))
    channels = [{**told[i % len(told)], "link": links[i % len(links)]} for i in range(count)]
    return ring(2 * count, agent=RNN, channel=channels, env=ENDS)


def _as_many_numbers() -> Document:
    """Agents that read as many numbers: two messages of one sender side by side, or one of each of two."""
    agents = {f"a{i}": OWN for i in range(6)} | {
        f"b{i}": {**OWN, **SLOW, "objective": LABEL} for i in range(4)
    }
    ends = [
        (0, 0, "concat"),
        (1, 1, "last"),
        (2, 1, "last"),
        (3, 2, "concat"),
        (4, 3, "last"),
        (5, 3, "last"),
    ]
    channels = [{"from": f"a{i}", "to": f"b{j}", "size": 4, "read": read} for i, j, read in ends]
    return document(agents, channels, ENDS)


def _scenarios() -> dict[str, Document]:
    found = {}
    for name, (key, values) in _AGENTS.items():
        found[name] = ring(2 * len(values), agent=_turns(key, values), env=ENDS)
    for name, (key, values) in _CHANNELS.items():
        found[name] = ring(2 * len(values), channel=_turns(key, values), env=ENDS)
    for name, (key, values) in _STATES.items():
        found[name] = ring(2 * len(values), agent=LSTM, state=_turns(key, values), env=ENDS)
    locked = {"coupling": "locked"}
    clocks = _turns("clock", [{"period": 1}, {"period": 2}, {"period": 2, "phase": 1}])
    return found | {
        "clock in a group": levels(low=clocks, high=SLOW, channel=locked, count=6, env=ENDS),
        "align": levels(
            high=_turns("align", [True, None], {"observes": ["x"]}),
            channel={"link": {"delay": 2}},
            count=4,
        ),
        "ports": levels(channel=[{"link": {"noise": 0.1}}, {"norm": "none"}], wide=True, env=ENDS),
        "shapes of maps": levels(
            low={**OWN, "network": {"kind": "mlp", "hidden": [4], "norm": "none"}},
            channel=[
                {"size": size, "gradient": {"kind": "conv", "hidden": [2], "size": 1}}
                for size in ([1, 2, 2], [4, 1, 1])
            ],
            count=4,
        ),
        "inputs": _as_many_numbers(),
        "told of states": _told_of_states(),
        "looked back": _told_of_states({"delay": 3}),
    }


UNLIKE = _scenarios()
