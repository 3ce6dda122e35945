"""Random scenarios whose agents act and learn from rewards: a world with every kind of end and of action, and documents.

All agents of one kind are alike, so that the cohort backend stacks them; each acts for its own part of the action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from hypothesis import strategies as st
from torch import Tensor

from antiphon.envs import Description, Signal, TorchVectorEnv
from antiphon.envs.base import StepResult
from antiphon.envs.signal import ALIVE, ENDS, OUTCOMES
from tests.contracts.builders import STEPS, Document, NoiseEnv
from tests.contracts.drawn_scenes import CELLS, drawn_gradient, drawn_link, one, seldom

Draw = st.DrawFn
SPACES: Mapping[str, spaces.Space[Any]] = {
    "choice": spaces.Discrete(3, start=2),
    "choices": spaces.MultiDiscrete([2, 3]),
    "bits": spaces.MultiBinary(2),
    "numbers": spaces.Box(np.float32([-2, 0]), np.float32([4, np.inf])),
}


@dataclass(frozen=True)
class Game:
    """Noise that actions move, rewards for actions that fit it, and episodes that end.

    Attributes:
        space: A key of `SPACES`.
        parts: Names of the parts of the action; empty: it has none.
        lengths: Of the episodes of all environments together, cycled, terminated and truncated by turns.
        share: Of the (step, environment) at which an episode ends, half of them terminated.
        next_step: Whether the step after an end is a reset step, which is no experience; then no final observation is given.
        final: Whether final observations are given else.
        own: Names of agents with a reward of their own, which they lose sometimes.
        mortal: Whether these have it as long as they live: they come late, die, and return, some of them at once.
    """

    space: str = "choice"
    parts: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    share: float = 0.0
    next_step: bool = False
    final: bool = True
    own: tuple[str, ...] = ()
    mortal: bool = False

    @property
    def action_space(self) -> spaces.Space[Any]:
        """One space, or one for each part."""
        space = SPACES[self.space]
        return spaces.Dict(dict.fromkeys(self.parts, space)) if self.parts else space

    @property
    def description(self) -> Description:
        """Observations, what predictors and critics may see in training, and rewards by agent."""
        return Description(
            signals={
                "x": Signal(shape=(4,)),
                "y": Signal(shape=(3,)),
                "position": Signal(shape=(4,)),
                "z": Signal(shape=(4,)),
                "secret": Signal(shape=(2,), training_only=True),
                "label": Signal(classes=3, training_only=True),
                "goal": Signal(shape=(2,), training_only=True, known="after_step"),
                "near": Signal(),
                **{f"reward.{name}": OUTCOMES["reward"] for name in self.own},
                **self._of_lives(),
            },
            example_counts={},
            longest_episode=max(self.lengths) if self.lengths else None,
            endless=not self.lengths and not self.share,
            action_space=self.action_space,
        )

    def _of_lives(self) -> dict[str, Signal]:
        """Of agents that are mortal: what they see, whether they live, and how they die."""
        found: dict[str, Signal] = {}
        for name in self.own if self.mortal else ():
            found |= {f"{name}.seen": Signal(shape=(3,)), f"{ALIVE}.{name}": Signal(training_only=True)}
            found |= {f"{kind}.{name}": OUTCOMES[kind] for kind in ENDS}
        return found

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        """Return so many environments."""
        where.pop("split")
        return _Playing(self, batch, **where)


class _Playing(NoiseEnv):
    def __init__(self, source: Game, batch: int, **where: Any) -> None:
        super().__init__(
            batch, source.description, source.action_space, source.lengths, source.share, **where
        )
        self._source = source
        self._position = torch.zeros(batch, 4, dtype=self.dtype)
        self._resets = torch.zeros(batch, dtype=torch.bool)
        self._alive = torch.zeros(2, len(source.own), batch, dtype=torch.bool)
        """At the step before, and now: what an agent sees in the step after its death is not zero yet."""

    def _observed(self, purpose: int = 0) -> tuple[dict[str, Tensor], dict[str, Any]]:
        x, y, z = (self._drawn(purpose + own, size) for own, size in ((1, 4), (2, 3), (4, 4)))
        near = (self._chance(purpose + 20) < 0.6).to(self.dtype)
        seen = {"x": x, "y": y, "z": z, "position": self._position.clone(), "near": near}
        info = {"secret": self._drawn(purpose + 3, 2) + x[:, :2], "label": x[:, :3].argmax(1)}
        for n, name in enumerate(self._source.own if self._source.mortal else ()):
            there = self._alive[:, n].any(0).unsqueeze(1)
            seen[f"{name}.seen"] = torch.where(there, self._drawn(purpose + 30 + n, 3), 0.0)
            info[f"{ALIVE}.{name}"] = self._alive[1, n].to(self.dtype)
        return seen, info

    def _live(self, ended: Tensor, kind: Tensor) -> dict[str, Tensor]:
        """Let mortal agents die, with the episode too, and others come; return what is known after the step."""
        found: dict[str, Tensor] = {}
        before, self._alive = self._alive[1], torch.stack([self._alive[1], self._alive[1]])
        for n, name in enumerate(self._source.own if self._source.mortal else ()):
            lived, dies = before[n], self._chance(40 + n) < 0.3
            for_good = torch.where(ended, kind, self._chance(50 + n) < 0.5)
            over = lived & (dies | ended)
            found |= {f"_reward.{name}": lived, f"terminated.{name}": (over & for_good).to(self.dtype)}
            found[f"truncated.{name}"] = (over & ~for_good).to(self.dtype)
            self._alive[1, n] = (lived & ~over) | ((over | ~lived) & (self._chance(60 + n) < 0.4))
        return found

    def reset(self, *, seed: Any = None, **_: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self._seed, self._step = seed or 0, 0
        self._position = torch.zeros_like(self._position)
        self._resets = torch.zeros_like(self._resets)
        self._alive = torch.zeros_like(self._alive)
        for n in range(len(self._source.own)):
            self._alive[1, n] = self._chance(70 + n) < 0.7
        return self._observed()

    def step(self, actions: Any = None) -> StepResult:
        whole = SPACES[self._source.space]
        done = [actions] if not isinstance(actions, dict) else [actions[part] for part in sorted(actions)]
        for action in done:
            assert tuple(action.shape[1:]) == whole.shape
            if action.is_floating_point():
                continue
            assert whole.contains(action[0].numpy().astype(whole.dtype)), action[0]
        numbers = torch.stack([a.to(self.dtype).reshape(self.num_envs, -1).clamp(-1, 4).sum(1) for a in done])
        fit = torch.sin(numbers + 2 * self._drawn(1, 4)[:, :1].T)
        ended, kind = self._ends()
        resets = self._resets
        if self._source.next_step:
            ended = ended & ~resets
            self._resets = ended
        drift = torch.tanh(numbers.sum(0)).unsqueeze(1) + 0.3 * self._drawn(7, 4)
        restarts = resets if self._source.next_step else ended
        started, self._position = 0.1 * self._drawn(8, 4), self._position + drift
        lives = self._live(ended, kind)
        last = self._observed(100) if self._source.final and not self._source.next_step else None
        self._position = torch.where(restarts.unsqueeze(1), started, self._position)
        reward = torch.where(resets, 7.0, fit.mean(0)).to(self.dtype)
        goal = torch.tanh(self._position[:, :2] + numbers.mean(0).unsqueeze(1))
        after: dict[str, Any] = (
            {"goal": goal} if not self._source.next_step else {"goal": goal, "_reward": ~resets}
        )
        for n, name in enumerate(self._source.own):
            after[f"reward.{name}"] = fit[n % len(fit)]
            after[f"_reward.{name}"] = ~resets & (self._chance(20 + n) > 0.2)
        after |= lives
        if last is not None and bool(ended.any()):
            after |= {"final_obs": last[0], "final_info": last[1], "_final_obs": ended}
        self._step += 1
        seen, info = self._observed()
        return seen, reward, ended & kind, ended & ~kind, {**info, **after}

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self._step,
            "seed": self._seed,
            "position": self._position.clone(),
            "resets": self._resets.clone(),
            "alive": self._alive.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self._seed = state["step"], state["seed"]
        self._position, self._resets = state["position"].clone(), state["resets"].clone()
        self._alive = state["alive"].clone()


SAMPLED: tuple[Document, ...] = (
    {"sample": {"kind": "reinforce", "vocabulary": 2, "size": 2}},
    {"sample": {"kind": "reinforce", "vocabulary": 4}},
    {"sample": {"kind": "gaussian", "noise": 0.5}},
    {"sample": {"kind": "gaussian", "noise": 0.2}, "norm": "unit"},
)
"""Channels whose messages the sender's policy learns."""


# --- documents -------------------------------------------------------------------------------------------


def policy(draw: Draw, *, cosine: bool, kinds: tuple[str, ...] = ("ppo", "a2c", "reinforce")) -> Document:
    """A policy objective; `cosine`: whether the agent reads a message as a direction, on the channel that is put in later."""
    kind = one(draw, *kinds)
    objective: Document = {
        "kind": kind,
        "discount": one(draw, 0.9, 0.0, 1.0),
        "entropy": one(draw, 0.01, 0.0, 0.3),
    }
    if kind != "reinforce":
        objective |= {"trace": one(draw, 0.95, 0.0, 1.0), "value": one(draw, 0.5, 1.0)}
        if seldom(draw, 2):
            network = {"kind": "mlp", "hidden": [3], "norm": "none"}
            sees = observed(draw, *one(draw, ["secret"], ["x", "secret"]))
            objective["critic"] = {**sees, "network": network}
    if kind == "ppo":
        objective |= {
            "epochs": one(draw, 2, 1, 3),
            "minibatches": one(draw, 2, 1, 3),
            "clip": one(draw, 0.2, 0.05),
        }
    if cosine:
        objective |= {"reward": {"reward": 1.0, "goal.cosine": 0.5}}
    elif seldom(draw, 3):
        objective["reward"] = {"reward": 0.5}
    if seldom(draw, 4):
        objective["weight"] = 0.7
    return objective


def observed(draw: Draw, *names: str) -> Document:
    """What an agent observes, some of it normalised at times."""
    normal = [name for name in names if seldom(draw, 2)] if seldom(draw, 4) else []
    return {"observes": list(names), "normalise": normal}


def drawn_network(draw: Draw) -> Document:
    """A network without batch norm, which passes over parts of a batch do not allow."""
    kind = one(draw, "mlp", "mlp", *CELLS)
    if kind == "mlp":
        return {
            "kind": kind,
            "hidden": one(draw, [4], [5, 4]),
            "norm": one(draw, "none", "layer"),
            "activation": "tanh",
        }
    return {"kind": kind, "size": 4, "cell_norm": one(draw, "none", "layer"), "norm": "none"}


def drawn_game(draw: Draw, actors: list[str]) -> Game:
    """A world for some actors."""
    chance: Document = {"share": 0.2}
    without = {**chance, "final": False}
    lengths = {"lengths": (3, 5)}, {"lengths": (1,)}
    ends = one(draw, chance, chance | {"next_step": True}, without, *lengths, {})
    own = tuple(actors) if seldom(draw, 4) else ()
    mortal = bool(own) and "next_step" not in ends and seldom(draw, 2)
    parts = tuple(f"part-{name}" for name in actors) if len(actors) > 1 or seldom(draw, 4) else ()
    return Game(one(draw, *SPACES), parts, own=own, mortal=mortal, **ends)  # type: ignore[arg-type]


@st.composite
def acting(draw: Draw) -> Document:
    """Documents of 1 to 3 senders and actors, all pairs alike; nearly all are valid."""
    count = draw(st.integers(1, 3))
    actors = [f"a{i}" for i in range(count)]
    game = drawn_game(draw, actors)
    whole = bool(game.lengths) and seldom(draw, 2)
    unroll: Any = "episode" if whole else one(draw, 3, 2, 5)
    sends = seldom(draw, 4) is False
    cosine = sends and seldom(draw, 4)
    objective = policy(draw, cosine=cosine)
    actor: Document = {
        "network": drawn_network(draw),
        **observed(draw, *one(draw, ["x"], ["y"], ["x", "y"])),
        "clock": {"period": one(draw, 1, 1, 2), "unroll": unroll},
        "objective": objective,
    }
    if seldom(draw, 5):
        actor["p_update"] = 0.6
    if seldom(draw, 3):
        actor["clock"]["phase"] = draw(st.integers(-actor["clock"]["period"], actor["clock"]["period"] - 1))
    period = one(draw, actor["clock"]["period"], 1, 2, 3)
    sender: Document = {
        "network": drawn_network(draw),
        "observes": ["position"],
        "clock": {"period": period, "unroll": unroll if whole else one(draw, unroll, 1, 2)},
    }
    if seldom(draw, 4):
        sender["objective"] = {"kind": "classification", "target": "label"}
    template: Document | None = None
    if sends:
        coupling = one(draw, "decoupled", "locked", "detached", "delayed", "unlocked")
        least = int(whole and coupling != "locked")
        template = {
            "size": 4,
            "coupling": coupling,
            "gradient": drawn_gradient(draw, 4, []),
            "link": {"delay": least}
            if game.lengths == (1,)
            else drawn_link(draw, coupling, least, bits=False),
        }
        if coupling == "unlocked":
            template["input"] = {"kind": "linear", "context": ["x"]}
        if seldom(draw, 5):
            template["sample"] = {"kind": one(draw, "gumbel", "argmax"), "vocabulary": 2, "size": 2}
        if cosine:
            actor["objective"] = {**objective, "goal": {"channel": "", "observes": "position"}}
    if template is not None and not cosine and seldom(draw, 2):
        template = {"size": 4, **one(draw, *SAMPLED), "link": template["link"]}
        sender["objective"] = policy(draw, cosine=False)
        sender["clock"] = {**sender["clock"], "unroll": unroll}
    if sends and seldom(draw, 5):
        actor["share"] = "actors"
        template = {**(template or {}), "port": "out"}
    echo = {"size": 4, **one(draw, *SAMPLED)} if "share" not in actor and seldom(draw, 3) else None
    return _document(draw, game, actors, actor, sender if sends else None, template, echo)


def _document(
    draw: Draw,
    game: Game,
    actors: list[str],
    actor: Document,
    sender: Document | None,
    template: Document | None,
    echo: Document | None,
) -> Document:
    agents, channels = dict[str, Document](), list[Document]()
    for name in actors:
        own = {**actor, "acts": f"part-{name}" if game.parts else True}
        if "goal" in actor["objective"]:
            own["objective"] = {
                **actor["objective"],
                "goal": {"channel": f"s{name}->{name}", "observes": "position"},
            }
        agents[name] = own
        if echo is not None:
            channels.append({"from": name, "to": name, "key": "echo", "link": {"delay": 1}, **echo})
        if sender is not None and template is not None:
            agents[f"s{name}"] = dict(sender)
            channels.append({"from": f"s{name}", "to": name, **template})
    if "cell_norm" in actor["network"] and not seldom(draw, 3):
        coupling = one(
            draw, "decoupled", "detached", *(["locked"] if actor["clock"]["unroll"] == "episode" else [])
        )
        state: Document = {"key": "state", "coupling": coupling}
        if coupling == "decoupled":
            state["gradient"] = drawn_gradient(draw, 4, (), state=True)
        channels += [{"from": name, "to": name, **state} for name in actors]
    if (
        len(actors) > 1 and "share" not in actor and seldom(draw, 3)
    ):  # each tells the next what it makes of it
        coupling = one(draw, "locked", "decoupled")
        link = {"size": 3, "coupling": coupling, "link": {"delay": one(draw, 0, 1)}}
        channels += [{"from": a, "to": b, "key": "chain", **link} for a, b in pairwise(actors)]
    training: Document = {
        "batch": one(draw, 4, 16, 7),
        "steps": STEPS,
        "optimiser": {"kind": one(draw, "adam", "sgd"), "lr": 1e-2},
    }
    return {"scenario": "acting", "env": game, "agents": agents, "channels": channels, "training": training}
