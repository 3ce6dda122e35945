"""Windows that are episodes whose length varies (semantics 16)."""

from __future__ import annotations


class EpisodeWindows:
    """Windows that are the episodes of an environment whose length is known when each begins, and only then.

    Of episodes to come it is known that they come: all of them are the next one, until it begins.

    Args:
        longest: Steps that an episode has at most.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.current = self.start = 0
        self.length = longest

    def begin(self, step: int, length: int, number: int) -> None:
        """Note that episode `number`, of `length` steps, begins at `step`."""
        self.start, self.length, self.current = step, length, number

    def number(self, tick: int) -> int:
        """Return the number of the episode that holds the tick at step `tick`."""
        if tick < self.start:
            return self.current - 1
        return self.current if tick < self.start + self.length else self.current + 1

    def end(self, number: int) -> int:
        """Return the step at which episode `number` ends; of one to come, at the latest."""
        return self.start + self.length - 1 + (number - self.current) * self.longest

    def ending(self, step: int) -> int | None:
        """Return the number of the episode that ends at `step`, if one does."""
        return self.current if step == self.start + self.length - 1 else None

    def steps(self) -> int:
        """Return the steps of an episode, at most."""
        return self.longest

    def ticks(self, period: int) -> int:
        """Return how many ticks, `period` steps apart, an episode has, at most."""
        return -(-self.longest // period)

    def position(self, tick: int, period: int, episode_start: int) -> int:
        """Return the position of a tick in its episode, from 0; for the arguments see `StepWindows.position`."""
        return (tick - episode_start) // period % self.ticks(period)
