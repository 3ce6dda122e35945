"""HTML report of runs: results, training curves and rankings, and the Channels tab with their data."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.channels.explanations import EXPLANATIONS, OF_EPISODES, Explanation
from antiphon.telemetry.channels.page import page
from antiphon.telemetry.channels.series import RunData, Series
from antiphon.telemetry.figures import CURVES, METRICS, SIGNALS
from antiphon.telemetry.statistics import standard_error
from antiphon.telemetry.verdicts import MEASURES, Measure, bounds, worth

_LIVE = 24
"""Most runs in the graph: the first ones of each group."""
_RANKED = 20
"""Most channels in a ranking."""
_POINTS = 400
"""Most points of a curve."""

Curve = Mapping[int, float]
"""Value by step."""


@dataclass(frozen=True)
class ReportRun:
    """A run in a report.

    Attributes:
        name: Name of the run; the runs of a report have different names.
        path: Its directory, as a command takes it.
        facts: The content of run.json.
        result: The content of result.json; empty if there is none.
        document: The text of scenario.yaml.
        data: Its data in the Channels tab; None: it has none.
        env: The environment's metrics, by name.
        notes: Problems with the run, one line each.
        member: Whether it is a member of a population: its values change, so it goes by its name.
    """

    name: str
    path: str
    facts: Mapping[str, Any]
    result: Mapping[str, Any] = field(default_factory=dict)
    document: str = ""
    data: RunData | None = None
    env: Mapping[str, Curve] = field(default_factory=dict)
    notes: Sequence[str] = ()
    member: bool = False

    @property
    def scores(self) -> dict[str, float]:
        """Metrics of the readouts on the test split, and of the environment, if there are any."""
        found = {metric: self.result.get(metric) for metric in METRICS} | dict(self.result.get("env") or {})
        return {metric: float(value) for metric, value in found.items() if isinstance(value, int | float)}

    @property
    def identity(self) -> dict[str, str]:
        """What distinguishes the run, apart from its seed: scenario, variant, steps, values."""
        facts, seed = self.facts, self.facts.get("seed")
        values = {
            k: v for k, v in (facts.get("values") or {}).items() if not (k.endswith("seed") and v == seed)
        }
        known = {"scenario": facts.get("scenario"), "variant": facts.get("variant") or "default"}
        if self.member:
            return {"scenario": str(known["scenario"]), "run": self.name}
        document = {} if values else {"document": self.document}
        whole = {**known, "steps": facts.get("steps"), **values, **document}
        return {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in whole.items()}


@dataclass(frozen=True)
class ReportPopulation:
    """A population in a report.

    Attributes:
        name: Its name.
        metric: What its members are compared by, in words.
        members: Its members, best first: the run's name, the score, its standard error, the values that it has now.
        drawing: The drawing of its members' scores and values, SVG.
    """

    name: str
    metric: str
    members: Sequence[tuple[str, float | None, float, Mapping[str, float]]]
    drawing: str


def grouped(runs: Sequence[ReportRun]) -> dict[str, list[ReportRun]]:
    """Group runs that differ only in their seed, under a name that shows how the group differs from the others."""
    identities = [run.identity for run in runs]
    documents = list(dict.fromkeys(identity.get("document", "") for identity in identities))
    differing: list[str] = []
    for key in dict.fromkeys(chain.from_iterable(identities)):
        apart = {tuple(identity.get(key) for key in differing) for identity in identities}
        further = {tuple(identity.get(key) for key in (*differing, key)) for identity in identities}
        if len(further) > len(apart):  # what a variant sets tells no more than its name
            differing.append(key)
    groups: dict[str, list[ReportRun]] = {}
    for run, identity in zip(runs, identities, strict=True):
        words = []
        for key in differing:
            if key == "document":
                words.append(f"scenario file {1 + documents.index(identity.get(key, ''))}")
            elif key in identity:
                words.append(
                    identity[key] if key in ("scenario", "variant", "run") else f"{key}={identity[key]}"
                )
        groups.setdefault(" · ".join(words) or identity["scenario"], []).append(run)
    return groups


def report(runs: Sequence[ReportRun], *, made: str, populations: Sequence[ReportPopulation] = ()) -> str:
    """Return the page.

    Args:
        runs: The runs, with different names.
        made: When the report was made, and by which version.
        populations: Populations of which there are members among the runs.
    """
    groups = grouped(runs)
    about = [one.name for one in populations] or [str(run.facts.get("scenario")) for run in runs]
    title = f"Report on {', '.join(dict.fromkeys(about))}"
    winners = [member for population in populations for member, *_ in population.members[:1]]
    turns = (
        run
        for turn in zip_longest(*groups.values())
        for run in turn
        if run is not None and run.data is not None
    )
    live = {run.name for run, _ in zip(turns, range(_LIVE), strict=False)} | set(winners)
    ordered = sorted(runs, key=lambda run: run.name not in winners)
    shown = [replace(run.data, name=run.name) for run in ordered if run.data is not None and run.name in live]
    notes = [f"{run.name}: {note}" for run in runs for note in run.notes]
    notes += [
        f"{run.name}: not in the graph below, which shows at most {_LIVE} runs."
        for run in runs
        if run.data and run.name not in live
    ]
    several = len(groups) < len(runs)
    sections = [
        f"<h1>{escape(title)}</h1>",
        *map(_population, populations),
        _section(
            "Results",
            _over_seeds(groups) if several else "",
            _results(runs),
            _of_returns(runs),
            _items(notes),
        ),
        _section("Training curves", '<div class="ap-report-charts" id="antiphon-charts"></div>')
        if shown
        else "",
        *(_ranking(run, measure) for run in runs for measure in MEASURES),
        "<h2>Channels</h2>" if shown else "",
    ]
    return page(
        shown,
        title=title,
        before=f'<main class="ap ap-report">{"".join(sections)}</main>',
        after=f'<footer class="ap ap-report">{escape(made)}</footer>',
        charts=list(_charts(groups)),
    )


# --- tables ------------------------------------------------------------------------------------------------


def _section(title: str, *content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """Return a table; the first `texts` columns hold text, the others numbers."""
    cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row[texts:]) for row in rows]
    heads = ["".join(f'<th scope="row">{escape(cell)}</th>' for cell in row[:texts]) for row in rows]
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(f"<tr>{head}{cell}</tr>" for head, cell in zip(heads, cells, strict=True))
    return f'<div class="ap-report-table"><table class="ap-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _population(population: ReportPopulation) -> str:
    """Return the section of a population; as a picture the drawing runs no script and fetches nothing, whatever it holds."""
    names = list(dict.fromkeys(name for *_, values in population.members for name in values))
    rows = []
    for place, (member, score, error, values) in enumerate(population.members):
        spread = f" ± {_score(population.metric, error)}" if error else ""
        numbers = [_score(population.metric, score) + spread, *(_number(values.get(name)) for name in names)]
        rows.append([member if place or score is None else f"{member} (winner)", *numbers])
    table = _table(["member", population.metric, *names], rows, 1)
    address = f"data:image/svg+xml;base64,{b64encode(population.drawing.encode()).decode()}"
    compared = f"<p>Best first, by {escape(population.metric)} and with the values at the end.</p>"
    about = "Scores and values of the members over steps: a line branches where a member is copied."
    picture = f'<p>{about}</p><img src="{address}" alt="{escape(about)}">'
    return _section(f"Population {population.name}", compared, table, picture)


def _items(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _results(runs: Sequence[ReportRun]) -> str:
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.scores))
    rows = []
    for run in runs:
        facts = run.facts
        ended = str(facts.get("exit")) + (f": {facts['error']}" if facts.get("error") else "")
        what = [run.name, str(facts.get("scenario")), str(facts.get("variant") or "–"), ended]
        numbers = [
            f"{facts.get('seed')}",
            f"{facts.get('step')} of {facts.get('steps')}",
            _number(facts.get("seconds")),
        ]
        rows.append([*what, *numbers, *(_score(metric, run.scores.get(metric)) for metric in metrics)])
    heads = ["run", "scenario", "variant", "exit", "seed", "steps", "seconds", *map(_score_title, metrics)]
    return _table(heads, rows, 4)


def _of_returns(runs: Sequence[ReportRun]) -> str:
    """Return what the test returns of policies are; nothing where there are none."""
    known = any("return" in run.scores for run in runs)
    return "<p>Test return: mean over whole episodes, with the most likely actions.</p>" if known else ""


def _over_seeds(groups: Mapping[str, Sequence[ReportRun]]) -> str:
    """Return the table of groups: means over the runs that came to their end, with one standard error."""
    done = {name: [run for run in runs if run.facts.get("exit") == "done"] for name, runs in groups.items()}
    metrics = list(dict.fromkeys(metric for runs in done.values() for run in runs for metric in run.scores))
    rows = []
    for name, runs in done.items():
        row = [name, f"{len(runs)} of {len(groups[name])}"]
        for metric in metrics:
            values = [run.scores[metric] for run in runs if metric in run.scores]
            error = f" ± {_score(metric, standard_error(values))}" if len(values) > 1 else ""
            row.append(_score(metric, sum(values) / len(values) if values else None) + error)
        rows.append(row)
    heads = ["runs that differ only in their seed", "done", *map(_score_title, metrics)]
    return _table(heads, rows, 1)


def _score_title(metric: str) -> str:
    """Return the heading of a score: of the test split, or the environment's own."""
    return f"test {metric}" if metric in METRICS else _env_title(metric)


def _env_title(metric: str) -> str:
    return OF_EPISODES[metric].title if metric in OF_EPISODES else metric.replace("_", " ")


def _series(run: ReportRun, family: str, metric: str) -> Series | None:
    """Return the rows of a metric of a run's agents or channels; None where there are none."""
    return None if run.data is None else run.data.figures.get((family, metric))


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4g}".replace("-", "−")


def _score(metric: str, value: float | None) -> str:
    return f"{100 * value:.2f} %" if metric.endswith("accuracy") and value is not None else _number(value)


def _ranking(run: ReportRun, measure: Measure) -> str:
    """Return the channels of a run by a measure of worth, highest first; nothing where it was not measured."""
    series = [_series(run, "channel", metric) for metric in (measure, *bounds(measure))]
    if run.data is None or any(found is None for found in series):
        return ""
    values, low, high = (found.values[-1] for found in series if found is not None)
    order = [item for item in np.argsort(-values) if not math.isnan(values[item])]
    rows = []
    for item in order[:_RANKED]:
        ends = float(low[item]), float(high[item])
        interval = f"[{_number(ends[0])}, {_number(ends[1])}]"
        name = run.data.graph["channels"][item]["name"]
        rows.append([name, worth(*ends) or "–", _number(float(values[item])), interval])
    known = EXPLANATIONS["channel"][measure]
    more = f" Shown: the first {_RANKED} of {len(order)} channels." if len(order) > _RANKED else ""
    says = f"<p>{escape(known.says + more)}</p>"
    table = _table(["channel", "verdict", known.title, "95 % interval"], rows, 2)
    return _section(f"{known.title.capitalize()}: {run.name}", says, table) if rows else ""


# --- curves ------------------------------------------------------------------------------------------------


def _charts(groups: Mapping[str, Sequence[ReportRun]]) -> Iterator[dict[str, Any]]:
    """Yield the charts as plain data: of readouts, of the environment, of synthetic gradients; a line per group."""
    env = dict.fromkeys(chain.from_iterable(run.env for runs in groups.values() for run in runs))
    of_env = Explanation("", "A metric of the environment.")
    wanted: list[tuple[str, str, Callable[[ReportRun], Curve]]] = [
        *((*EXPLANATIONS["agent"][metric][:2], partial(_of, "agent", metric)) for metric in CURVES),
        *((_env_title(one), OF_EPISODES.get(one, of_env).says, partial(_of_env, one)) for one in env),
        *((*EXPLANATIONS["channel"][metric][:2], partial(_of, "channel", metric)) for metric in SIGNALS),
    ]
    for title, says, curve in wanted:
        found = [_line(name, [curve(run) for run in runs]) for name, runs in groups.items()]
        lines = [{"place": place, **line} for place, line in enumerate(found) if line is not None]
        if any(len(line["steps"]) > 1 for line in lines):  # the tables have what was measured once
            yield {"title": title, "says": says, "lines": lines}


def _of_env(metric: str, run: ReportRun) -> Curve:
    return run.env.get(metric, {})


def _of(family: str, metric: str, run: ReportRun) -> Curve:
    """Return a run's curve: the mean over its readouts, or over its channels."""
    series = _series(run, family, metric)
    if run.data is None or series is None:
        return {}
    readouts = [item for item, agent in enumerate(run.data.graph["agents"]) if agent.get("role") == "readout"]
    values = series.values[:, readouts] if family == "agent" else series.values
    return dict(zip(series.steps.tolist(), _mean_and_error(values)[0].tolist(), strict=True))


def _line(name: str, curves: Sequence[Curve]) -> dict[str, Any] | None:
    """Return the mean of some curves with one standard error as plain data; None where they have no number."""
    every = sorted(set(chain.from_iterable(curves)))
    chosen = np.unique(np.linspace(0, len(every) - 1, min(_POINTS, len(every))).round().astype(int))
    steps = [every[at] for at in chosen]
    values = np.array([[curve.get(step, math.nan) for curve in curves] for step in steps])
    if not np.isfinite(values).any():
        return None
    middle, error = _mean_and_error(values)
    line = {"name": name, "steps": steps, "values": _plain(middle)}
    return line if len(curves) < 2 else line | {"low": _plain(middle - error), "high": _plain(middle + error)}


def _mean_and_error(values: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard error of each row's finite values; nan where there are none, or only one."""
    found = np.isfinite(values)
    count = found.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(found, values, 0.0).sum(1) / count
        squares = np.where(found, (values - mean[:, None]) ** 2, 0.0).sum(1)
        error = np.sqrt(squares / (count - 1) / count)
    return mean, np.where(count > 1, error, np.nan)


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
