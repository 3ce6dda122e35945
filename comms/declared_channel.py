"""What a coupling may read of a channel as its scenario declares it, so that it needs no scenario (couplings.py)."""

from __future__ import annotations

from typing import Protocol


class _DeclaredLink(Protocol):
    """The keys of `link` that a coupling reads (`LinkSpec`)."""

    @property
    def drop(self) -> float: ...
    @property
    def loses(self) -> bool: ...


class _DeclaredGradient(Protocol):
    """The keys of `gradient` that a coupling reads (`GradientSpec`)."""

    @property
    def apply(self) -> bool:
        """Whether it is injected, or carried on to predictors further back; else it is only trained."""

    @property
    def learns_from_returns(self) -> bool:
        """Whether it learns from what the receiver returns."""

    @property
    def own_target(self) -> str | None:
        """The signal that it learns from, in place of what is returned or beside it; None: it learns from no signal."""


class DeclaredChannel(Protocol):
    """The keys of a channel that a coupling reads (`ChannelSpec`)."""

    @property
    def link(self) -> _DeclaredLink: ...
    @property
    def gradient(self) -> _DeclaredGradient: ...
    @property
    def input(self) -> object | None: ...
