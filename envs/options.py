"""Validated options of the environments, and their descriptions. Needs no torch.

An invalid value raises a ScenarioError, whose message names key, value and fix.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from antiphon.envs.datasets import texts
from antiphon.envs.datasets.catalogue import DATA_SETS, DataSet
from antiphon.envs.datasets.folders import SPLITS
from antiphon.envs.signal import Description, Signal
from antiphon.errors import DataError, ScenarioError, suggest

__all__ = [
    "EPISODES",
    "LABELS",
    "CopyOptions",
    "CountOptions",
    "Difficulty",
    "HyperplaneOptions",
    "ImageOptions",
    "RepeatCopyOptions",
    "TextOptions",
    "WindowOptions",
    "check_choice",
    "check_hold",
    "check_whole",
]

EPISODES = ("stream", "example")
"""`stream`: never ends; `example`: each example is an episode of `hold` steps."""
LABELS = ("linear", "noisy", "random")
"""`linear`: the side of the hyperplane; `noisy`: so, but a tenth of them swapped; `random`: random labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """Options of a stream of labelled pictures."""

    data: str = "digits"
    """The data set: digits (embedded, 8x8), mnist (28x28), cluttered_mnist (40x40), cifar10 or shapes (embedded; both 32x32 in
    colour)."""
    split: str = "train"
    """The part that is streamed: train, validation or test."""
    hold: int = 1
    """Steps for which each picture is repeated."""
    episode: str = "stream"
    """`stream`: never ends; `example`: each picture is an episode."""
    patches: int | None = None
    """Number of patches of the picture, as signals patch_0, patch_1, …"""
    patch_size: int | None = None
    """Height and width of a patch, in pixels (3 of 8, else 8)."""

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
    """Options of points on the two sides of a hyperplane."""

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


_COUNTED = ("odd", "threes", "sevens", "fives")
"""Counted digits of each level, the lowest first."""
_MOST_COUNTED = 4096


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Difficulty of a copy task."""

    length: int
    """Characters to read."""
    repeats: int
    """Times to reproduce them."""

    @property
    def characters(self) -> int:
        """Characters to reproduce, without the stop."""
        return self.length * self.repeats


@dataclass(frozen=True, kw_only=True, slots=True)
class CountOptions:
    """Options of the stream of counted digits."""

    data: str = "digits"
    """The data set: digits (embedded, 8x8) or mnist (28x28)."""
    levels: int = 2
    """How many counts there are: of odd digits, threes, sevens and fives."""
    window: int = 4
    """Digits counted at the lowest level; every further level counts over so many times as many."""
    split: str = "train"
    """The split: train, validation or test."""

    def __post_init__(self) -> None:
        check_choice("data", self.data, ("digits", "mnist"))
        check_whole("levels", self.levels, 1, len(_COUNTED))
        check_whole("window", self.window, 2, None)
        check_choice("split", self.split, SPLITS)
        if self.longest > _MOST_COUNTED:
            raise ScenarioError(
                f"env.window: {self.window}; {self.levels} levels would count over {self.longest} digits, "
                f"and at most {_MOST_COUNTED} can be: lower window or levels"
            )

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """Name and window, in steps, of each level, the lowest first."""
        return tuple((_COUNTED[level], self.window ** (level + 1)) for level in range(self.levels))

    @property
    def longest(self) -> int:
        """The highest level's window, in steps."""
        return int(self.window**self.levels)

    def description(self) -> Description:
        """Return signals and splits; reads at most the headers of the data's files."""
        source = DATA_SETS[self.data]
        shape = (source.colours, source.side, source.side)
        signals = {"image": Signal(shape=shape, low=0.0, high=1.0)}
        for name, steps in self.counts:
            signals[name] = Signal(classes=steps + 1, training_only=True, known="after_step", every=steps)
        for name, steps in self.counts:
            signals[f"{name}_so_far"] = Signal(classes=steps + 1, training_only=True)
        if "threes_so_far" in signals:
            signals["count_so_far"] = signals["threes_so_far"]
        counts = source.counts()
        return Description(signals=signals, splits=tuple(counts), example_counts=counts, endless=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyOptions:
    """Options of the copy task."""

    bits: int = 8
    """Random bits per character."""
    max_length: int = 24
    """Most characters to reproduce: the end of the curriculum, and the horizon of `upcoming` in steps."""
    length: int = 1
    """Characters to read in the first episodes."""
    threshold: float = 0.15
    """Error in bits per component of the target below which a task is solved and grows; 0: it never does."""

    def __post_init__(self) -> None:
        check_whole("bits", self.bits, 1, 64)
        check_whole("max_length", self.max_length, 1, 1024)
        check_whole("length", self.length, 1, self.max_length)
        number = isinstance(self.threshold, int | float) and not isinstance(self.threshold, bool)
        if not number or not 0 <= self.threshold < math.inf:
            raise ScenarioError(
                f"env.threshold: {self.threshold!r}; must be a number of bits, 0 for no curriculum"
            )

    @property
    def start(self) -> Difficulty:
        """The difficulty of the first episodes."""
        return Difficulty(self.length, 1)

    @property
    def shows_repeats(self) -> bool:
        """Whether the number of repeats is read after the stop character."""
        return False

    def harder(self, than: Difficulty) -> Difficulty | None:
        """Return the difficulty that follows a solved one; None: it was the last."""
        return Difficulty(than.length + 1, 1) if than.length < self.max_length else None

    def steps(self, difficulty: Difficulty) -> int:
        """Return the length of an episode: input, targets and a blank step."""
        read = difficulty.length + 1 + self.shows_repeats  # 1: the stop character
        return read + difficulty.characters + 2  # the target of the stop character, and the blank

    def description(self) -> Description:
        """Return signals and the longest episode."""
        grows = self.threshold > 0
        longest = self.steps(self.start)
        reached = self.start if grows else None
        while reached is not None:
            longest = max(longest, self.steps(reached))
            reached = self.harder(reached)
        future = self.max_length * (self.bits + 1)
        most = max(1.0, self.max_length / 10) if self.shows_repeats else 1.0
        signals = {
            "symbol": Signal(shape=(self.bits + 2,), low=0.0, high=most),
            "target": Signal(shape=(self.bits + 1,), training_only=True, low=0.0, high=1.0),
            "time_left": Signal(shape=(1,), training_only=True, low=0.0),
            "upcoming": Signal(shape=(future,), training_only=True, low=-1.0, high=1.0),
        }
        return Description(
            signals=signals,
            episode_steps=None if grows else longest,
            longest_episode=longest if grows else None,
            example_counts={},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatCopyOptions(CopyOptions):
    """Options of the copy task with repeats."""

    repeats: int = 1
    """Times that the characters are to be reproduced in the first episodes."""

    def __post_init__(self) -> None:
        CopyOptions.__post_init__(self)
        check_whole("repeats", self.repeats, 1, self.max_length)
        if self.start.characters > self.max_length:
            raise ScenarioError(
                f"env.repeats: {self.repeats} times length {self.length} exceeds max_length {self.max_length}; "
                "lower it, or raise max_length"
            )

    @property
    def start(self) -> Difficulty:
        """The difficulty of the first episodes."""
        return Difficulty(self.length, self.repeats)

    @property
    def shows_repeats(self) -> bool:
        """Whether the number of repeats is read after the stop character."""
        return True

    def harder(self, than: Difficulty) -> Difficulty | None:
        """Return the difficulty that follows a solved one, length and repeats by turns; None: it was the last."""
        longer = than.length - self.length <= than.repeats - self.repeats
        found = Difficulty(than.length + longer, than.repeats + (not longer))
        return found if found.characters <= self.max_length else None


@dataclass(frozen=True, kw_only=True, slots=True)
class TextOptions:
    """Options of the character stream of a text."""

    text: str = texts.EMBEDDED
    """`embedded`, the name without `.txt` of a file in `$ANTIPHON_DATA/text`, or the absolute path of a file."""
    split: str = "train"
    """The split: train, validation or test."""

    def __post_init__(self) -> None:
        _check_text(self.text, self.split)

    def description(self) -> Description:
        """Return signals and splits; reads the text, once while it does not change.

        Raises:
            DataError: There is no such text, or it cannot be read.
        """
        text = texts.load(self.text)
        signals = {
            "char": Signal(shape=(text.classes,), low=0.0, high=1.0),
            "next": Signal(classes=text.classes, training_only=True),
        }
        counts = {name: len(codes) for name, codes in text.splits.items()}
        return Description(signals=signals, splits=tuple(counts), example_counts=counts, endless=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowOptions:
    """Options of windows of a text."""

    text: str = texts.EMBEDDED
    """As of `TextOptions`."""
    length: int = 64
    """Characters of a window."""
    split: str = "train"
    """The split: train, validation or test."""

    def __post_init__(self) -> None:
        _check_text(self.text, self.split)
        check_whole("length", self.length, 1, None)

    def windows(self) -> dict[str, range]:
        """Return where the windows of each split begin in it: in `train` everywhere, in the others end to end.

        Raises:
            DataError: There is no such text, it cannot be read, or a split is shorter than a window and its last target.
        """
        found = {}
        for name, codes in texts.load(self.text).splits.items():
            last = len(codes) - 1 - self.length
            if last < 0:
                raise DataError(
                    f"env.length: {self.length}, and the {name} split of '{self.text}' has {len(codes)} characters; use at "
                    f"most {len(codes) - 1}, or a longer text"
                )
            found[name] = range(0, last + 1, 1 if name == "train" else self.length)
        return found

    def description(self) -> Description:
        """Return signals and splits; reads the text, once while it does not change.

        Raises:
            DataError: As of `windows`.
        """
        counts = {name: len(starts) for name, starts in self.windows().items()}
        classes = texts.load(self.text).classes
        return Description(
            signals={
                "tokens": Signal(shape=(self.length,), classes=classes),
                "following": Signal(shape=(self.length,), classes=classes, training_only=True),
            },
            splits=tuple(counts),
            example_counts=counts,
            endless=True,
            is_stream=True,
        )


def _check_text(text: Any, split: Any) -> None:
    if not isinstance(text, str):
        raise ScenarioError(f"env.text: {text!r}; must be the name of a text, without .txt")
    check_choice("split", split, SPLITS)


def check_hold(hold: Any, episode: Any) -> None:
    """Check that a hold is a number of steps, and that the kind of episode exists."""
    check_whole("hold", hold, 1, None)
    check_choice("episode", episode, EPISODES)


def _pixels(*shape: int) -> Signal:
    return Signal(shape=shape, low=0.0, high=1.0)


def check_choice(key: str, value: Any, choices: Iterable[str]) -> None:
    """Check that an option's value is one of the choices."""
    if value not in tuple(choices):
        raise ScenarioError(f"env.{key}: no {key} '{value}'{suggest(str(value), choices)}")


def check_whole(key: str, value: Any, least: int, most: int | None) -> None:
    """Check that an option's value is an integer from `least` to `most`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise ScenarioError(f"env.{key}: {value!r}; must be a whole number {bounds}")
