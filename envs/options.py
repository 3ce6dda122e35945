"""Validated options of the streams, and their descriptions. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from antiphon.envs.datasets.catalogue import DATA_SETS, DataSet
from antiphon.envs.signal import Description, Signal
from antiphon.errors import ScenarioError, suggest

__all__ = [
    "EPISODES",
    "LABELS",
    "SPLITS",
    "HyperplaneOptions",
    "ImageOptions",
    "check_choice",
    "check_hold",
    "check_whole",
]

SPLITS = ("train", "validation", "test")
"""The parts of a data set."""
EPISODES = ("stream", "example")
"""`stream`: never ends; `example`: each example is an episode of `hold` steps."""
LABELS = ("linear", "noisy", "random")
"""`linear`: the side of the hyperplane; `noisy`: so, but a tenth of them swapped; `random`: random labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """Options of a stream of labelled pictures.

    Raises:
        ScenarioError: An invalid value; the message names key, value and fix.
    """

    data: str = "digits"
    """The data set: digits (embedded, 8x8), mnist (28x28), cifar10 or shapes (embedded; both 32x32 in colour)."""
    split: str = "train"
    """The part that is streamed: train, validation or test."""
    hold: int = 1
    """Steps for which each picture is repeated."""
    episode: str = "stream"
    """`stream`: never ends; `example`: each picture is an episode."""
    patches: int | None = None
    """Number of patches of the picture, as signals patch_0, patch_1, …"""
    patch_size: int | None = None
    """Height and width of a patch, in pixels (3 of 8, 8 of 28 and 32)."""

    def __post_init__(self) -> None:
        check_choice("data", self.data, DATA_SETS)
        check_choice("split", self.split, SPLITS)
        check_hold(self.hold, self.episode)
        if self.patches is not None:
            check_whole("patches", self.patches, 1, 1024)
        if self.patch_size is not None:
            check_whole("patch_size", self.patch_size, 1, self.source.side)
            if self.patches is None:
                raise ScenarioError(
                    f"env.patch_size: {self.patch_size}, but there are no patches; set patches"
                )

    @property
    def source(self) -> DataSet:
        """The data set itself."""
        return DATA_SETS[self.data]

    @property
    def patch_side(self) -> int:
        """Height and width of a patch, in pixels."""
        return self.patch_size or self.source.patch_size

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Shape of a patch; one of a grey picture has no axis for colours."""
        side = self.patch_side
        return (side, side) if self.source.colours == 1 else (self.source.colours, side, side)

    def description(self) -> Description:
        """Return signals, hold, episodes and splits; reads at most the headers of the data's files."""
        colours, side = self.source.colours, self.source.side
        signals = {"image": _pixels(colours, side, side)}
        signals |= {name: _pixels(colours, side, side // 2) for name in ("left_half", "right_half")}
        signals |= {f"patch_{number}": _pixels(*self.patch_shape) for number in range(self.patches or 0)}
        signals["label"] = Signal(classes=10, training_only=True)
        counts = self.source.counts()
        return Description(
            signals=signals,
            hold=self.hold,
            episode_steps=self.hold if self.episode == "example" else None,
            endless=self.episode == "stream",
            splits=tuple(counts),
            example_counts=counts,
            is_stream=True,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class HyperplaneOptions:
    """Options of points on the two sides of a hyperplane.

    Raises:
        ScenarioError: An invalid value; the message names key, value and fix.
    """

    labels: str = "linear"
    """`linear`, `noisy` or `random`."""
    size: int = 2
    """Dimensions of a point."""
    points: int | None = None
    """How many points; None: ten per dimension, and at least 100."""
    seed: int = 0
    """Seed of the data set: its points, hyperplane and labels."""
    split: str = "train"
    """The part that is streamed: all points are in `train`."""

    def __post_init__(self) -> None:
        check_choice("labels", self.labels, LABELS)
        check_whole("size", self.size, 1, 10_000)
        if self.points is not None:
            check_whole("points", self.points, 1, 100_000)
        check_whole("seed", self.seed, 0, None)
        check_choice("split", self.split, ("train",))

    @property
    def count(self) -> int:
        """Number of points."""
        return self.points or max(100, 10 * self.size)

    def description(self) -> Description:
        """Return signals and splits."""
        signals = {
            "x": Signal(shape=(self.size,)),
            "label": Signal(classes=2, training_only=True),
            "onehot": Signal(shape=(2,), training_only=True, low=0.0, high=1.0),
        }
        counts = {"train": self.count}
        return Description(
            signals=signals, splits=tuple(counts), example_counts=counts, is_stream=True, endless=True
        )


def check_hold(hold: Any, episode: Any) -> None:
    """Check that a hold is a number of steps, and that the kind of episode exists.

    Raises:
        ScenarioError: The message names key, value and fix.
    """
    check_whole("hold", hold, 1, None)
    check_choice("episode", episode, EPISODES)


def _pixels(*shape: int) -> Signal:
    return Signal(shape=shape, low=0.0, high=1.0)


def check_choice(key: str, value: Any, choices: Iterable[str]) -> None:
    """Check that an option's value is one of the choices.

    Raises:
        ScenarioError: The message names key, value and the nearest choice.
    """
    if value not in tuple(choices):
        raise ScenarioError(f"env.{key}: no {key} '{value}'{suggest(str(value), choices)}")


def check_whole(key: str, value: Any, least: int, most: int | None) -> None:
    """Check that an option's value is an integer from `least` to `most`.

    Raises:
        ScenarioError: The message names key, value and bounds.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise ScenarioError(f"env.{key}: {value!r}; must be a whole number {bounds}")
