"""Texts, character by character (`antiphon/CharText-v0`) or in windows (`antiphon/TextWindows-v0`)."""

from __future__ import annotations

import functools
import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from antiphon.base.errors import ScenarioError, require
from antiphon.envs.base import SeededEnv, Values
from antiphon.envs.datasets import SPLITS, reading
from antiphon.envs.options import EnvOptions
from antiphon.envs.signal import Description, Signal
from antiphon.envs.stream import ExampleStream, Table
from antiphon.nets.random import integers, seed_for

EMBEDDED = "embedded"
"""Name of the text that ships with antiphon."""
_EMBEDDED_FILE = Path(__file__).parent / "files" / "moby-dick-beginning.txt.gz"
_SHARES = (90, 95)
"""Start of validation and test, in per cent of the text."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Text:
    classes: int
    """The distinct characters of the train split, sorted, and one for all others."""
    splits: dict[str, NDArray[np.int64]]
    """The classes of train, validation and test, in the order of the text."""


def load(name: str) -> Text:
    """Return a text (see `CharText.Options`); a file is read once."""
    folder = Path(os.environ.get("ANTIPHON_DATA", "."), "text")
    path = Path(name) if Path(name).is_absolute() else folder / f"{name}.txt"
    path = _EMBEDDED_FILE if name == EMBEDDED else path
    fix = f"set ANTIPHON_DATA to a folder with text/NAME.txt, or use an absolute path or {EMBEDDED}"
    require(path.is_file(), "env.text", f"no file {path}; {fix}")
    return _read(path)


@functools.lru_cache(maxsize=4)
def _read(path: Path) -> Text:
    with reading(path):
        raw = gzip.decompress(path.read_bytes()) if path == _EMBEDDED_FILE else path.read_bytes()
        text = raw.decode("utf-8")
    points = np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int64)
    bounds = [len(text) * share // 100 for share in _SHARES]
    parts = dict(zip(SPLITS, np.split(points, bounds), strict=True))
    vocabulary = np.unique(parts["train"])
    codes = {name: _codes(vocabulary, split_points) for name, split_points in parts.items()}
    return Text(classes=len(vocabulary) + 1, splits=codes)


def _codes(vocabulary: NDArray[np.int64], points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of each code point among the known ones, or their number where it is unknown."""
    index = np.searchsorted(vocabulary, points)
    is_known = vocabulary[np.minimum(index, len(vocabulary) - 1)] == points
    return np.where(is_known, index, len(vocabulary))


class CharText(SeededEnv):
    """A text, one character per step; the target is the next character.

    Description:
        The first 90 % of the text are the train split, the next 5 % validation, the rest test. A split is cut into
        one segment per environment; environment k starts with segment k and continues cyclically through the
        split. In the train split the seed determines where the first segment starts; in others it is the start of the split.
    Observation space:
        `char` [classes], the character as a one-hot vector of floats. `info` has `next`, int64: the class of the
        next character. Classes are the distinct characters of the train split, sorted, and a last class for
        all other characters, which only validation and test can contain.
    """

    class Options(EnvOptions):
        text: str = EMBEDDED
        """`embedded` (chapters 1 to 8 of *Moby-Dick*, public domain), the name (without `.txt`) of a UTF-8 file in
        `$ANTIPHON_DATA/text`, or the absolute path of a file."""

    @staticmethod
    def describe(options: Options) -> Description:
        text = load(options.text)
        signals = {
            "char": Signal(shape=(text.classes,), low=0.0, high=1.0),
            "next": Signal(classes=text.classes, training_only=True),
        }
        counts = {name: len(codes) for name, codes in text.splits.items()}
        return Description(signals=signals, example_counts=counts, endless=True)

    _place = ("read",)

    def __init__(self, num_envs: int, options: Options, *, split: str = "train", **settings: Any) -> None:
        super().__init__(num_envs, self.describe(options), Discrete(1), **settings)
        self.split = split
        self._codes = torch.from_numpy(load(options.text).splits[split]).to(self.device)
        self._stretch = len(self._codes) // num_envs
        available = f"the {split} split of '{options.text}' has {len(self._codes)} characters"
        fix = f"{num_envs} environments need {2 * num_envs}; lower training.batch or use a longer text"
        require(self._stretch >= 2, "env.text", f"{available}, but {fix}", ScenarioError)
        self._opened: int | None = None  # the seed of which `_begins` are

    @property
    def evaluation_steps(self) -> int:
        """Steps in which every character of every segment except its first is a target."""
        return self._stretch - 1

    def _open(self) -> None:
        assert self._seed is not None
        if self._opened == self._seed:
            return
        self._opened = self._seed
        self._begins = torch.arange(self.num_envs, device=self.device) * self._stretch
        if self.split == "train":
            self._begins += integers(seed_for(self._seed, "env"), 0, 1, len(self._codes), self.device)

    def _values(self) -> Values:
        position = (self._begins + self._number) % len(self._codes)
        values: dict[str, Tensor] = {}
        if "char" in self.requested:
            codes = self._codes[position].unsqueeze(-1)
            shape = self.num_envs, *self.signals["char"].shape  # no table: a text may have very many classes
            values["char"] = torch.zeros(shape, dtype=self.dtype, device=self.device).scatter_(-1, codes, 1.0)
        if "next" in self.requested:
            values["next"] = self._codes[(position + 1) % len(self._codes)]
        return self._divide(values)


class TextWindows(ExampleStream):
    """Windows of a text, one per example: the target at every position is the next character.

    Description:
        The first 90 % of the text are the train split, the next 5 % validation, the rest test. In the train split
        windows begin at any position, sampled with replacement; validation and test are cut into consecutive windows, so that
        every character except the first and a remainder is a target once.
    Observation space:
        `tokens` [length], int64, the classes of a window's characters. `info` has `following` [length], the class of the
        next character at each position. For classes see `CharText`.
    """

    class Options(CharText.Options):
        length: int = Field(64, ge=1)
        """Number of characters of a window."""

    @staticmethod
    def describe(options: Options) -> Description:
        text, shape = load(options.text), (options.length,)
        counts = {name: len(begins) for name, begins in _window_begins(text, options.length).items()}
        return Description(
            signals={
                "tokens": Signal(shape=shape, classes=text.classes),
                "following": Signal(shape=shape, classes=text.classes, training_only=True),
            },
            example_counts=counts,
            endless=True,
            is_stream=True,
            sampling="with_replacement",
        )

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        table, description = _windows(load(options.text), options.length), self.describe(options)
        super().__init__(num_envs, table, description, answer=None, **settings)
        self._places = torch.arange(options.length, device=self.device)

    def column(self, name: str, rows: Tensor) -> Tensor:
        """Return the tokens, or the next tokens, of the windows that begin at some positions of the text."""
        first = rows if name == "tokens" else rows + 1
        return self._table.columns["text"][first.unsqueeze(1) + self._places]


def _window_begins(text: Text, length: int) -> dict[str, range]:
    """Return where windows begin in each split: in `train` everywhere, in others end to end; DataError if none fits."""
    begins = {}
    for name, codes in text.splits.items():
        last = len(codes) - 1 - length
        short = f"{length}, but the {name} split of the text has {len(codes)} characters"
        require(last >= 0, "env.length", f"{short}; use at most {len(codes) - 1}, or a longer text")
        begins[name] = range(0, last + 1, 1 if name == "train" else length)
    return begins


@functools.lru_cache(maxsize=8)
def _windows(text: Text, length: int) -> Table:
    """Return a text, its splits end to end, and where the windows of each begin."""
    begins, first = {}, 0
    for name, starts in _window_begins(text, length).items():
        begins[name] = torch.tensor(starts, dtype=torch.int64) + first
        first += len(text.splits[name])
    codes = torch.cat([torch.from_numpy(codes) for codes in text.splits.values()])
    return Table(columns={"text": codes}, splits=begins)
