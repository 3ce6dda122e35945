"""The library's windows of a text, with a note of each step on the way's clock in the processes that take the steps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from clock import Clock

from antiphon.envs.signal import Description
from antiphon.envs.text import TextWindows

CLOCK = "SLOW_LINE_CLOCK"
"""The variable that names the clock's file, in the processes of parts."""


class _Timed(TextWindows):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._clock = Clock(os.environ[CLOCK]) if CLOCK in os.environ else None
        super().__init__(*arguments, **settings)

    def _open(self) -> None:
        super()._open()
        if self._clock is not None and self.split == "train":
            self._clock.step(self._number)


@dataclass(frozen=True)
class TimedWindows:
    """A source of what `antiphon/TextWindows-v0` shows."""

    text: str
    length: int

    @property
    def description(self) -> Description:
        return _Timed.describe(_Timed.Options(text=self.text, length=self.length))

    def make(self, *, batch: int, split: str | None = None, **settings: Any) -> _Timed:
        options = _Timed.Options(text=self.text, length=self.length)
        return _Timed(batch, options, split=split or "train", **settings)
