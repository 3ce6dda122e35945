"""What the agents of a study's runs make of examples: measured per run, kept beside it, compared in one picture.

Per agent the accuracy of a linear probe and the norm of its weights; between agents the similarity of what they take
to be alike (Czarnecki et al. 2017, "Understanding synthetic gradients and decoupled neural interfaces", section 5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.engine.studies.figures import described, styles_of
from antiphon.files import write_csv
from antiphon.manifests import read_cache, write_checked
from antiphon.telemetry.pictures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from antiphon.scenarios import Scenario

__all__ = ["draw_representations", "kept_representations", "measure_representations", "write_representations"]

_FILE = "representations.json"
_QUANTITIES = {
    "probe_train": "linear probe, training %",
    "probe_test": "linear probe, test %",
    "weight_norm": "norm of weights",
}
_ACROSS = 4
_PANEL = 2.6
"""Inches."""


def kept_representations(path: Path, steps: int) -> dict[str, Any] | None:
    """Return what was measured of a finished run: `agents`, `similarity`, and a list for every other quantity.

    What was measured after another number of steps is of no use.
    """
    kept = read_cache(path / _FILE)
    return kept if kept.get("steps") == steps else None


def measure_representations(path: Path, steps: int, scenario: Scenario | None = None) -> None:
    """Measure a finished run, if that has not been done; `scenario` is needed where it holds Python objects.

    Raises:
        ScenarioError: Its environment has no classes or no test split.
        RunError: The directory cannot be read or written.
    """
    if kept_representations(path, steps) is not None:
        return
    from antiphon.engine.probes.linear_probe import linear_probe
    from antiphon.engine.probes.representation import rdm, similarity, weight_norms
    from antiphon.engine.simulation import Simulation

    with Simulation.load(path, scenario) as simulation:
        probes = linear_probe(simulation)
        similarities = similarity(rdm(simulation))
        norms = weight_norms(simulation)
    agents = list(probes)
    found = {
        "steps": steps,
        "agents": agents,
        "probe_train": [probes[name].train for name in agents],
        "probe_test": [probes[name].test for name in agents],
        "weight_norm": [math.hypot(*norms[name].values()) for name in agents],
        "similarity": similarities.tolist(),
    }
    write_checked(path / _FILE, found)


def write_representations(study: Mapping[str, Any], directory: Path) -> None:
    """Write representations.csv, long form: what was measured of the runs that the table's lines are of."""
    rows = [["row", *study["axes"], "variant", "run", "quantity", "agent", "other", "value"]]
    for line, run, found in _measured(study, directory):
        what = [line["row"], *(line["point"].get(axis) for axis in study["axes"]), line["variant"], run]
        for quantity in _QUANTITIES:
            for agent, value in zip(found["agents"], found[quantity], strict=True):
                rows.append([*what, quantity, agent, None, value])
        for agent, values in zip(found["agents"], found["similarity"], strict=True):
            for other, value in zip(found["agents"], values, strict=True):
                rows.append([*what, "similarity", agent, other, value])
    write_csv(directory / "representations.csv", rows)


def draw_representations(study: Mapping[str, Any], directory: Path) -> Figure:
    """Draw representations.svg: means over seeds along the agents, and a map of similarity for every line.

    RunError where matplotlib is not installed, or the file cannot be written.
    """
    by_line: dict[str, list[Mapping[str, Any]]] = {}
    looks = {}
    styles = styles_of(study["lines"])
    for line, _, found in _measured(study, directory):
        by_line.setdefault(described(study, line), []).append(found)
        looks[described(study, line)] = styles[line["variant"]]
    across = max(min(len(by_line), _ACROSS), len(_QUANTITIES))
    down = -(-len(by_line) // across)
    size = (_PANEL * across, _PANEL * (down + 1))
    figure = new_figure("representations.svg", layout="constrained", figsize=size)
    grid = figure.subplots(down + 1, across, squeeze=False)
    for axes, (quantity, title) in zip(grid[0], _QUANTITIES.items(), strict=False):
        factor = 100 if title.endswith("%") else 1
        for name, runs in by_line.items():
            values = [factor * value for value in _mean([run[quantity] for run in runs])]
            axes.plot(values, label=name, markersize=3, linewidth=1, **looks[name])
        axes.set(title=title, xlabel="agent")
        axes.grid(alpha=0.25, linewidth=0.5)
    grid[0, len(_QUANTITIES) - 1].legend(fontsize=7)
    for axes, (name, runs) in zip(grid[1:].flat, by_line.items(), strict=False):
        rows = [_mean([run["similarity"][i] for run in runs]) for i in range(len(runs[0]["agents"]))]
        image = axes.imshow(rows, vmin=0, vmax=1, cmap="viridis")
        axes.set(title=f"similarity: {name}", xlabel="agent", ylabel="agent")
        figure.colorbar(image, ax=axes, shrink=0.7)
    for axes in [*grid[0][len(_QUANTITIES) :], *list(grid[1:].flat)[len(by_line) :]]:
        axes.remove()
    save_figure(figure, directory / "representations.svg")
    return figure


def _measured(
    study: Mapping[str, Any], directory: Path
) -> Iterator[tuple[Mapping[str, Any], str, dict[str, Any]]]:
    """Yield (line, name of the run, what was measured of it) of all runs that the lines are of."""
    for line in study["lines"]:
        for name in line["runs"]:
            found = kept_representations(directory / name, study["runs"][name]["steps"])
            if found is not None:
                yield line, name, found


def _mean(rows: Sequence[Sequence[float | None]]) -> list[float]:
    """Return the mean of each column over the rows that have it; NaN where none has."""
    columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    return [sum(column) / len(column) if column else math.nan for column in columns]
