"""Validated options of the worlds, and their descriptions. Needs no torch.

An invalid value raises a ScenarioError, whose message names key, value and fix.
"""

from __future__ import annotations

from dataclasses import dataclass

from gymnasium.spaces import Dict, Discrete

from antiphon.envs.datasets.catalogue import DATA_SETS
from antiphon.envs.datasets.folders import SPLITS
from antiphon.envs.options import check_choice, check_whole
from antiphon.envs.signal import Description, Signal
from antiphon.errors import ScenarioError

__all__ = ["CLASSES", "CartPoleOptions", "KeyDoorOptions", "ReferentialOptions", "SpeakerListenerOptions"]

CLASSES = 10
"""Classes of the images of a referential game."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CartPoleOptions:
    """Options of the pole on a cart."""

    limit: int = 500
    """Steps after which an episode is truncated."""

    def __post_init__(self) -> None:
        check_whole("limit", self.limit, 1, None)

    def description(self) -> Description:
        """Return signals and action space."""
        signals = {"observation": Signal(shape=(4,))}
        signals |= {
            name: Signal(shape=(1,)) for name in ("position", "velocity", "angle", "angular_velocity")
        }
        return Description(signals=signals, example_counts={}, action_space=Discrete(2))


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyDoorOptions:
    """Options of the room with a key and a door."""

    size: int = 13
    """Cells along each side of the room."""
    limit: int = 100
    """Steps after which an episode is truncated."""

    def __post_init__(self) -> None:
        check_whole("size", self.size, 5, 201)
        check_whole("limit", self.limit, 1, None)

    def description(self) -> Description:
        """Return signals and action space."""
        signals = {
            "observation": Signal(shape=(5,), low=-1.0, high=1.0),
            "position": Signal(shape=(3,), low=-1.0, high=1.0),
        }
        return Description(signals=signals, example_counts={}, action_space=Discrete(4))


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeakerListenerOptions:
    """Options of the speaker and the listener."""

    message: str = "world"
    """`world`: what the speaker says is its action, and the listener observes it; `channel`: it goes over a channel."""
    limit: int = 25
    """Steps of every episode."""

    def __post_init__(self) -> None:
        check_choice("message", self.message, ("world", "channel"))
        check_whole("limit", self.limit, 1, None)

    @property
    def talks(self) -> bool:
        """Whether messages are part of the world."""
        return self.message == "world"

    def description(self) -> Description:
        """Return signals and action space."""
        reward = Signal(training_only=True, known="after_step")
        signals = {
            "speaker": Signal(shape=(3,), low=0.0, high=1.0),
            "listener": Signal(shape=(11 if self.talks else 8,)),
            "goal": Signal(classes=3, training_only=True),
            "reward.speaker": reward,
            "reward.listener": reward,
        }
        moves = Discrete(5)
        return Description(
            signals=signals,
            episode_steps=self.limit,
            example_counts={},
            action_space=Dict(speaker=Discrete(3), listener=moves) if self.talks else moves,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferentialOptions:
    """Options of the referential game."""

    data: str = "digits"
    """The data set: digits (embedded, 8x8) or mnist (28x28)."""
    candidates: int = 8
    """Images among which the listener chooses."""
    distractors: int = 0
    """Random images beside the one that shows the sender the target."""
    concept: bool = False
    """False: the sender is shown the target itself; True: another image of its class, and candidates are of different classes."""
    split: str = "train"
    """The split: train, validation or test."""

    def __post_init__(self) -> None:
        check_choice("data", self.data, ("digits", "mnist"))
        check_flag("concept", self.concept)
        check_whole("candidates", self.candidates, 2, CLASSES if self.concept else 64)
        check_whole("distractors", self.distractors, 0, 64)
        check_choice("split", self.split, SPLITS)

    def description(self) -> Description:
        """Return signals, action space and splits; reads at most the headers of the data's files."""
        source = DATA_SETS[self.data]
        side = source.side
        signals = {
            "shown": Signal(shape=(1 + self.distractors, side, side), low=0.0, high=1.0),
            "candidates": Signal(shape=(self.candidates, side, side), low=0.0, high=1.0),
            "target": Signal(classes=self.candidates, training_only=True),
            "label": Signal(classes=CLASSES, training_only=True),
        }
        counts = source.counts()
        return Description(
            signals=signals,
            episode_steps=1,
            splits=tuple(counts),
            example_counts=counts,
            is_stream=True,
            action_space=Discrete(self.candidates),
        )


def check_flag(key: str, value: object) -> None:
    """Check that an option's value is true or false."""
    if not isinstance(value, bool):
        raise ScenarioError(f"env.{key}: {value!r}; must be true or false")
