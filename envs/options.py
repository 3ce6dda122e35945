"""The options of the picture streams, checked, and what follows from them. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from antiphon.envs import digits, mnist
from antiphon.envs.signal import Description, Signal
from antiphon.errors import ScenarioError, suggest

__all__ = ["EPISODES", "ImageOptions", "check_hold"]

EPISODES = ("stream", "example")
"""`stream`: never ends; `example`: each example is an episode of `hold` steps."""

_SIDES = {"digits": digits.SIDE, "mnist": mnist.SIDE}
_PATCH_SIZES = {"digits": 3, "mnist": 8}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """What can be asked of a stream of labelled pictures.

    Raises:
        ScenarioError: A value that cannot be; the message names key, value and mend.
    """

    data: str = "digits"
    """The data set: digits (embedded, 8x8) or mnist (28x28)."""
    split: str = "train"
    """The part that is streamed: train, validation or test."""
    hold: int = 1
    """Steps for which each picture is shown."""
    episode: str = "stream"
    """`stream`: never ends; `example`: each picture is an episode."""
    patches: int | None = None
    """Number of patches the picture is also shown in, as signals patch_0, patch_1, …"""
    patch_size: int | None = None
    """Height and width of a patch, in pixels (3 of 8, 8 of 28)."""

    def __post_init__(self) -> None:
        _check_choice("data", self.data, _SIDES)
        _check_choice("split", self.split, ("train", "validation", "test"))
        check_hold(self.hold, self.episode)
        if self.patches is not None:
            _check_whole("patches", self.patches, 1, 1024)
        if self.patch_size is not None:
            _check_whole("patch_size", self.patch_size, 1, self.side)
            if self.patches is None:
                raise ScenarioError(
                    f"env.patch_size: {self.patch_size}, but there are no patches; set patches"
                )

    @classmethod
    def parse(cls, values: Mapping[str, Any], **defaults: Any) -> ImageOptions:
        """Check the keys and values of a document.

        Args:
            values: Keys and values as written.
            defaults: Values of keys that are not.

        Raises:
            ScenarioError: An unknown key, or a value that cannot be.
        """
        known = [item.name for item in fields(cls)]
        for key in values:
            if key not in known:
                raise ScenarioError(f"env.{key}: unknown key{suggest(key, known)}")
        return cls(**{**defaults, **values})

    @property
    def side(self) -> int:
        """Height and width of a picture, in pixels."""
        return _SIDES[self.data]

    @property
    def patch_side(self) -> int:
        """Height and width of a patch, in pixels."""
        return self.patch_size or _PATCH_SIZES[self.data]

    def description(self) -> Description:
        """Return signals, hold, episodes and splits; reads at most the headers of the data's files."""
        side, half, patch = self.side, self.side // 2, self.patch_side
        signals = {"image": _grey(1, side, side)}
        signals |= {name: _grey(1, side, half) for name in ("left_half", "right_half")}
        signals |= {f"patch_{number}": _grey(patch, patch) for number in range(self.patches or 0)}
        signals["label"] = Signal(classes=10, training_only=True)
        counts = digits.COUNTS if self.data == "digits" else mnist.counts()
        return Description(
            signals=signals,
            hold=self.hold,
            episode_steps=self.hold if self.episode == "example" else None,
            splits=tuple(counts),
            example_counts=dict(counts),
            is_stream=True,
        )


def check_hold(hold: Any, episode: Any) -> None:
    """Refuse a hold that is no number of steps, and unknown kinds of episode.

    Raises:
        ScenarioError: Naming key, value and mend.
    """
    _check_whole("hold", hold, 1, None)
    _check_choice("episode", episode, EPISODES)


def _grey(*shape: int) -> Signal:
    return Signal(shape=shape, low=0.0, high=1.0)


def _check_choice(key: str, value: Any, choices: Any) -> None:
    if value not in tuple(choices):
        raise ScenarioError(f"env.{key}: no {key} '{value}'{suggest(str(value), choices)}")


def _check_whole(key: str, value: Any, least: int, most: int | None) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise ScenarioError(f"env.{key}: {value!r}; must be a whole number {bounds}")
