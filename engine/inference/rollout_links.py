"""Links of a rollout: perfect ones, or those of the run (semantics 24)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from numbers import Real
from typing import Self

from antiphon.base.errors import ScenarioError
from antiphon.comms.links import Link
from antiphon.engine.heart.system import System

LINKS = ("perfect", "as_run")


@dataclass(frozen=True)
class Links:
    """The links of a rollout.

    Attributes:
        kind: `perfect`: delays and rates are kept, without loss and noise; links that lose every message in the run are cut.
            `as_run`: as in the run, with synthetic inputs for missing messages.
        drop: With `as_run`, the probability of loss on every link; None: the link's own.

    Raises:
        ScenarioError: No such kind, or a setting that perfect links do not have.
    """

    kind: str = "perfect"
    drop: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in LINKS:
            raise ScenarioError(f"links: no kind '{self.kind}'; use 'perfect' or 'as_run'")
        is_number = isinstance(self.drop, Real) and not isinstance(self.drop, bool)
        if self.drop is not None and not (is_number and 0 <= self.drop <= 1):
            raise ScenarioError(f"drop: must be from 0 to 1, not {self.drop}")
        if self.kind == "perfect" and self.drop is not None:
            raise ScenarioError(f"drop: perfect links lose nothing, got {self.drop}; use links 'as_run'")

    @property
    def in_words(self) -> str:
        """Return "perfect links", or what of the run's links is another."""
        links = "perfect links" if self.kind == "perfect" else "links as in the run"
        return links if self.drop is None else f"{links}, drop {self.drop:g}"

    @classmethod
    def given(cls, links: Self | str, system: System) -> Self:
        """Return the links that are given for a system, or whose kind is.

        Raises:
            ScenarioError: They are neither, or have a setting of what the system lacks.
        """
        links = cls(links) if isinstance(links, str) else links
        if not isinstance(links, Links):
            raise ScenarioError(f"links: {links!r}; write 'perfect' or 'as_run', or pass Links('as_run', …)")
        if links.drop is not None and not system.channels:
            raise ScenarioError(
                f"drop: {links.drop} has no effect, as the scenario has no channels; leave it out"
            )
        return links

    def of(self, link: Link, seed: int) -> Link:
        """Return a link, or those of a stack, as a rollout has it; `seed`: of what is lost and added."""
        if self.kind == "perfect":
            return link.perfect()
        members = tuple(dataclasses.replace(member, seed=seed) for member in link.members)
        drop = link.drop if self.drop is None else self.drop
        return dataclasses.replace(link, seed=seed, drop=drop, members=members)
