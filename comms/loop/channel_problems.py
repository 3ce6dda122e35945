"""Errors and warnings of one channel of a loop, each a line that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from antiphon.base.errors import AntiphonError, CallError, ScenarioError, first_line, warn_caller


class ChannelProblems:
    """Makes the errors of a channel, and gives each warning once.

    Attributes:
        place: What a line begins with; the default name adds nothing to it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.place = "channel" if name == "channel" else f"channel {name}"
        self._warned: set[str] = set()

    def error(self, problem: str) -> ScenarioError:
        """Return the error of a problem."""
        return ScenarioError(f"{self.place}: {problem}")

    def warn(self, problem: str, kind: str | None = None) -> None:
        """Warn of a problem of the loop, once; of problems of one kind, of the first."""
        if (kind or problem) not in self._warned:
            self._warned.add(kind or problem)
            warn_caller(f"{self.place}: {problem}")

    @contextmanager
    def named(self, argument: str) -> Iterator[None]:
        """Raise errors, also those of a predictor of the user's, with the channel's name in one line."""
        try:
            yield
        except ScenarioError as error:
            raise self.error(str(error)) from None
        except CallError as error:  # a network's, where a run names the agent
            raise self.error(f"{argument} fails: {first_line(error.__cause__ or error)}") from error.__cause__
        except (AntiphonError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise self.error(f"{argument} fails: {first_line(error)}") from error
