"""Whether decoupling pays on a cluster, and against whom: one sentence of the times to a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["verdict"]

_ALIKE = 1.1
"""Ratios of times below this are not told apart: steps to a target are found to a twentieth."""


def verdict(cluster: str, decoupled: float | None, rivals: Mapping[str, float | None]) -> str:
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
