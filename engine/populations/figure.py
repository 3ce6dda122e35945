"""The figure of a lineage: the members' scores and values over steps, as in figure 6 of Jaderberg et al. 2017."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from antiphon.engine.populations.selection import Entry, initial_values, quality
from antiphon.errors import RunError
from antiphon.files import write_bytes
from antiphon.scenarios.population import PopulationSpec, RangeSpec

__all__ = ["draw_lineage"]

Line = tuple[tuple[int, float], tuple[int, float], float]
"""Its two ends as step and value, and the score of the member at the second, ranked from 0 (worst) to 1."""


def draw_lineage(lineage: Sequence[Entry], spec: PopulationSpec, metric: str | None, path: Path) -> None:
    """Draw a panel of scores and one of each parameter that varies: a line for each member, which branches off where it is copied.

    Lines are coloured by the rank of the member's score, from dark (worst) to light (best).

    Args:
        lineage: The entries, in order.
        spec: The population.
        metric: The metric of the scores.
        path: The SVG that it is written to.

    Raises:
        RunError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib import colormaps, rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RunError("lineage.svg needs matplotlib: pip install 'antiphon[plots]'") from error
    ranks = _ranks(lineage, metric)
    names = list(spec.vary)
    count = 1 + len(names)
    figure = Figure((4.2 * count, 3.4), facecolor="white")
    figure.subplots_adjust(left=0.18 / count, right=1 - 0.05 / count, bottom=0.15, top=0.9, wspace=0.25)
    panels = figure.subplots(1, count, squeeze=False)[0]
    readings: list[Callable[[Entry], float | None]] = [lambda entry: entry.score]
    readings += [lambda entry, name=name: entry.values[name] for name in names]  # type: ignore[misc]
    starts = [[None] * spec.members, *([own[name] for own in initial_values(spec)] for name in names)]
    for axes, read, start, title in zip(panels, readings, starts, [metric or "score", *names], strict=True):
        for (step, value), (then, reached), rank in _lines(lineage, ranks, read, start):
            axes.plot([step, then], [value, reached], color=colormaps["viridis"](rank), linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.25, linewidth=0.5)
        within = spec.vary.get(title)
        if isinstance(within, RangeSpec) and within.log:
            axes.set_yscale("log")
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": "antiphon"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    write_bytes(path, content.getvalue())


def _ranks(lineage: Sequence[Entry], metric: str | None) -> dict[tuple[int, int], float]:
    """By step and member, the rank of its score among those of the step, from 0 to 1."""
    found: dict[tuple[int, int], float] = {}
    for step in {entry.step for entry in lineage}:
        now = [entry for entry in lineage if entry.step == step]
        order = sorted(now, key=lambda entry: quality(entry.score, metric))
        found |= {(step, entry.member): place / max(1, len(order) - 1) for place, entry in enumerate(order)}
    return found


def _lines(
    lineage: Sequence[Entry],
    ranks: dict[tuple[int, int], float],
    read: Callable[[Entry], float | None],
    start: Sequence[float | None],
) -> list[Line]:
    """The lines of one panel: level between selections, and from the parent's value where a member was copied."""
    found: list[Line] = []
    at: dict[int, tuple[int, float]] = {n: (0, value) for n, value in enumerate(start) if value is not None}
    is_score = not at
    for step in sorted({entry.step for entry in lineage}):
        now = [entry for entry in lineage if entry.step == step]
        before = dict(at)
        for entry in now:
            value, rank = read(entry), ranks[step, entry.member]
            if value is None:
                continue
            held = before.get(entry.member)
            if held is not None:
                reached = value if is_score else held[1]
                found.append((held, (step, reached), rank))
            if entry.parent != entry.member and entry.parent in before and not is_score:
                found.append(((step, before[entry.parent][1]), (step, value), rank))
            at[entry.member] = step, value
    return found
