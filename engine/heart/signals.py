"""Signals of a step, and the ends of episodes with it: what the environment shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import NamedTuple

import torch
from torch import Tensor

from antiphon.comms.examples import ContextSpec, encode
from antiphon.engine.heart.layout import Layout
from antiphon.envs.signal import ALIVE, ENDS, OUTCOMES
from antiphon.nets.mask import ALL, NONE, Mask

Action = Tensor | dict[str, Tensor]
"""What is done in the environment, [seeds * B, …]; of several actors, by their entries of the Dict action space."""


@dataclass(slots=True, eq=False)
class StepSignals:
    """The signals of a step, shared by every message and tick that was made from them.

    Attributes:
        signals: Signals by name, [seeds * B, …]; those known only after the step are added when it has been taken. `_x`
            is the mask of `x`: where it is present, for all of it or by site; without one it is present everywhere.
        uniform_masks: Masks, and ends of episodes, that the environment has declared `ALL` or `NONE`: no look at the
            device is needed.
    """

    step: int
    signals: dict[str, Tensor]
    uniform_masks: dict[str, Mask] = field(default_factory=dict)
    _contexts: dict[tuple[ContextSpec, ...], Tensor | None] = field(default_factory=dict)
    _looked_up: dict[str, Mask] = field(default_factory=dict)
    """The masks of `present` that are not uniform, and of `not_positive`, by signal: whether they hold anywhere has been
    looked up, once."""

    def present(self, name: str) -> Mask:
        """Return where the environment shows a signal, [seeds * B]; of a signal with sites: where it shows any site."""
        mask_name = f"_{name}"
        where_present = self.signals.get(mask_name)
        if where_present is None:
            return ALL
        if mask_name in self.uniform_masks:
            return self.uniform_masks[mask_name]
        if mask_name not in self._looked_up:
            mask = Mask.of(where_present if where_present.dim() == 1 else where_present.flatten(1).any(1))
            self._looked_up[mask_name] = mask if mask.anywhere else NONE
        return self._looked_up[mask_name]

    @property
    def shown(self) -> Mask:
        """Where the environment shows any signal, [seeds * B]: nowhere in the padding of a sequence."""
        hidden = ALIVE, *ENDS, *OUTCOMES
        names = [name for name in self.signals if name[0] != "_" and name.partition(".")[0] not in hidden]
        return reduce(or_, map(self.present, names)) if names else ALL

    def present_sites(self, name: str) -> Tensor | None:
        """Return the sites, or components, that a signal has, [seeds * B, *S] bool; None: all where it is present."""
        mask = self.signals.get(f"_{name}")
        return None if mask is None or mask.dim() == 1 else mask

    def not_alive(self, life_name: str) -> Mask:
        """Return where an agent of the environment is dead or has not come yet, [seeds * B]."""
        return self.not_positive(f"{ALIVE}.{life_name}")

    def not_positive(self, name: str) -> Mask:
        """Return where a signal of one number is 0 or less, [seeds * B]; nowhere, if it is not shown."""
        value = self.signals.get(name)
        if value is None:
            return NONE
        if name not in self._looked_up:
            mask = Mask.of((value <= 0).flatten())
            self._looked_up[name] = mask if mask.anywhere else NONE
        return self._looked_up[name]

    def context_features(self, specs: Sequence[ContextSpec], dtype: torch.dtype) -> Tensor | None:
        """Return the features [seeds * B, C] of a context, encoded once for all channels that use it."""
        key = tuple(specs)
        if key not in self._contexts:
            self._contexts[key] = encode(key, self.signals, dtype)
        return self._contexts[key]


class Life(NamedTuple):
    """Where the life of an agent of the environment, an episode of its own, is over after a step."""

    over: Mask
    """Where it was dead, or its life ended with the step."""
    terminated: Mask
    """Where its life ended for good, not by a limit of time."""


@dataclass(frozen=True, slots=True)
class EpisodeEnds:
    """Which environments' episodes ended at a step."""

    ended: Mask = NONE
    terminated: Mask = NONE
    """Where an episode ended for good, not by a limit of time."""
    lives: Mapping[str, Life] = field(default_factory=dict)
    """By agent of the environment whose life is over anywhere."""
    final_signals: StepSignals | None = None
    """The final observations where episodes were truncated, and the next step's elsewhere; None: no episode was
    truncated, or final observations are not known."""

    @property
    def anywhere(self) -> bool:
        """Whether an episode, or a life, may have ended: channels are asked for their rows only then."""
        return self.ended is not NONE or bool(self.lives)

    def rows_over(self, layout: Layout, *life_names: tuple[str, ...]) -> Mask:
        """Return the rows of a stack in which the environment's episode is over, or one of these lives of its members."""
        over = self.ended.map(layout.to_rows)
        if self.lives:
            lives_over = {name: life.over for name, life in self.lives.items()}
            for names in life_names:
                over |= layout.mask_by_name(names, lives_over)
        return over
