"""All documents that every way of running is held to, by name: themes, agents that differ in one thing, actors, the library."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from antiphon.scenarios import Scenario
from tests.contracts.builders import GOAL, LABEL, OWN, TOLD, Document, Play, document, levels, ring
from tests.contracts.games import SPACES, Game
from tests.contracts.library import MORE, SMALL, resolved
from tests.contracts.sites import SITES
from tests.contracts.themes import SICK, THEMES
from tests.contracts.unlike import UNLIKE

__all__ = ["DOCUMENTS", "pairs", "scenario_of"]

LSTM: Document = {"network": {"kind": "lstm", "size": 4}, "clock": {"unroll": 3}}
GRU: Document = {"network": {"kind": "gru", "size": 4}, "clock": {"unroll": "episode"}}
BATCH: Document = {"network": {"kind": "mlp", "hidden": [4], "norm": "batch"}}
DEEP: Document = {"gradient": {"kind": "mlp", "hidden": [4], "context": ["label", "returned"]}}
TRACED: Document = {"gradient": {"kind": "linear", "context": ["label"], "trace": 0.5, "span": 3}}
INPUT: Document = {"kind": "linear", "context": ["x", "held", "age"]}
ENDS, OFTEN = Play(share=0.15), Play(share=0.35)
MLP: Document = {"kind": "mlp", "hidden": [4], "norm": "none", "activation": "tanh"}


def pairs(objective: Document, count: int = 2, *, space: str = "choice", **channel: Any) -> Document:
    """Return pairs of a sender and an actor, all alike."""
    names = [f"a{i}" for i in range(count)]
    agents, channels = dict[str, Document](), []
    for name in names:
        shared = {"network": MLP, "clock": {"unroll": 4}}
        agents[name] = {**shared, "observes": ["x"], "acts": f"part-{name}", "objective": deepcopy(objective)}
        agents[f"s{name}"] = {**shared, "observes": ["y"]}
        channels.append({"from": f"s{name}", "to": name, "size": 3, **channel})
    game = Game(space, tuple(f"part-{name}" for name in names), share=0.2)
    return document(agents, channels, game, batch=12)


def rewarded(objective: Document, batch: int, **channel: Any) -> Document:
    """Return three pairs with rewards of their own, which they lose at times: some windows have nothing to learn from."""
    scene = pairs(objective, 3, **channel)
    scene["env"] = Game("choice", scene["env"].parts, share=0.3, next_step=True, own=("a0", "a1", "a2"))
    scene["training"]["batch"] = batch
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


def diverging(count: int, bound: float) -> Document:
    """Return actors whose further passes diverge; at the smaller bound already the first."""
    scene = pairs({"kind": "ppo", "epochs": 3, "minibatches": 3, "value": 2.0}, count, coupling="detached")
    sgd = {"kind": "sgd", "lr": 0.5}
    scene["training"] |= {"on_divergence": "quarantine", "bound": bound, "optimiser": sgd}
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


MIXED: dict[str, Document] = {
    "states, hidden layers": ring(agent=LSTM, state=DEEP, env=ENDS),
    "inputs and delays": ring(channel={"input": INPUT, "link": {"delay": 2, "drop": 0.4}}, env=ENDS),
    "tapes that wait": levels(
        low={"clock": {"unroll": 2}}, channel={"coupling": "delayed", "link": {"delay": 2}}
    ),
    "batch norm and ends": ring(agent=BATCH, channel={"norm": "batch"}, env=ENDS),
    "clocks": ring(8, agent=[{"clock": {"period": p, "unroll": 5 - p, "phase": -1}} for p in (1, 2, 3, 4)]),
    "locked states in episodes": ring(agent=GRU, state={"coupling": "locked"}, env=Play(lengths=(6, 8))),
    "stand-ins of an agent that learns at times": levels(
        high={"network": {"kind": "rnn", "size": 4}, "clock": {"unroll": 2}, "p_update": 0.5},
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
    "bound of a group": levels(
        channel={"coupling": "locked"}, on_divergence="quarantine", bound=2.5, env=ENDS
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
    "one diverges": diverging(1, 2.0),
    "some diverge": diverging(3, 2.0),
    "all diverge": diverging(3, 0.1),
    "local policy": rewarded({"kind": "a2c"}, 2, gradient={"kind": "local_policy"}),
    "local policy, critic": rewarded(
        {
            "kind": "ppo",
            "minibatches": 2,
            "critic": {
                "observes": ["secret", "x"],
                "network": {"kind": "mlp", "hidden": [3], "norm": "layer"},
            },
        },
        6,
        gradient={"kind": "local_policy", "context": ["label"]},
    ),
    "local policy, hidden layers": rewarded(
        {"kind": "ppo", "epochs": 2, "minibatches": 2},
        6,
        gradient={"kind": "local_policy", "hidden": [4], "norm": "layer", "normalise": "layer"},
    ),
}
LIBRARY: dict[str, Callable[[], Scenario]] = {
    f"{name}, {values}": (lambda name=name, values=values: resolved(name, values))  # type: ignore[misc]
    for name in SMALL
    for values in [{}, *MORE.get(name, [])]
}
DOCUMENTS: dict[str, Document | Callable[[], Scenario]] = {
    **THEMES,
    **SITES,
    **{f"unlike {name}": scene for name, scene in UNLIKE.items()},
    **{f"quarantine {name}": scene for name, scene in SICK.items()},
    **MIXED,
    **{f"acting {name}": scene for name, scene in ACTING.items()},
    **{f"library {name}": make for name, make in LIBRARY.items()},
}
"""A document, or a function that resolves a scenario of the library (its data are there when a test runs)."""


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
