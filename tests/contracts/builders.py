"""Scenarios as documents, to be run by both backends: their environment, and rings and levels of agents by hand.

`Play` is the environment: noise, a class and a goal that follow from it, and episodes that end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from antiphon.envs import Description, Signal, TorchVectorEnv
from antiphon.envs.base import StepResult
from antiphon.nets.random import normal, uniform

Document = dict[str, Any]
STEPS = 14
"""Longer than any window here, which is at most four periods of three ticks."""


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
        """Vectors, an image, tokens and pixels to see; classes of them; two goals, one of them known after the step."""
        return Description(
            signals={
                "x": Signal(shape=(4,)),
                "y": Signal(shape=(3,)),
                "z": Signal(shape=(4,)),
                "image": Signal(shape=(1, 6, 6)),
                "label": Signal(classes=3, training_only=True),
                "aim": Signal(shape=(2,), training_only=True),
                "goal": Signal(shape=(2,), training_only=True, known="after_step"),
                "words": Signal(shape=(3, 2)),
                "codes": Signal(shape=(3,), classes=4),
                "following": Signal(shape=(3,), classes=4, training_only=True),
                "sky": Signal(shape=(2, 2, 2)),
                "segments": Signal(shape=(2, 2), classes=3, training_only=True),
                "near": Signal(),
                "open": Signal(shape=(1,), training_only=True),
            },
            example_counts={},
            longest_episode=max(self.lengths) if self.lengths else None,
            endless=not self.lengths and not self.share,
        )

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        """Return so many environments."""
        where.pop("split")
        return _Playing(self, batch, **where)


def place_in(lengths: tuple[int, ...], step: int) -> tuple[int, int]:
    """The number of the episode of a step among `lengths`, which are cycled, and the step's place in it."""
    place, number = step % sum(lengths), 0
    while place >= lengths[number]:
        place, number = place - lengths[number], number + 1
    return number, place


class NoiseEnv(TorchVectorEnv):
    """Environments whose random numbers follow from seed and step, and whose episodes end by length or by chance.

    Args:
        batch: How many.
        description: Of their signals.
        action_space: Of their actions.
        lengths: Of the episodes of all together, cycled, terminated and truncated by turns; empty: they end by chance.
        share: Of the (step, environment) at which an episode ends then, half of them terminated.
        **where: Device and dtype.
    """

    def __init__(
        self,
        batch: int,
        description: Description,
        action_space: Space[Any],
        lengths: tuple[int, ...],
        share: float,
        **where: Any,
    ) -> None:
        super().__init__(batch, description, action_space, **where)
        self._lengths, self._share = lengths, share
        self._seed, self._step = 0, 0

    @property
    def episode_length(self) -> int | None:
        """Length of the present episode."""
        return self._lengths[place_in(self._lengths, self._step)[0]] if self._lengths else None

    def _drawn(self, purpose: int, *shape: int) -> Tensor:
        count = self.num_envs * torch.Size(shape).numel()
        return normal(97 * self._seed + purpose, self._step, count).view(self.num_envs, *shape).to(self.dtype)

    def _chance(self, purpose: int) -> Tensor:
        return uniform(97 * self._seed + purpose, self._step, self.num_envs)

    def _ends(self) -> tuple[Tensor, Tensor]:
        """[B] bool each: where an episode ends at this step, and where such an end is a termination."""
        if not self._lengths:
            return self._chance(5) < self._share, self._chance(6) < 0.5
        number, place = place_in(self._lengths, self._step)
        everywhere = torch.ones(self.num_envs, dtype=torch.bool)
        return everywhere & (place + 1 == self._lengths[number]), everywhere & (self._step % 2 == 0)


_DRAWN = {"y": (2, 3), "z": (7, 4), "image": (3, 1, 6, 6), "words": (10, 3, 2), "sky": (11, 2, 2, 2)}
"""What is drawn, for which purpose and in which shape."""
_CLASSES = {"codes": (13, 4, 3), "following": (8, 4, 3), "segments": (9, 3, 2, 2)}
"""The same of classes: purpose, count and shape."""


class _Playing(NoiseEnv):
    def __init__(self, source: Play, batch: int, **where: Any) -> None:
        space = Box(-1e6, 1e6, (2,))
        super().__init__(batch, source.description, space, source.lengths, source.share, **where)
        self._source = source
        self._moved = torch.zeros(batch, dtype=self.dtype)

    def _shown(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        x = self._drawn(1, 4) + self._moved.unsqueeze(1)
        shown = {"x": x} | {name: self._drawn(*how) for name, how in _DRAWN.items() if name in self.requested}
        classes = {
            name: (self._drawn(purpose, *shape).abs() * count).long() % count
            for name, (purpose, count, *shape) in _CLASSES.items()
            if name in self.requested
        }
        if "codes" in classes:
            shown["codes"] = classes.pop("codes")
        info: dict[str, Any] = {**classes, "aim": torch.tanh(x[:, 2:])}
        if "near" in self.requested:
            shown["near"] = (self._chance(14) < 0.6).to(self.dtype)
        if "open" in self.requested:
            info["open"] = (self._chance(15) < 0.5).to(self.dtype).unsqueeze(1)
        if "label" in self.requested:
            info["label"] = (x[:, :3] + 0.3 * self._drawn(*_DRAWN["y"])).argmax(1)
        if self._source.gaps:
            info["_label"] = self._chance(4) >= self._source.gaps
            info["_following"] = self._chance(12) >= self._source.gaps
        return shown, info

    def reset(self, *, seed: Any = None, **_: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self._seed, self._step = seed or 0, 0
        self._moved = torch.zeros_like(self._moved)
        return self._shown()

    def step(self, actions: Any = None) -> StepResult:
        goal = torch.tanh(self._drawn(1, 4)[:, :2] + self._drawn(2, 3)[:, 1:])
        ended, kind = self._ends()
        if self._source.moved and actions is not None:
            self._moved = torch.tanh(actions[:, 0])
        self._step += 1
        shown, info = self._shown()
        return shown, torch.zeros(self.num_envs), ended & kind, ended & ~kind, {**info, "goal": goal}

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "seed": self._seed, "moved": self._moved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self._seed, self._moved = state["step"], state["seed"], state["moved"].clone()


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


Turns = Document | list[Document] | None
"""Keys that all have besides; of a list, they take turns."""


def _turn(turns: Turns, number: int) -> Document:
    some = turns if isinstance(turns, list) else [turns or {}]
    return some[number % len(some)]


def ring(
    count: int = 4,
    *,
    agent: Turns = None,
    channel: Turns = None,
    state: Turns = None,
    env: Any = None,
    **training: Any,
) -> Document:
    """Return a ring, each of whose agents has an objective and tells the next one.

    Args:
        count: Of agents.
        agent: What each agent has besides.
        channel: What each channel has besides.
        state: The state channel of each; None: it has none.
        env: What they see.
        **training: Keys of `training`.
    """
    names = [f"n{i}" for i in range(count)]
    agents = {name: {**OWN, "objective": LABEL, **_turn(agent, i)} for i, name in enumerate(names)}
    plain: Document = {"size": 4, "link": {"delay": 1}, **TOLD}
    ends = [{"from": name, "to": names[(i + 1) % count]} for i, name in enumerate(names)]
    channels = [{**end, **plain, **_turn(channel, i)} for i, end in enumerate(ends)]
    if state is not None:
        own: Document = {"key": "state"}
        channels += [{"from": name, "to": name, **own, **_turn(state, i)} for i, name in enumerate(names)]
    return document(agents, channels, env, **training)


def levels(
    *,
    low: Turns = None,
    high: Turns = None,
    channel: Turns = None,
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
    agents = {f"a{i}": {**OWN, **_turn(low, i)} for i in range(count)}
    told: Document = {**OWN, "observes": ["y"], "objective": LABEL}
    agents |= {f"b{i}": {**told, **_turn(high, i)} for i in range(count)}
    pairs = [(f"a{i}", f"b{j}") for i in range(count) for j in range(count) if wide or i == j]
    plain: Document = {"size": 4, **TOLD}
    channels = [{"from": a, "to": b, **plain, **_turn(channel, k)} for k, (a, b) in enumerate(pairs)]
    return document(agents, channels, env, **training)
