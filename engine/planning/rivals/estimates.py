"""Estimates of a plan: time to a target of one rival, what each of its figures rests on, and whether decoupling pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from antiphon.engine.planning.rivals.target import Measured

__all__ = ["FORMULA", "MEASURED", "SIMULATED", "Estimate", "Source", "compare_seconds"]

Source = Literal["measured", "simulated", "formula"]
MEASURED: Source = "measured"
"""By training the scenario here."""
SIMULATED: Source = "simulated"
"""By a simulation of the cluster's events."""
FORMULA: Source = "formula"
"""By a formula over the cluster's profile."""
_ALIKE = 1.1
"""Ratios of times below this are not told apart: steps to a target are found to a twentieth."""


@dataclass(frozen=True)
class Estimate:
    """A rival on the machines of a plan."""

    rival: str
    learning: str
    """What was trained to find the steps to the target."""
    step_seconds: float | None = None
    """Seconds of a step, the mean."""
    step_source: Source | None = None
    steps: float | None = None
    """Steps to the target, the mean over seeds."""
    steps_source: Source | None = None
    seconds: float | None = None
    """Simulated or computed seconds to the target, the mean over seeds; None: it is not reached, or the rival does not apply."""
    goodput: float | None = None
    """Share of the machines' time in which they compute what counts."""
    setting: str = ""
    """What was chosen for it: `16 microbatches`."""
    failure: str | None = None
    """Why it has no time to the target."""
    scores: Measured | None = None
    """By seed."""

    @property
    def basis(self) -> str:
        """What the seconds rest on, in words."""
        if self.step_source == self.steps_source:
            return "" if self.step_source is None else f"all {self.step_source}"
        words = {"steps": self.steps_source, "step": self.step_source}
        return ", ".join(f"{name} {source}" for name, source in words.items() if source is not None)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data: every figure with its source."""
        seconds: Source | None = None if self.seconds is None else self.step_source

        def figure(value: float | None, source: Source | None) -> Mapping[str, Any] | None:
            return None if value is None else {"value": value, "source": source}

        return {
            "rival": self.rival,
            "seconds": figure(self.seconds, seconds),
            "step_seconds": figure(self.step_seconds, self.step_source),
            "steps": figure(self.steps, self.steps_source),
            "goodput": figure(self.goodput, self.step_source),
            "setting": self.setting,
            "learning": self.learning,
            "failure": self.failure,
            "seeds": []
            if self.scores is None
            else [
                {"reached": one.reached, "best": one.best, "last": one.last, "error": one.error}
                for one in self.scores.seeds
            ],
        }


def compare_seconds(cluster: str, decoupled: float | None, rivals: Mapping[str, float | None]) -> str:
    """Return one sentence that compares the time of a decoupled run with those of its rivals.

    Args:
        cluster: The name of the cluster.
        decoupled: Seconds to the target; None: it is not reached.
        rivals: The same by rival.
    """
    if decoupled is None:
        reached = [name for name, seconds in rivals.items() if seconds is not None]
        others = f", which {_listed(reached)} reach{'es' if len(reached) == 1 else ''}" if reached else ""
        return f"On {cluster} decoupling does not pay: it does not reach the target{others}."
    ahead, level, behind = [], [], []
    for name, seconds in rivals.items():
        if seconds is None:
            ahead.append(f"{name} (never there)")
        elif seconds >= _ALIKE * decoupled:
            ahead.append(f"{name} ({_times(seconds / decoupled)} faster)")
        elif decoupled >= _ALIKE * seconds:
            behind.append(f"{name} ({_times(decoupled / seconds)} slower)")
        else:
            level.append(name)
    clauses = []
    if ahead:
        clauses.append(f"pays against {_listed(ahead)}")
    if behind:
        clauses.append(f"{'but not' if ahead else 'does not pay'} against {_listed(behind)}")
    if level:
        clauses.append(f"{'and ' if clauses else ''}is level with {_listed(level)}")
    return f"On {cluster} decoupling {', '.join(clauses)}."


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio < 10 else f"{ratio:,.0f}x"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
