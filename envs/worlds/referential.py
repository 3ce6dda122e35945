"""A referential game with images of digits, `antiphon/Referential-v0`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from gymnasium.spaces import Discrete
from pydantic import Field, model_validator
from torch import Tensor

from antiphon.base.errors import ScenarioError
from antiphon.envs.datasets import DATA_SETS, DigitsName
from antiphon.envs.images import picture_table
from antiphon.envs.options import EnvOptions
from antiphon.envs.signal import Description, Signal
from antiphon.envs.stream import ExampleStream
from antiphon.nets.random import integers, seed_for, uniform_many

_CLASSES = 10
"""Classes of the images."""
_VARIETY = 2**40
"""Training games for each image as target."""


class Referential(ExampleStream):
    """A listener must find among candidates the image shown to a sender (Lewis 1969; Lazaridou et al. 2017).

    Description:
        Independent games. An image of the split is the target. The sender observes the target itself, or with `concept`
        another image of its class, first, followed by `distractors` random images. The listener observes the target and
        other images as candidates in random order: any other images, or with `concept` images of other classes, all
        different. The sender's message goes over a channel, not through the environment.
    Action space:
        `Discrete(candidates)`: the candidate that the listener chooses.
    Observation space:
        `shown` [1 + distractors, height, width] and `candidates` [candidates, height, width], floats from 0 to 1. `info` has
        `target`, int64, the index of the target among the candidates, and `label`, its class from 0 to 9.
    Rewards:
        1.0 for the target, else 0.0.
    Episode end:
        Terminated with each game, after one step.

    In training, game k of environment b is a function of (seed, k, b). An evaluation plays one game for each image of the
    split as target, the same games for every seed.
    """

    class Options(EnvOptions):
        data: DigitsName = "digits"
        """Data set: `digits` or `mnist`."""
        candidates: int = Field(8, ge=2, le=64)
        """Number of images among which the listener chooses."""
        distractors: int = Field(0, ge=0, le=64)
        """Number of random images that the sender observes after the first one."""
        concept: bool = False
        """Whether the sender observes another image of the target's class, and the candidates have different classes (at most
        10)."""

        @model_validator(mode="after")
        def _classes_suffice(self) -> Self:
            if self.concept and self.candidates > _CLASSES:
                bounds = f"must be a whole number from 2 to {_CLASSES} with concept"
                raise ScenarioError(f"candidates: {self.candidates}; {bounds}")
            return self

    @staticmethod
    def describe(options: Options) -> Description:
        source = DATA_SETS[options.data]
        side, counts = source.side, source.counts()
        signals = {
            "shown": Signal(shape=(1 + options.distractors, side, side), low=0.0, high=1.0),
            "candidates": Signal(shape=(options.candidates, side, side), low=0.0, high=1.0),
            "target": Signal(classes=options.candidates, training_only=True),
            "label": Signal(classes=_CLASSES, training_only=True),
        }
        return Description(
            signals=signals,
            episode_steps=1,
            example_counts=counts,
            is_stream=True,
            sampling="with_replacement",
            action_space=Discrete(options.candidates),
        )

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        self._options = options
        table, description = picture_table(options.data), self.describe(options)
        super().__init__(num_envs, table, description, answer="target", **settings)
        self._last: tuple[Tensor, _Game] | None = None
        self._pools = _Pools(self._table.columns["label"], list(self._table.splits.values()))

    def rows_of(self, example: int) -> Tensor:
        """Return the number of each environment's game: its target's row plus a multiple of the table's length."""
        assert self._seed is not None
        targets = super().rows_of(example)
        root = seed_for(self._seed, "games")
        variety = integers(root, example, self.num_envs, _VARIETY, targets.device)
        return targets + self._pools.total * (1 + variety)

    def signals_at(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the requested signals of games; a game's number modulo the length of the table is its target's row."""
        game = self._game(rows)
        makers = {
            "shown": lambda: self._images(game.sender),
            "candidates": lambda: self._images(game.candidates),
            "target": lambda: game.target,
            "label": lambda: self.column("label", rows % self._pools.total),
        }
        return {name: makers[name]() for name in self.requested}

    def answers(self, rows: Tensor) -> Tensor:
        return self._game(rows).target

    def _game(self, numbers: Tensor) -> _Game:
        """Return games by their numbers `[games]`; those of the last call are kept."""
        if self._last is not None and self._last[0] is numbers:
            return self._last[1]
        options, pools = self._options, self._pools
        count = options.candidates
        sizes = [_CLASSES, count, count, 1, options.distractors]
        classes, images, order, first, distractors = uniform_many(numbers, 0, sum(sizes)).split(sizes, 1)  # type: ignore[no-untyped-call]
        target = numbers % pools.total
        label = pools.labels[target].unsqueeze(1)
        if options.concept:
            # the target's class comes last
            alternatives = classes.scatter(1, label, 2.0).argsort(1)[:, : count - 1]
            alternatives = pools.of_class(target, alternatives, images[:, 1:])
            first = pools.another(target, first, of_its_class=True)
        else:
            alternatives = pools.another(target, images[:, 1:])
            first = target.unsqueeze(1)
        candidates = torch.cat([target.unsqueeze(1), alternatives], 1)
        rank = order.argsort(1)
        game = _Game(
            sender=torch.cat([first, pools.another(target, distractors)], 1),
            candidates=candidates.gather(1, rank),
            target=rank.argmin(1),
        )
        self._last = numbers, game
        return game

    def _images(self, rows: Tensor) -> Tensor:
        """Return the images of rows `[games, images]`, `[games, images, height, width]`."""
        return self.column("image", rows.flatten()).view(*rows.shape, *self.signals["shown"].shape[1:])


@dataclass(frozen=True)
class _Game:
    """Games, as rows of the table, int64."""

    sender: Tensor
    """What the sender observes, `[games, 1 + distractors]`."""
    candidates: Tensor
    """`[games, candidates]`."""
    target: Tensor
    """Index of the target among the candidates, `[games]`."""


class _Pools:
    """Images of each split and class, sampled by uniform numbers; splits are rows of the table, together all of them."""

    def __init__(self, labels: Tensor, splits: list[Tensor]) -> None:
        self.labels = labels
        self.total = len(labels)
        self._rows = torch.cat([rows[labels[rows].argsort(stable=True)] for rows in splits])
        """Rows by split and class."""
        self._place = self._rows.argsort()
        self._split = torch.empty_like(self._rows)
        for number, rows in enumerate(splits):
            self._split[rows] = number
        self._counts = torch.stack([torch.bincount(labels[rows], minlength=_CLASSES) for rows in splits])
        flat = self._counts.flatten()
        self._starts = (flat.cumsum(0) - flat).view_as(self._counts)

    def of_class(self, target: Tensor, classes: Tensor, uniforms: Tensor) -> Tensor:
        """Return images of the classes `[games, images]`, of the targets' splits."""
        split = self._split[target].unsqueeze(1)
        return self._rows[self._starts[split, classes] + _below(self._counts[split, classes], uniforms)]

    def another(self, target: Tensor, uniforms: Tensor, *, of_its_class: bool = False) -> Tensor:
        """Return other images than the targets `[games]`, of their splits; `[games, images]` as the numbers."""
        split, label = self._split[target].unsqueeze(1), self.labels[target].unsqueeze(1)
        # in a run of `count` rows from `start` on
        start, count = self._starts[split, 0], self._counts.sum(1)[split]
        if of_its_class:
            start, count = self._starts[split, label], self._counts[split, label]
        offset = self._place[target].unsqueeze(1) - start
        return self._rows[start + (offset + 1 + _below(count - 1, uniforms)) % count]


def _below(count: Tensor, uniforms: Tensor) -> Tensor:
    """Return whole numbers below `count`, by uniform numbers in [0, 1)."""
    return torch.minimum((uniforms * count).long(), count - 1)
