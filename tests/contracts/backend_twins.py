"""Two simulations of one scenario, one of either backend, and whether they are the same.

`Play` is the environment of these tests: noise, a class and a goal that follow from it, and episodes that end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium.spaces import Box
from torch import Tensor

from antiphon.engine.ledger import Record
from antiphon.engine.simulation import Simulation
from antiphon.envs.base import StepResult, TorchVectorEnv
from antiphon.envs.signal import Description, Signal
from antiphon.errors import DivergenceError
from antiphon.nets.random import normal, uniform
from antiphon.scenarios import Scenario

__all__ = [
    "STEPS",
    "TOLERANCE",
    "Document",
    "Play",
    "agree",
    "differences",
    "facts",
    "made",
    "side_by_side",
    "stacked",
    "twins",
]

Document = dict[str, Any]
STEPS = 20
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Play:
    """A source of noise, of what follows from it, and of episodes that end.

    Attributes:
        lengths: Of the episodes of all environments together, cycled, terminated and truncated by turns.
        share: Of the (step, environment) at which an episode ends, half of them terminated.
        gaps: Of the (step, environment) at which there is no label.
        moved: Whether what is seen depends on the newest action.
    """

    lengths: tuple[int, ...] = ()
    share: float = 0.0
    gaps: float = 0.0
    moved: bool = False

    @property
    def description(self) -> Description:
        """Two observations, an image, a class, and a goal that is known after the step."""
        return Description(
            signals={
                "x": Signal(shape=(4,)),
                "y": Signal(shape=(3,)),
                "image": Signal(shape=(1, 6, 6)),
                "label": Signal(classes=3, training_only=True),
                "goal": Signal(shape=(2,), training_only=True, known="after_step"),
            },
            example_counts={},
            longest_episode=max(self.lengths) if self.lengths else None,
            endless=not self.lengths and not self.share,
        )

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        """Return so many environments."""
        where.pop("split")
        return _Playing(self, batch, **where)


class _Playing(TorchVectorEnv):
    def __init__(self, source: Play, batch: int, **where: Any) -> None:
        super().__init__(batch, source.description, Box(-1e6, 1e6, (2,)), **where)
        self._source, self._seed = source, 0
        self._step = 0
        self._moved = torch.zeros(batch, dtype=self.dtype)

    @property
    def episode_length(self) -> int | None:
        """Length of the present episode."""
        lengths = self._source.lengths
        return lengths[self._episode()[0]] if lengths else None

    def _episode(self) -> tuple[int, int]:
        """The place of the present episode among the lengths, and the present step's place in it."""
        lengths = self._source.lengths
        place, number = self._step % sum(lengths), 0
        while place >= lengths[number]:
            place, number = place - lengths[number], number + 1
        return number, place

    def _drawn(self, purpose: int, *shape: int) -> Tensor:
        count = self.num_envs * torch.Size(shape).numel()
        return normal(97 * self._seed + purpose, self._step, count).view(self.num_envs, *shape).to(self.dtype)

    def _chance(self, purpose: int) -> Tensor:
        return uniform(97 * self._seed + purpose, self._step, self.num_envs)

    def _shown(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        x = self._drawn(1, 4) + self._moved.unsqueeze(1)
        shown = {"x": x, "y": self._drawn(2, 3), "image": self._drawn(3, 1, 6, 6)}
        info: dict[str, Any] = {"label": (x[:, :3] + 0.3 * shown["y"]).argmax(1)}
        if self._source.gaps:
            info["_label"] = self._chance(4) >= self._source.gaps
        return shown, info

    def reset(self, *, seed: Any = None, **_: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self._seed, self._step = seed or 0, 0
        self._moved = torch.zeros_like(self._moved)
        return self._shown()

    def step(self, actions: Any = None) -> StepResult:
        goal = torch.tanh(self._drawn(1, 4)[:, :2] + self._drawn(2, 3)[:, 1:])
        ended, kind = self._chance(5) < self._source.share, self._chance(6) < 0.5
        if self._source.lengths:
            number, place = self._episode()
            ended = torch.full_like(ended, place + 1 == self._source.lengths[number])
            kind = torch.full_like(kind, self._step % 2 == 0)
        if self._source.moved and actions is not None:
            self._moved = torch.tanh(actions[:, 0])
        self._step += 1
        shown, info = self._shown()
        return shown, torch.zeros(self.num_envs), ended & kind, ended & ~kind, {**info, "goal": goal}

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "seed": self._seed, "moved": self._moved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self._seed, self._moved = state["step"], state["seed"], state["moved"].clone()


# --- twins -----------------------------------------------------------------------------------------------


def made(document: Document, backend: str, **settings: Any) -> Simulation:
    """Return a simulation of a document."""
    settings = {"dtype": torch.float64, "seed": 3, **settings}
    return Simulation(Scenario.model_validate(document), backend=backend, **settings)


def twins(document: Document, **settings: Any) -> tuple[Simulation, Simulation]:
    """Return the same simulation twice: by the reference backend, and by the cohort backend."""
    return made(document, "reference", **settings), made(document, "cohort", **settings)


def stacked(simulation: Simulation) -> bool:
    """Whether some agents are computed as one."""
    if not hasattr(simulation.backend, "describe"):
        return bool(simulation.backend.lifted.cohorts)  # TODO
    return any(len(cohort.members) > 1 for cohort in simulation.backend.describe())


def facts(simulation: Simulation) -> dict[str, Any]:
    """Everything that is known of a simulation's agents and channels, by its place."""
    system = simulation.system
    found: dict[str, Any] = {"now": simulation.now, "events": sorted(map(list, simulation.events))}
    for name, agent in system.agents.items():
        found |= _numbers(f"agent {name}", agent.learner)
        found[f"agent {name} silenced"] = agent.silenced
    for name, channel in system.channels.items():
        place = f"channel {name}"
        found |= {} if channel.predictor is None else _numbers(f"{place} gradient", channel.predictor)
        found |= {} if channel.input is None else _numbers(f"{place} input", channel.input)
        found |= {f"{place} muted": channel.muted, f"{place} deaf": channel.deaf}
        records = {s: record for s, record in channel.ledger.records.items() if not _void(record)}
        found[f"{place} stamps"] = list(records)
        for stamp, record in records.items():
            found |= _told(f"{place} @{stamp}", record)
    return found


def _void(record: Record) -> bool:
    """Whether nothing will ever come of a record: how long a ledger keeps such a one is its own affair."""
    return record.finished is not None and not record.complete


def _numbers(place: str, owner: Any) -> dict[str, Any]:
    """The numbers of a learner or of a predictor."""
    found = {f"{place} {name}": value for name, value in {**owner.parameters, **owner.buffers}.items()}
    for name, tensors in owner.optimiser.state.items():
        found |= {f"{place} {name} {i}": value for i, value in enumerate(tensors)}
    return {**found, f"{place} updates": owner.updates}


def _told(place: str, record: Record) -> dict[str, Any]:
    """What became of a message. Where it does not count its delta is nothing, however that is written."""
    found: dict[str, Any] = {f"{place} message": record.message, f"{place} complete": record.complete}
    rows = record.message.shape[0]
    for name in ("counted", "dead", "silent"):
        lanes = getattr(record, name)
        found[f"{place} {name}"] = (
            lanes if isinstance(lanes, Tensor) else torch.full((rows,), lanes)
        ).clone()
    for name in ("delta", "loss"):
        value = getattr(record, name)
        found[f"{place} {name}"] = torch.zeros(()) if value is None else value
    return found


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Say where two trees of numbers differ by more than the tolerance."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            where = f"{place}/{key}"
            if key not in one or key not in other:
                yield f"{where}: only with the {'cohort' if key not in one else 'reference'} backend"
            else:
                yield from differences(one[key], other[key], where)
    elif isinstance(one, Tensor) != isinstance(other, Tensor):
        yield from _far(*(_like(value, one, other) for value in (one, other)), place)
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        yield from _far(one.detach(), other.detach(), place)
    elif isinstance(one, float) and isinstance(other, float):
        yield from _far(
            torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64), place
        )
    elif one != other:
        yield f"{place}: {one} and {other}"


def _like(value: Any, one: Any, other: Any) -> Tensor:
    """What may be written as a number, as all or none of the environments, or as nothing, as the other is."""
    if isinstance(value, Tensor):
        return value.detach()
    like = one if isinstance(one, Tensor) else other
    assert isinstance(like, Tensor)
    return torch.full_like(like.detach(), 0 if value is None else value)


def _far(one: Tensor, other: Tensor, place: str) -> Iterator[str]:
    if not one.is_floating_point():
        if not torch.equal(one, other):
            yield f"{place}: {one.tolist()} and {other.tolist()}"
        return
    if one.shape != other.shape and (one.numel() > 1 or one.any()) and (other.numel() > 1 or other.any()):
        yield f"{place}: shape {list(one.shape)} and {list(other.shape)}"
        return
    one, other = one.double(), other.double()
    gap = (one - other).abs() / one.abs().clamp(min=1.0)
    same = (one == other) | (one.isnan() & other.isnan())
    largest = float(torch.where(same, 0.0, gap).nan_to_num(torch.inf).max()) if gap.numel() else 0.0
    if largest > TOLERANCE:
        yield f"{place}: {largest:.2e} apart"


def agree(one: Simulation, other: Simulation) -> None:
    """Hold two simulations to each other, the reference first."""
    found = list(differences(facts(one), facts(other)))
    assert not found, "\n".join([f"after {one.now} steps, {len(found)} differ:", *found[:12]])


def side_by_side(one: Simulation, other: Simulation, steps: int = STEPS, look: int | None = None) -> None:
    """Let two simulations run, and hold their losses at each step, and at the end everything, to each other.

    Args:
        one: By the reference backend.
        other: By the cohort backend.
        steps: How many.
        look: After so many everything is held to each other too.
    """
    told: list[tuple[Any, Any]] = []
    for step in range(1, steps + 1):
        told.append((_stepped(one), _stepped(other)))
        if step % 2:  # what is not asked for at once must still be there in the end
            _same(*told[-1], step)
        if step in (look, steps) or one.diverged is not None:
            agree(one, other)
        if one.diverged is not None:
            break
    for step, (ours, theirs) in enumerate(told, 1):
        _same(ours, theirs, step)


def _same(ours: Any, theirs: Any, step: int) -> None:
    found = list(differences(ours, theirs))
    assert not found, "\n".join([f"step {step}:", *found])


def _stepped(simulation: Simulation) -> Any:
    """What happened at a step, or why it did not."""
    try:
        return simulation.step()
    except DivergenceError as error:
        return str(error)


# --- scenarios by hand -----------------------------------------------------------------------------------

LABEL: Document = {"kind": "classification", "target": "label"}
GOAL: Document = {"kind": "regression", "target": "goal"}
OWN: Document = {"network": {"kind": "mlp", "hidden": [4], "norm": "layer"}, "observes": ["x"]}
TOLD: Document = {"gradient": {"kind": "linear", "context": ["label"]}}


def document(agents: Document, channels: list[Document], env: Any = None, **training: Any) -> Document:
    """Return a whole document of agents and channels."""
    trained = {"batch": 4, "steps": STEPS, "optimiser": {"kind": "adam", "lr": 1e-3}, **training}
    return {
        "scenario": "twins",
        "env": Play() if env is None else env,
        "agents": agents,
        "channels": channels,
        "training": trained,
    }


def ring(
    count: int = 4,
    *,
    agent: Document | list[Document] | None = None,
    channel: Document | list[Document] | None = None,
    state: Document | None = None,
    env: Any = None,
    **training: Any,
) -> Document:
    """Return a ring, each of whose agents has an objective and tells the next one.

    Args:
        count: Of agents.
        agent: What each agent has besides; of a list, the agents take turns.
        channel: What each channel has besides; of a list, they take turns.
        state: The state channel of each.
        env: What they see.
        **training: Keys of `training`.
    """
    own = agent if isinstance(agent, list) else [agent or {}]
    told = channel if isinstance(channel, list) else [channel or {}]
    names = [f"n{i}" for i in range(count)]
    agents = {name: {**OWN, "objective": LABEL, **own[i % len(own)]} for i, name in enumerate(names)}
    channels = [
        {
            "from": name,
            "to": names[(i + 1) % count],
            "size": 4,
            "link": {"delay": 1},
            **TOLD,
            **told[i % len(told)],
        }
        for i, name in enumerate(names)
    ]
    if state is not None:
        channels += [{"from": name, "to": name, "carries": "state", **state} for name in names]
    return document(agents, channels, env, **training)


def levels(
    *,
    low: Document | None = None,
    high: Document | None = None,
    channel: Document | None = None,
    count: int = 3,
    wide: bool = False,
    env: Any = None,
    **training: Any,
) -> Document:
    """Return a level of agents that tell another level, at once.

    Args:
        low: What those have besides who tell.
        high: What those have besides who are told, and have an objective.
        channel: What each channel has besides.
        count: Of agents of each level.
        wide: Whether each tells all, not one.
        env: What they see.
        **training: Keys of `training`.
    """
    agents = {f"a{i}": {**OWN, **(low or {})} for i in range(count)}
    agents |= {f"b{i}": {**OWN, "observes": ["y"], "objective": LABEL, **(high or {})} for i in range(count)}
    pairs = [(i, j) for i in range(count) for j in range(count) if wide or i == j]
    channels = [{"from": f"a{i}", "to": f"b{j}", "size": 4, **TOLD, **(channel or {})} for i, j in pairs]
    return document(agents, channels, env, **training)
