"""Random scenarios, of agents alike, which the cohort backend stacks, or each of its own kind: hypothesis strategies of documents.

A document is a scenario's keys; its environment is a `Play`. All widths are four, so that messages of ports and of hidden
layers may be added, and no norm is over so few numbers that it returns their signs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.contracts.builders import LABEL, STEPS, Document, Play

Draw = st.DrawFn
COUPLINGS = ("locked", "delayed", "detached", "decoupled", "unlocked")
KINDS = ("ridge", "linear", "mlp", "conv", "critic", "sobolev", "sobolev_label", "local")
CELLS = ("rnn", "leaky", "gru", "lstm")
KIND_NAMES = "abcd"


# --- pieces ----------------------------------------------------------------------------------------------


def one(draw: Draw, *choices: Any) -> Any:
    """Draw one of the choices; the first is the simplest."""
    return draw(st.sampled_from(choices))


def seldom(draw: Draw, often: int = 5) -> bool:
    """Draw true once in so many times."""
    return bool(draw(st.integers(0, often - 1)) == often - 1)


def some(draw: Draw, names: Sequence[str], most: int) -> list[str]:
    """Draw a few different names, none being the simplest."""
    return list(draw(st.lists(st.sampled_from(names), max_size=most, unique=True)))


def drawn_network(draw: Draw, *, images: bool) -> Document:
    """A network of width four."""
    kind = one(draw, "mlp", "mlp", "mlp", *CELLS, *(["conv"] if images else []))
    norm = one(draw, "none", "layer", "batch")
    activation = one(draw, "relu", "tanh", "gelu", "identity")
    if kind == "mlp":
        return {"kind": kind, "hidden": one(draw, [4], [], [6, 4]), "norm": norm, "activation": activation}
    if kind == "conv":
        pool = one(draw, ["none"], ["max"], ["avg"])
        return {"kind": kind, "hidden": [2], "size": 3, "pool": pool, "norm": norm}
    cell = {"kind": kind, "size": 4, "cell_norm": one(draw, "none", "none", "layer", "batch")}
    norm = "none" if cell["cell_norm"] == "layer" else norm
    return {**cell, "hidden": [5], "norm": norm} if seldom(draw, 3) else cell


def drawn_clock(draw: Draw, *, whole: bool) -> Document:
    """A clock; `whole`: its windows are the episodes."""
    period = one(draw, 1, 1, 2) if whole else one(draw, 1, 1, 1, 2, 2, 3, 4)
    unroll = "episode" if whole else one(draw, 1, 1, 2, 3)
    return {"period": period, "phase": draw(st.integers(-period, period - 1)), "unroll": unroll}


def drawn_optimiser(draw: Draw) -> Document:
    """An optimiser at a rate at which rounding is not made larger."""
    kind = one(draw, "adam", "sgd", "adamw")
    found: Document = {"kind": kind, "lr": 0.05 if kind == "sgd" else 1e-3}
    if kind == "sgd":
        found["momentum"] = one(draw, 0.0, 0.9)
    if kind != "adam" and seldom(
        draw, 3
    ):  # where a gradient is zero, Adam would follow the decay of rounding errors
        found["weight_decay"] = 0.02
    if seldom(draw, 3):
        found["clip"] = 0.5
    if seldom(draw, 3):
        found["schedule"] = drawn_schedule(draw)
    return found


def drawn_schedule(draw: Draw) -> Document:
    """How a rate moves within the steps that are taken."""
    kind = one(draw, "linear", "cosine", "steps", "constant")
    extra = {"at": [0.25, 0.6]} if kind == "steps" else {}
    return {"kind": kind, "scale": one(draw, 0.1, 0.0), "warmup": one(draw, 0.0, 0.3), **extra}


def drawn_goal(draw: Draw) -> Document:
    """An objective."""
    kind = one(draw, "classification", "regression", "coding")
    return {
        "kind": kind,
        "target": "goal" if kind == "regression" else "label",
        "scale": one(draw, 1.0, 0.5),
    }


def drawn_gradient(draw: Draw, size: Any, ends: Sequence[str], *, state: bool = False) -> Document:
    """A synthetic gradient.

    Args:
        draw: Of hypothesis.
        size: Of the message.
        ends: Which of the channel's ends have a state it may be told of.
        state: Whether it is of a state.
    """
    axes = len(size) if isinstance(size, list) else 1
    kind = one(draw, *(kind for kind in KINDS if kind != "conv" or axes == 3))
    told = ["label", "returned", "goal", "x", "z", "from.phase", "to.phase", *ends]
    found: Document = {"kind": kind, "context": some(draw, told, 3)}
    if kind in ("local", "sobolev_label"):
        found["target"] = one(draw, "label", "goal")
    if kind not in ("ridge", "linear", "local"):
        # Batch norm, differentiated twice, enlarges rounding where rows are nearly equal; so does Adam before it.
        norms = ("none", "layer", "batch") if kind in ("mlp", "conv") else ("none", "layer")
        found |= {"hidden": one(draw, [4], [4, 3]), "norm": one(draw, *norms)}
        found |= {"size": 3} if kind == "conv" else {}
        if found["norm"] == "batch":
            found["optimiser"] = {"kind": "sgd", "lr": 0.05}
    if axes > 1 and kind != "conv":
        found["sites"] = one(draw, True, None)
    for key, choices in {"scale": (0.5, 0.0), "discount": (0.5, 0.0)}.items():
        if seldom(draw, 5):
            found[key] = one(draw, *choices)
    if seldom(draw, 5):
        found |= {"scale": 0, "discount": 0}  # a shadow
    if seldom(draw, 8) and kind != "ridge":
        found.setdefault("optimiser", drawn_optimiser(draw))
    if state:
        found["auxiliary"] = one(draw, 0.0, 0.5)
    return found


def drawn_input(draw: Draw) -> Document:
    """A synthetic input that sees something: it never rests at the mean of a normalised message, where Adam is unstable."""
    context = [one(draw, "x", "y"), *some(draw, ["held", "age", "from.phase", "to.phase"], 2)]
    if seldom(draw, 3):
        return {"kind": "mlp", "hidden": [4], "norm": one(draw, "none", "layer", "batch"), "context": context}
    return {"kind": "linear", "context": context}


def drawn_link(draw: Draw, coupling: str, least: int, *, bits: bool) -> Document:
    link: Document = {"delay": draw(st.integers(least, 3))}
    if coupling != "locked" and seldom(draw, 4):
        link["drop"] = one(draw, 0.5, 0.2, 1.0)
    if seldom(draw, 5):
        link["noise"] = 0.1
    if seldom(draw, 5):
        link["delay"] = [link["delay"], draw(st.integers(0, 3))]
    if bits and not seldom(draw, 4):
        link["bits"] = one(draw, 3, 1, 8)
    return link


def drawn_kind(draw: Draw, clock: Document, *, images: bool) -> Document:
    """What agents of one kind have in common."""
    network = drawn_network(draw, images=images)
    image = network["kind"] == "conv"
    kind: Document = {
        "observes": ["image"] if image else one(draw, ["x"], ["x", "y"], ["y"], ["z"]),
        "network": network,
        "clock": clock,
    }
    if seldom(draw, 3):
        kind["objective"] = drawn_goal(draw)
    if seldom(draw, 3):
        kind["optimiser"] = drawn_optimiser(draw)
    if seldom(draw, 10):
        kind["learn"] = False
    if seldom(draw, 5):
        kind.setdefault("learn", one(draw, 0.5, 0.2))
    return kind


def drawn_channel(
    draw: Draw, kinds: Sequence[Document], ends: tuple[int, int], coupling: str, least: int, *, bits: bool
) -> Document:
    """What the channels from one kind to another have in common.

    Args:
        draw: Of hypothesis.
        kinds: The kinds.
        ends: The numbers of the sender's and of the receiver's.
        coupling: One, or `mixed`.
        least: The least delay.
        bits: Whether links round.
    """
    sender, receiver = (kinds[end] for end in ends)
    if coupling == "mixed":
        coupling = one(draw, *COUPLINGS)
    sizes: list[Any] = [4, 4]
    if sender["network"].get("hidden") != []:
        sizes.append(None)
    sizes += [[1, 2, 2], [2, 2]]
    size = 4 if "share" in sender else one(draw, *sizes)
    has_port = "share" in sender or (size == 4 and seldom(draw, 3))
    channel: Document = {"size": size, "norm": "layer", "port": "out"} if has_port else {"size": size}
    if not has_port and seldom(draw, 2):
        channel["norm"] = one(draw, "none", "layer", "batch", "unit")
    if (
        size in (4, [2, 2]) and not has_port and seldom(draw, 4)
    ):  # all channels of a port carry the same symbols
        by, temperature = one(draw, "gumbel", "argmax"), one(draw, 1.0, 0.5)
        channel["sample"] = {"kind": by, "vocabulary": 2, "size": 2, "temperature": temperature}
    cells = [
        end
        for end, kind in (("from.state", sender), ("to.state", receiver))
        if "cell_norm" in kind["network"]
    ]
    channel |= {
        "coupling": coupling,
        "gradient": drawn_gradient(draw, size, cells),
        "link": drawn_link(draw, coupling, least, bits=bits),
        "horizon": one(draw, 16, 1),
    }
    every = "drop" not in channel["link"] and "align" not in receiver
    if coupling == "unlocked" or (coupling == "decoupled" and seldom(draw, 4)):
        channel["input"] = drawn_input(draw)
    elif every and seldom(draw, 3):
        periods = [kind["clock"]["period"] for kind in (sender, receiver)]
        channel["read"] = "last" if periods[1] % periods[0] else "concat"
    return channel


# --- graphs ----------------------------------------------------------------------------------------------

Edge = tuple[tuple[int, int], tuple[int, int]]
"""From and to, each the number of a kind and of one of its agents."""


def drawn_edges(draw: Draw, pattern: str, kinds: int, count: int) -> list[Edge]:
    """The edges of a pattern among `kinds` kinds of `count` agents each."""
    everyone = [(kind, i) for i in range(count) for kind in range(kinds)]
    if pattern == "ring":
        return list(zip(everyone, [*everyone[1:], everyone[0]], strict=True))
    if pattern == "self":
        return [(one, one) for one in everyone]
    if pattern == "levels":
        turn = draw(st.integers(0, count - 1))
        return [((k, i), (k + 1, (i + turn) % count)) for k in range(kinds - 1) for i in range(count)]
    if pattern == "all":
        pairs = [(i, j) for i in range(count) for j in range(count)]
        return [((k, i), (k + 1, j)) for k in range(kinds - 1) for i, j in pairs]
    if pattern == "back":
        return [((kinds - 1, i), (0, i)) for i in range(count)]
    ends = [(sender, receiver) for sender in everyone for receiver in everyone]
    return list(draw(st.lists(st.sampled_from(ends), max_size=10, unique=True)))


@st.composite
def scenes(draw: Draw, bits: bool = False, alike: bool = True) -> Document:
    """Documents of 2 to 9 agents of 1 to 3 kinds, or of 2 to 4 agents of as many kinds; nearly all are valid.

    Args:
        draw: Of hypothesis.
        bits: Whether links may round.
        alike: Whether each kind has several agents.
    """
    env = one(draw, Play(), Play(), Play(share=0.1), Play(lengths=(6, 8)), Play(gaps=0.3))
    whole = bool(env.lengths) and not seldom(draw, 3)
    count_of_kinds = draw(st.integers(1, 3) if alike else st.integers(2, 4))
    count = draw(st.integers(2, min(4, 9 // count_of_kinds))) if alike else 1
    offered = ("ring", "self", "ring") if count_of_kinds == 1 else ("ring", "levels", "all", "back", "self")
    patterns = [one(draw, *offered)]
    if draw(st.booleans()) and (other := one(draw, *offered, "random")) not in patterns:
        patterns.append(other)
    edges = [(drawn_edges(draw, pattern, count_of_kinds, count), i) for i, pattern in enumerate(patterns)]
    told = {other[0] for some_edges, _ in edges for _, other in some_edges}
    together = draw(st.booleans())
    clock = drawn_clock(draw, whole=whole)
    kinds = []
    for number in range(count_of_kinds):
        clock = clock if together else drawn_clock(draw, whole=whole)
        kind = drawn_kind(draw, clock, images=number not in told)
        if number in told and "random" not in patterns:
            smooth = "batch" not in kind["network"].values()  # an aligned agent sees equal rows at first
            kind |= {"align": True} if smooth and seldom(draw, 8) else {}
            kind |= {"observes": [*kind["observes"], "age"]} if seldom(draw, 6) else {}
        if "random" not in patterns and seldom(draw, 20):
            kind["share"] = f"g{number}"
        kinds.append(kind)
    senders = {sender for some_edges, _ in edges for sender, _ in some_edges}
    for number, kind in enumerate(kinds):
        if any((number, i) not in senders for i in range(count)):  # of no use but for an objective
            kind.setdefault("objective", drawn_goal(draw))
    if not any("objective" in kind for kind in kinds):
        kinds[-1]["objective"] = drawn_goal(draw)
    coupling = one(draw, "decoupled", "mixed", "mixed", *COUPLINGS)
    agents = {f"{KIND_NAMES[k]}{i}": dict(kind) for k, kind in enumerate(kinds) for i in range(count)}
    channels = []
    for found, key in edges:
        templates: dict[tuple[int, int, bool], Document] = {}
        for sender, receiver in found:
            place = (sender[0], receiver[0], sender < receiver and patterns[key] != "ring")
            if place not in templates:
                templates[place] = drawn_channel(draw, kinds, place[:2], coupling, 1 - place[2], bits=bits)
            ends = {
                "from": KIND_NAMES[sender[0]] + str(sender[1]),
                "to": KIND_NAMES[receiver[0]] + str(receiver[1]),
            }
            channels.append({**ends, "key": key, **templates[place]})
    if seldom(draw, 3):
        draw_odd_ones(draw, agents, channels)
    channels += drawn_states(draw, kinds, count)
    return {
        "scenario": "alike",
        "env": env,
        "agents": agents,
        "channels": channels,
        "training": drawn_training(draw),
    }


def draw_odd_ones(draw: Draw, agents: Document, channels: list[Document]) -> None:
    """Let one agent, and one channel, be a little different from their likes."""
    agent = agents[one(draw, *agents)]
    if "share" not in agent:
        odd = (
            {"learn": 0.6},
            {"learn": False},
            {"optimiser": drawn_optimiser(draw)},
            {"objective": LABEL},
        )
        agent |= one(draw, *odd)
    if channels:
        channel = one(draw, *channels)
        odd_keys = (
            {"scale": 0.3},
            {"discount": 0.7},
            {"context": ["y"]},
            {"scale": 0, "discount": 0},
        )
        channel["gradient"] = {**channel["gradient"], **one(draw, *odd_keys)}
        channel["link"] = {**channel["link"], **one(draw, {}, {"noise": 0.2})}


def drawn_states(draw: Draw, kinds: Sequence[Document], count: int) -> list[Document]:
    """The state channels of recurrent kinds, where they have some."""
    channels = []
    for number, kind in enumerate(kinds):
        if "cell_norm" not in kind["network"] or seldom(draw, 3):
            continue
        free = ["locked"] if kind["clock"]["unroll"] == "episode" else []
        state = {"key": "state", "coupling": one(draw, "decoupled", "decoupled", "detached", *free)}
        if state["coupling"] == "decoupled":
            state["gradient"] = drawn_gradient(draw, 4, (), state=True)
        names = [KIND_NAMES[number] + str(i) for i in range(count)]
        channels += [{"from": name, "to": name, **state} for name in names]
    return channels


def drawn_training(draw: Draw) -> Document:
    """Batch, optimisers and what follows divergence; B is a power of two, so that equal rows have an exact mean."""
    training: Document = {"batch": one(draw, 4, 8), "steps": STEPS, "optimiser": drawn_optimiser(draw)}
    if seldom(draw, 3):
        training["predictor"] = drawn_optimiser(draw)
    return training
