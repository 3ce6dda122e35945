"""Random graphs over everything a document can say, of agents that are not alike."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

__all__ = ["draw", "graphs"]

Document = dict[str, Any]
COUPLINGS = ("locked", "delayed", "detached", "decoupled", "unlocked")
KINDS = ("linear", "mlp", "conv", "critic", "sobolev", "sobolev_label", "local")
FAN_INS = ("concat", "sum", "mean")
DELAYS = (0, 1, 2)
CELLS = ("rnn", "leaky", "gru", "lstm")


def draw(rng: random.Random) -> Document:
    """Return a document that is meant to be accepted."""
    names = list("abcd")[: rng.randint(2, 4)]
    hold = rng.choice([1, 3])
    episode = rng.choice(["stream", "example"])
    whole = episode == "example" and rng.random() < 0.3
    agents = {name: draw_agent(rng, hold, whole) for name in names}
    together = rng.random() < 0.2  # all learn at the same steps, so that gradients may be back at once
    if together:
        clock = {"period": 1, "phase": 0, "unroll": agents["a"]["clock"]["unroll"]}
        agents = {name: {**agent, "clock": clock} for name, agent in agents.items()}
    clock = agents[names[-1]]["clock"]
    misses = clock["period"] == hold and (clock["phase"] + 1) % hold  # the last step of every example
    when = rng.choice(["each", "each" if misses else None])
    agents[names[-1]]["objective"] = {"kind": "classification", "target": "label", "when": when}
    channels = []
    for i, sender in enumerate(names):
        port = {"port": "p", "norm": draw_norm(rng)} if rng.random() < 0.3 else {}
        for j, receiver in enumerate(names):
            if rng.random() < (1.0 if j == i + 1 else 0.5 if j > i else 0.25):
                drawn = draw_channel(rng, forward=j > i, port=port, fan_in=agents[receiver]["fan_in"])
                if together and drawn["coupling"] in ("locked", "delayed"):
                    drawn["coupling"] = "decoupled"
                if together and j > i and drawn["coupling"] == "decoupled":
                    put_at_once(rng, drawn)
                channels.append({"from": sender, "to": receiver, **drawn})
    for name, agent in agents.items():
        told = [channel for channel in channels if channel["to"] == name]
        plain = all("port" not in channel for channel in channels if channel["from"] == name)
        if agent["fan_in"] == "concat" and plain and rng.random() < 0.3 and not agent.get("objective"):
            agent.setdefault("observes", ["left_half"])
        if not told:
            agent.setdefault("observes", ["left_half"])
        elif rng.random() < 0.15:
            agent["align"] = True
        elif "observes" in agent and rng.random() < 0.4:
            agent["observes"] = [*agent["observes"], "age"]
    if not any("observes" in agent for agent in agents.values()):
        agents[names[0]]["observes"] = ["left_half"]
    draw_feedback(rng, names, channels)
    draw_time(rng, agents, channels)
    return {
        "scenario": "random",
        "env": {"id": "antiphon/Digits-v0", "hold": hold, "episode": episode},
        "agents": agents,
        "channels": channels,
        "training": draw_training(rng),
    }


def draw_training(rng: random.Random) -> Document:
    training: Document = {
        "batch": 3,
        "steps": 8,
        "optimiser": {"kind": rng.choice(["adam", "sgd", "adamw"]), "lr": 1e-3},
        "on_divergence": rng.choice(["stop", "quarantine"]),
    }
    if rng.random() < 0.2:
        training["optimiser"]["clip"] = 0.5
    if training["on_divergence"] == "quarantine":
        training["bound"] = rng.choice([None, 3.0])
    return training


def draw_feedback(rng: random.Random, names: list[str], channels: list[Document]) -> None:
    """Let some locked channels carry their gradient back by other means than the receiver's weights."""
    group = {name: {name} for name in names}
    for channel in channels:
        if channel["coupling"] == "locked":
            both = group[channel["from"]] | group[channel["to"]]
            group.update(dict.fromkeys(both, both))
    for channel in channels:
        if channel["coupling"] == "locked" and rng.random() < 0.4:
            kinds = ["fa", "dfa", "kickback"] if names[-1] in group[channel["from"]] else ["fa"]
            channel["feedback"] = rng.choice(kinds)


def draw_time(rng: random.Random, agents: Document, channels: list[Document]) -> None:
    """Give some agents a state, and let some channels tell of it, hand on several messages, or answer late."""
    states = [name for name, agent in agents.items() if agent["network"]["kind"] in CELLS]
    for channel in channels:
        ends = {"from.state": channel["from"], "to.state": channel["to"]}
        told = [signal for signal, name in ends.items() if name in states]
        if told and rng.random() < 0.4:
            channel["gradient"]["context"] = [*channel["gradient"]["context"], rng.choice(told)]
        at_once = channel["gradient"].get("trace") or channel["gradient"].get("propagate")
        if rng.random() < 0.2 and not at_once:
            channel["link"]["back"] = rng.choice([0, 1, 3])
        periods = [agents[channel[end]]["clock"]["period"] for end in ("from", "to")]
        whole = not periods[1] % periods[0] and agents[channel["to"]]["fan_in"] == "concat"
        plain = not channel["link"].keys() & {"drop", "rate"} and "input" not in channel
        if plain and not agents[channel["to"]].get("align") and rng.random() < 0.5:
            channel["read"] = rng.choice(["mean", "concat", "concat"] if whole else ["mean"])
    for name in states:
        if rng.random() < 0.7:
            episode = agents[name]["clock"]["unroll"] == "episode"
            coupling = rng.choice(["detached", "decoupled", "decoupled", *(["locked"] if episode else [])])
            gradient = draw_gradient(rng, 3)
            gradient |= {"span": rng.randint(1, 3), "auxiliary": rng.choice([0.0, 0.5])}
            if gradient["kind"] != "local":
                gradient["trace"] = rng.choice([0.0, 0.5, 1.0])
            state = {"from": name, "to": name, "carries": "state", "coupling": coupling, "gradient": gradient}
            channels.append(state)


def draw_network(rng: random.Random) -> Document:
    if rng.random() < 0.5:
        return {"kind": "mlp", "hidden": [4], "norm": draw_norm(rng)}
    cell: Document = {"kind": rng.choice(CELLS), "size": 4, "cell_norm": draw_norm(rng)}
    if rng.random() < 0.3:
        cell |= {"encoder": [3], "norm": draw_norm(rng)}
    return cell


def draw_norm(rng: random.Random) -> str:
    return rng.choice(["batch", "layer", "none"])


def draw_agent(rng: random.Random, hold: int, whole: bool) -> Document:
    period = rng.choice([1, 1, 2, 3] if hold == 3 else [1, 1, 2])
    clock = {"period": period, "phase": rng.randrange(-period, period)}
    agent: Document = {
        "network": draw_network(rng),
        "clock": {**clock, "unroll": "episode" if whole else rng.choice([1, 1, 2, 3])},
        "fan_in": rng.choice(FAN_INS),
    }
    if rng.random() < 0.1:
        agent["learn"] = False
    if rng.random() < 0.25:
        agent["p_update"] = rng.choice([0.05, 0.5])
    return agent


def put_at_once(rng: random.Random, channel: Document) -> None:
    """Let a channel's sender use what its receiver returns at the same step."""
    channel["link"] = {"delay": 0, "noise": rng.choice([0.0, 0.1])}
    channel["gradient"] |= {
        "kind": rng.choice(["linear", "mlp"]),
        "hidden": [3],
        "trace": rng.choice([0.0, 0.5, 1.0]),
        "propagate": rng.choice([0.0, 0.3]),
    }


def draw_channel(rng: random.Random, *, forward: bool, port: Document, fan_in: str) -> Document:
    coupling = rng.choice(COUPLINGS)
    size = 4 if port else rng.choice([4, 4, None, [1, 2, 2] if fan_in == "concat" else 4])
    link = draw_link(rng, coupling, DELAYS if forward else DELAYS[1:])
    gradient = draw_gradient(rng, size)
    channel = {
        "size": size,
        "coupling": coupling,
        "gradient": gradient,
        "link": link,
        "staleness": rng.choice([1, 16]),
        **port,
    }
    if coupling == "unlocked" or rng.random() < 0.3:
        known = ["left_half", "right_half", "held", "age", "from.phase", "to.phase"]
        context = rng.sample(known, rng.randint(0, 3))
        channel["input"] = {"kind": rng.choice(["linear", "mlp"]), "hidden": [3], "context": context}
    return channel


def draw_gradient(rng: random.Random, size: Any) -> Document:
    kind = rng.choice([kind for kind in KINDS if kind != "conv" or isinstance(size, list)])
    gradient: Document = {
        "kind": kind,
        "target": "label",
        "context": rng.choice([[], ["label"], ["label", "returned"], ["from.phase", "label", "to.phase"]]),
        "scale": rng.choice([0.0, 0.1, 1.0, 1.0, 2.0]),
        "discount": rng.choice([0.0, 0.5, 1.0, 1.0]),
        "apply": rng.random() < 0.8,
        "norm": draw_norm(rng),
        "clip": rng.choice([None, None, 0.1]),
        "schedule": rng.choice([None, None, {"kind": "linear", "factor": 0.0}]),
    }
    if kind not in ("linear", "local"):
        gradient |= {"hidden": [3] * rng.randint(1, 2), "filter": rng.choice([1, 3])}
    return gradient


def draw_link(rng: random.Random, coupling: str, delays: tuple[int, ...]) -> Document:
    link: Document = {"delay": rng.choice(delays)}
    if coupling != "locked" and rng.random() < 0.25:
        link["drop"] = rng.choice([0.5, 1.0])
    if rng.random() < 0.2:
        link["noise"] = 0.1
    if rng.random() < 0.2:
        link["bits"] = rng.choice([1, 4])
    if rng.random() < 0.25:
        link["rate"] = rng.choice([0.5, 0.4])
    return link


def graphs() -> st.SearchStrategy[Document]:
    """Return a strategy of such documents."""
    return st.integers(0, 2**32).map(lambda seed: draw(random.Random(seed)))
