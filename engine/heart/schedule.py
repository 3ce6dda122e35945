"""The order in which agents tick (rule 14, clocks and windows)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from antiphon.engine.heart.clock import Clock
from antiphon.engine.heart.window_grid import EpisodeWindows

NetworkCall = tuple[str, ...]
"""The names of the agents of one call of a network: one, or several tied ones of the same wave, whose rows are evaluated together."""


@dataclass(eq=False)
class TickSchedule:
    """The network calls of any step, in order, and the present episode, where that is a window.

    Attributes:
        waves: The network calls, by topological level over zero-delay channels.
        episode_windows: The windows of agents that learn once an episode, where its length varies; None: there are none.
        sweep: Whether a group is differentiated as soon as it has ticked, where its learning signal is complete then.
    """

    clocks: Mapping[str, Clock]
    waves: Sequence[Sequence[NetworkCall]]
    episode_windows: EpisodeWindows | None = None
    sweep: bool = False

    @cached_property
    def _calls_in_order(self) -> list[NetworkCall]:
        return [call for wave in self.waves for call in wave]

    @property
    def episode_start(self) -> int:
        """The step at which the present episode began, if it is a window."""
        return 0 if self.episode_windows is None else self.episode_windows.episode_start

    def begin_episode(self, step: int, length: int | None) -> None:
        """Begin an episode of `length` steps at `step`, for agents that learn once an episode; None: all are of one length."""
        if self.episode_windows is not None and length is not None:
            self.episode_windows.begin_episode(
                step, length, 0 if step == 0 else self.episode_windows.episode_number + 1
            )

    def network_calls(self, step: int) -> list[NetworkCall]:
        """Return the network calls of `step`, in an order in which every sender of a zero-delay channel comes first."""
        return [call for call in self._calls_in_order if self.clocks[call[0]].ticks_at(step)]

    def ticking_agent_names(self, step: int) -> list[str]:
        """Return the names of the agents that tick at `step`, in the same order."""
        return [name for call in self.network_calls(step) for name in call]
