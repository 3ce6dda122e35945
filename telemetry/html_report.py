"""HTML report of runs: results, training curves and rankings, and the Channels tab with their data."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from html import escape
from itertools import chain, count, zip_longest
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.base.by_key import by_key
from antiphon.base.errors import with_count
from antiphon.base.notebook import number
from antiphon.base.text_table import TextTable
from antiphon.telemetry.metrics import AS_RUN, CURVES, METRICS, SIGNALS
from antiphon.telemetry.statistics import Estimate, interval_ends, mean, of_few_seeds, over_seeds
from antiphon.telemetry.tab.explanations import EXPLANATIONS, OF_EPISODES, Explanation
from antiphon.telemetry.tab.judgements import (
    Judgement,
    Worth,
    judgements,
    median_cosine,
    run_sentences,
    with_command,
)
from antiphon.telemetry.tab.page import page
from antiphon.telemetry.tab.seeds import ALL_SEEDS, run_over_seeds, stem_of
from antiphon.telemetry.tab.series import RunData
from antiphon.telemetry.tab.tags import HEADLINE
from antiphon.telemetry.tab.verdict_series import headline_metrics
from antiphon.telemetry.verdicts import MEANS, MEASURES, Measure

_LIVE = 24
"""Most runs in the graph: the first ones of each group."""
_RANKED = 20
"""Channels in a ranking before its fold,"""
_MOST_BESIDE = 6
"""most runs beside one another,"""
_FOREMOST = 12
"""rows of a table of judgements before its fold,"""
_JUDGED = 1000
"""and most rows behind one."""
_MOST_SETTINGS = 4
"""Most settings in which a scenario file is said to differ."""
_LOCAL = "The loss of channels whose sender learns from a target of its own (local)."
_NUMBER = re.compile(r"(?<![\w>])−?\d[\d.,]*")
"""A number in a sentence, not in a name."""
_MOST_SAME = 3
"""Most runs that are named of which a sentence holds too."""
_NO_RANK = "A run with more channels that help or matter need not be better: scores rank runs, counts of verdicts do not."
_KIND = "scenario", "variant"
"""What tells runs apart before their settings do."""
_OF_ENV = "environment_"
"""Beginning of an environment's metric that has the name of an agent's."""
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
        settings: Its single settings by their place; empty: not known.
        data: Its data in the Channels tab; None: it has none.
        env: The environment's metrics, by name.
        notes: Problems with the run, one line each.
        member: Whether it is a member of a population: its values change, so it goes by its name.
        of_study: The name of its variant in a study; empty: that of its scenario.
    """

    name: str
    path: str
    facts: Mapping[str, Any]
    result: Mapping[str, Any] = field(default_factory=dict)
    document: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    data: RunData | None = None
    env: Mapping[str, Curve] = field(default_factory=dict)
    notes: Sequence[str] = ()
    member: bool = False
    of_study: str = ""

    @property
    def scenario(self) -> str:
        return str(self.facts.get("scenario"))

    @property
    def variant(self) -> str:
        return self.of_study or str(self.facts.get("variant") or "")

    @property
    def scores(self) -> dict[str, float]:
        """Metrics of the readouts on the test split, and of the environment, if there are any.

        One of the environment that has the name of another one, such as the copy task's `bits` in training, is no score of the test split.
        """
        of_env = {
            f"{_OF_ENV}{metric}" if metric in METRICS else metric: value
            for metric, value in (self.result.get("env") or {}).items()
        }
        metrics = {metric: self.result.get(metric) for metric in METRICS} | of_env
        return {metric: float(value) for metric, value in metrics.items() if isinstance(value, int | float)}

    @property
    def return_error(self) -> float | None:
        """The standard error of its `return` over the test's episodes; None: unknown, or of several rewards."""
        errors = (self.result.get("episodes") or {}).get("errors") or {}
        return next(iter(errors.values())) if len(errors) == 1 else None

    @property
    def loses(self) -> bool:
        """Whether links of it lose messages."""
        return self.data is not None and any(channel.get("drop") for channel in self.data.graph["channels"])

    @property
    def scored_over_own_links(self) -> dict[str, float]:
        """Its scores over its own links, where it was evaluated over them at the step of the others."""
        metrics = {} if self.data is None else self.data.metrics
        found = {}
        for metric in METRICS:
            perfect, own = (metrics.get((HEADLINE, f"test_{metric}{ending}")) for ending in ("", AS_RUN))
            if own is not None and (perfect is None or own.steps[-1] == perfect.steps[-1]):
                found[metric] = float(own.values[-1, 0])
        return found

    @property
    def over_own_links(self) -> dict[str, float]:
        """The same, of a run whose links lose nothing its scores."""
        scored = self.scored_over_own_links
        return scored if scored or self.loses else self.scores

    @property
    def identity(self) -> dict[str, str]:
        """What distinguishes the run, apart from its seed: scenario, variant, steps, values."""
        facts, seed = self.facts, self.facts.get("seed")
        values = {
            k: v for k, v in (facts.get("values") or {}).items() if not (k.endswith("seed") and v == seed)
        }
        names = {"scenario": facts.get("scenario"), "variant": self.variant or "default"}
        if self.member:
            return {"scenario": str(names["scenario"]), "run": self.name}
        document = {} if values else {"document": self.document}
        settings = {**names, "steps": facts.get("steps"), **values, **document}
        return {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in settings.items()}


@dataclass(frozen=True)
class ReportSection:
    """What a report says of a study or a population, before the results of its runs.

    Attributes:
        runs: The names of its runs; a population's winner is the first.
        before: Sentences before the tables.
        after: Sentences after the tables.
        drawing: A drawing, SVG; empty: none.
        drawn: What is drawn.
    """

    name: str
    title: str
    runs: Sequence[str]
    _: KW_ONLY
    before: Sequence[str] = ()
    tables: Sequence[TextTable] = ()
    after: Sequence[str] = ()
    drawing: str = ""
    drawn: str = ""


def grouped(runs: Sequence[ReportRun]) -> dict[str, list[ReportRun]]:
    """Group runs that differ only in their seed, under a name that shows how the group differs from the others.

    Runs of one seed, as of other code, are apart, each under its own name.
    """
    identities = [run.identity for run in runs]
    kinds = [tuple(identity.get(key) for key in _KIND) for identity in identities]
    told: dict[str, str] = {}
    for kind in dict.fromkeys(kinds):
        of_kind = [
            (identity, run) for identity, run, one in zip(identities, runs, kinds, strict=True) if one == kind
        ]
        told |= _document_settings(
            {identity["document"]: run.settings for identity, run in of_kind if "document" in identity}
        )
    differing = [
        key
        for key in dict.fromkeys(chain.from_iterable(identities))
        # Within a variant, as what a variant sets tells no more than its name.
        if len(
            {
                (() if key in _KIND else kind, identity.get(key))
                for kind, identity in zip(kinds, identities, strict=True)
            }
        )
        > (1 if key in _KIND else len(set(kinds)))
    ]
    groups: dict[str, list[ReportRun]] = {}
    for run, identity in zip(runs, identities, strict=True):
        words = []
        for key in differing:
            if key == "document" and key in identity:
                words.append(told[identity[key]])
            elif key in identity:
                words.append(
                    identity[key] if key in ("scenario", "variant", "run") else f"{key}={identity[key]}"
                )
        groups.setdefault(" · ".join(words) or identity["scenario"], []).append(run)
    named: dict[str, list[ReportRun]] = {}
    for name, group in groups.items():
        of_one_seed = len({run.facts.get("seed") for run in group}) < len(group)
        prefix = f"{name} · " if len(groups) > 1 else ""
        named |= {f"{prefix}{run.name}": [run] for run in group} if of_one_seed else {name: group}
    return named


def _document_settings(settings_by_document: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return in what each scenario file differs from the others: a setting in which most are alike stands at the others alone; where settings are
    many, the first ones and the file's number.
    """
    every = settings_by_document.values()
    keys = [
        key
        for key in dict.fromkeys(chain.from_iterable(every))
        if key != "description" and len({of.get(key) for of in every}) > 1
    ]
    counts = {key: Counter(of.get(key) for of in every).most_common(2) for key in keys}
    usual = {key: value for key, ((value, most), (_, fewer)) in counts.items() if most > fewer}
    texts = {}
    for place, (document, settings) in enumerate(settings_by_document.items(), 1):
        words = [
            f"{key}={settings.get(key, 'none')}"
            for key in keys
            if key not in usual or settings.get(key) != usual[key]
        ]
        more = f"{len(words) - _MOST_SETTINGS} more of scenario file {place}"
        shown = words if len(words) <= _MOST_SETTINGS else [*words[:_MOST_SETTINGS], more]
        texts[document] = ", ".join(shown) or ("what most have" if keys else f"scenario file {place}")
    return texts


def _by_name(groups: Mapping[str, list[ReportRun]]) -> tuple[dict[str, list[ReportRun]], dict[str, str]]:
    """Return groups under the names that their runs have in the Channels tab, and in what each differs from the others; empty: in its name."""
    by_name: dict[str, list[ReportRun]] = {}
    apart = {}
    for label, group in groups.items():
        stems = {stem_of(run.name, run.facts.get("seed")) for run in group}
        stem = next(iter(stems)) if len(stems) == 1 else None
        shared_name = label if stem is None else stem or group[0].scenario
        name = group[0].name if len(group) == 1 else shared_name
        numbered = (f"{label} {number}" for number in count(2))
        name = next(free for free in chain((name, label), numbered) if free not in by_name)
        by_name[name] = group
        shown_words = {name, group[0].variant, group[0].scenario}
        apart[name] = ", ".join(word for word in label.split(" · ") if word not in shown_words)
    return by_name, apart


def report(runs: Sequence[ReportRun], *, footer: str, sections: Sequence[ReportSection] = ()) -> str:
    """Return the page.

    Args:
        runs: The runs, with different names, in order.
        footer: When the report was made, and by which version.
        sections: Studies and populations of which there are runs among the runs.
    """
    groups, apart = _by_name(grouped(runs))
    scenarios = by_key((run.scenario, run) for run in runs)  # metrics of others are not compared
    about = [section.name for section in sections] or [run.scenario for run in runs]
    title = f"Report on {', '.join(dict.fromkeys(about))}"
    live = _live(groups)
    shown = _with_data(run for run in runs if run.name in live)
    pooled = {name: data for name, group in groups.items() if (data := _pooled(name, group)) is not None}
    pooled_shown = [data for name, data in pooled.items() if all(run.name in live for run in groups[name])]
    told = set(chain.from_iterable(section.runs for section in sections))
    unsectioned = {
        name: remaining
        for name, group in groups.items()
        if (remaining := [run for run in group if run.name not in told])
    }
    several = any(len(group) > 1 for group in unsectioned.values())
    content = [
        f"<h1>{escape(title)}</h1>",
        *map(_summary, sections),
        _causes(pooled, groups),
        _section(
            "Results",
            _over_seeds(unsectioned, apart) if several else "",
            _results(
                runs,
                {} if several else {run.name: apart[name] for name, group in groups.items() for run in group},
            ),
            _of_returns(runs),
            _items([*_notes(runs, live)]),
        ),
        _section(
            "Training curves", _of_bands(groups), '<div class="ap-report-charts" id="antiphon-charts"></div>'
        )
        if shown
        else "",
        *_worths(groups, scenarios, pooled),
        "<h2>Channels</h2>" if shown else "",
    ]
    graph = [*pooled_shown, *shown]
    # The page opens with the first run: of a locked one that nothing is measured of, it has only the sizes of messages to show.
    first = next((data for has in (run_sentences, _has_judgement) for data in graph if has(data)), None)
    return page(
        [*([] if first is None else [first]), *(data for data in graph if data is not first)],
        title=title,
        before=f'<main class="ap ap-report">{"".join(content)}</main>',
        after=f'<footer class="ap ap-report">{escape(footer)}</footer>',
        charts=[*_charts_by_scenario(groups, scenarios)],
    )


def _has_judgement(data: RunData) -> bool:
    return any(("channel", metric) in data.metrics for metric in (*MEASURES, *MEANS))


def _live(groups: Mapping[str, Sequence[ReportRun]]) -> set[str]:
    """Return the names of the runs in the graph of channels: each group has its first before any has its second."""
    turns = (
        run
        for turn in zip_longest(*groups.values())
        for run in turn
        if run is not None and run.data is not None
    )
    return {run.name for run, _ in zip(turns, range(_LIVE), strict=False)}


def _notes(runs: Sequence[ReportRun], live: Collection[str]) -> Iterator[str]:
    for run in runs:
        yield from (f"{run.name}: {note}" for note in run.notes)
    for run in runs:
        if run.data and run.name not in live:
            yield f"{run.name}: not in the graph below, which shows at most {_LIVE} runs."


def _charts_by_scenario(
    groups: Mapping[str, Sequence[ReportRun]], scenarios: Mapping[str, Sequence[ReportRun]]
) -> Iterator[dict[str, Any]]:
    for scenario, runs in scenarios.items():
        ending = f": {scenario}" if len(scenarios) > 1 else ""
        for chart in _charts({name: group for name, group in groups.items() if group[0] in runs}):
            yield {**chart, "title": chart["title"] + ending}


# --- tables ------------------------------------------------------------------------------------------------


def _section(title: str, *content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int, words: int = 0) -> str:
    """Return a table; the first `texts` columns hold text, the last `words` sentences, the others numbers."""
    last = len(headings) - words - texts
    cells = [
        "".join(
            f"<td{' class=ap-report-words' if column >= last else ''}>{escape(cell)}</td>"
            for column, cell in enumerate(row[texts:])
        )
        for row in rows
    ]
    heads = ["".join(f'<th scope="row">{escape(cell)}</th>' for cell in row[:texts]) for row in rows]
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(f"<tr>{head}{cell}</tr>" for head, cell in zip(heads, cells, strict=True))
    return f'<div class="ap-report-table"><table class="ap-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _summary(section: ReportSection) -> str:
    """Return a study or a population; as a picture its drawing runs no script and fetches nothing, whatever it holds."""
    tables = [_table(table.headings, table.cells, table.names) for table in section.tables]
    drawing = ""
    if section.drawing:
        address = f"data:image/svg+xml;base64,{b64encode(section.drawing.encode()).decode()}"
        drawing = f'{_lines([section.drawn])}<img src="{address}" alt="{escape(section.drawn)}">'
    return _section(section.title, _lines(section.before), *tables, _lines(section.after), drawing)


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _items(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _results(runs: Sequence[ReportRun], apart: Mapping[str, str]) -> str:
    """Return the table of runs; `apart`: in what each differs from the others, by the run's name."""
    named = ["differs in"] if any(apart.values()) else []
    metrics, scores = _all_scores(runs)
    rows = []
    for run in runs:
        facts = run.facts
        ended = str(facts.get("exit")) + (f": {facts['error']}" if facts.get("error") else "")
        texts = [
            run.name,
            *(apart.get(run.name) or "–" for _ in named),
            run.scenario,
            run.variant or "–",
            ended,
        ]
        numbers = [
            f"{facts.get('seed')}",
            f"{facts.get('step')} of {facts.get('steps')}",
            _number(facts.get("seconds")),
        ]
        rows.append([*texts, *numbers, *(_score(metric, scores[run.name].get(metric)) for metric in metrics)])
    heads = [
        "run",
        *named,
        "scenario",
        "variant",
        "exit",
        "seed",
        "steps",
        "seconds",
        *map(_score_title, metrics),
    ]
    return _table(heads, rows, 4 + len(named))


def _all_scores(runs: Sequence[ReportRun]) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Return the metrics of runs, and the scores by run; of all of them first over their own links, where one that loses messages has these."""
    scores = {run.name: dict(run.scores) for run in runs}
    lossy = [metric for metric in METRICS if any(metric in run.scored_over_own_links for run in runs)]
    for run in runs:
        own = run.over_own_links
        scores[run.name] |= {metric + AS_RUN: own[metric] for metric in lossy if metric in own}
    metrics = dict.fromkeys(metric for run in runs for metric in run.scores)
    return [*(metric + AS_RUN for metric in lossy), *metrics], scores


def _of_returns(runs: Sequence[ReportRun]) -> str:
    """Return what the test returns of policies are; nothing where there are none."""
    has_returns = any("return" in run.scores for run in runs)
    return (
        "<p>Test return: mean over whole episodes, with the most likely actions.</p>" if has_returns else ""
    )


def _over_seeds(groups: Mapping[str, Sequence[ReportRun]], apart: Mapping[str, str]) -> str:
    """Return the table of groups: means over the runs that came to their end, with the intervals that the Channels tab has too.

    `apart`: in what each group differs from the others.
    """
    named = ["differ in"] if any(apart[name] for name in groups) else []
    done = {name: [run for run in runs if run.facts.get("exit") == "done"] for name, runs in groups.items()}
    metrics, scores = _all_scores([run for runs in done.values() for run in runs])
    rows = []
    for name, runs in done.items():
        row = [name, *(apart[name] or "–" for _ in named), f"{len(runs)} of {len(groups[name])}"]
        for metric in metrics:
            values = [scores[run.name][metric] for run in runs if metric in scores[run.name]]
            row.append(_mean(metric, values) if values else "–")
        rows.append(row)
    heads = ["runs that differ only in their seed", *named, "done", *map(_score_title, metrics)]
    few = of_few_seeds(len(runs) for runs in done.values())
    return _table(heads, rows, 1 + len(named)) + _lines(
        [
            "Means of the runs that are done [95 % interval, Student's t over seeds], as in the Channels tab.",
            *_differences(done),
            *few,
        ]
    )


def _differences(groups: Mapping[str, Sequence[ReportRun]]) -> Iterator[str]:
    """Yield how far the groups of a scenario are from the best of them, by their first score, with intervals as in the Channels tab."""
    several = ((runs[0].scenario, (name, runs)) for name, runs in groups.items() if len(runs) > 1)
    for of_scenario in map(dict, by_key(several).values()):
        every = [run.scores for runs in of_scenario.values() for run in runs]
        metric = next((one for one in METRICS if all(one in scores for scores in every)), None)
        if metric is None or len(of_scenario) < 2:
            continue
        compared, over = _compared(of_scenario, metric)
        means = {name: mean(values, share=False) for name, values in compared.items()}
        lowest_first = sorted(means, key=lambda name: means[name].value)
        best, end = (
            (lowest_first[0], "lowest")
            if EXPLANATIONS["agent"][metric].good == "low"
            else (lowest_first[-1], "highest")
        )
        told = "; ".join(
            f"{name} {_difference(metric, found, means[best])}"
            for name, found in means.items()
            if name != best
        )
        yield f"The {end} mean {_score_title(metric)}{over} is that of {best}; differences from it: {told}."


def _compared(groups: Mapping[str, Sequence[ReportRun]], metric: str) -> tuple[dict[str, list[float]], str]:
    """Return the scores by which groups are compared, and over which links, as the tab does: each over its own where all are known so."""
    runs = [run for group in groups.values() for run in group]
    if not any(run.loses for run in runs):
        return {name: [run.scores[metric] for run in group] for name, group in groups.items()}, ""
    if all(metric in run.over_own_links for run in runs):
        own = {name: [run.over_own_links[metric] for run in group] for name, group in groups.items()}
        return own, ", each over its own links,"
    perfect = {name: [run.scores[metric] for run in group] for name, group in groups.items()}
    return perfect, ", over perfect links, without what lost messages cost,"


def _difference(metric: str, one: Estimate, other: Estimate) -> str:
    half = math.hypot(
        *(estimate.value - estimate.low for estimate in (one, other) if estimate.low is not None)
    )
    by, scale = one.value - other.value, 100 if _is_share(metric) else 1
    value, low, high = (f"{scale * end:.3g}".replace("-", "−") for end in (by, by - half, by + half))
    return f"{value} [{low}, {high}]{' points' if _is_share(metric) else ''}"


def _mean(metric: str, values: Sequence[float]) -> str:
    estimate = mean(values, share=_is_share(metric))
    middle, low, high = (_score(metric, end) for end in (estimate.value, estimate.low, estimate.high))
    return middle if estimate.low is None else f"{middle} [{low}, {high}]"


def _of_bands(groups: Mapping[str, Sequence[ReportRun]]) -> str:
    """Return what the bands of the curves are; nothing where there are none."""
    several = any(len(runs) > 1 for runs in groups.values())
    return (
        _lines(["Curves are means over seeds; bands: their 95 % intervals, Student's t over seeds."])
        if several
        else ""
    )


def _score_title(metric: str) -> str:
    """Return the heading of a score: of the test split, or the environment's own."""
    if metric.endswith(AS_RUN):
        return EXPLANATIONS["agent"][f"test_{metric}"].title
    return f"test {metric}" if metric in METRICS else _env_title(metric)


def _env_title(metric: str) -> str:
    return OF_EPISODES[metric].title if metric in OF_EPISODES else metric.replace("_", " ")


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else number(value).replace("-", "−")


def _is_share(metric: str) -> bool:
    return metric.removesuffix(AS_RUN).endswith("accuracy")


def _score(metric: str, value: float | None) -> str:
    return f"{100 * value:.2f} %" if _is_share(metric) and value is not None else _number(value)


def _pooled(name: str, runs: Sequence[ReportRun]) -> RunData | None:
    """Return a group of runs as one, by the seeds that have data; None where there are not several, or their graphs differ."""
    with_data = _with_data(runs)
    alike = {
        tuple(item["name"] for of in ("agents", "channels") for item in run.graph[of]) for run in with_data
    }
    return run_over_seeds(name + ALL_SEEDS, with_data) if len(with_data) > 1 and len(alike) == 1 else None


def _judged(
    title: str,
    runs: Mapping[str, RunData],
    begins: str = "",
    ends: Sequence[str] = (),
    *,
    folded: bool = False,
    members: Mapping[str, Sequence[RunData]] = MappingProxyType({}),
) -> str:
    """Return the channels of all runs with their verdicts, and of a bad one what to try; nothing where none has a verdict or a hint.

    Of a result of one of several seeds, its `members`, there is no interval over seeds: it has its own.

    What holds of the run is said once, above; of many rows the foremost stand before a fold, none where all are `folded`.
    """
    judged = {name: judgements(data) for name, data in runs.items()}
    judged = {
        name: of_run for name, of_run in judged.items() if any(one.verdicts or one.cause for one in of_run)
    }
    told = {name: run_sentences(data) for name, data in runs.items()}
    alone = _of_one_seed(judged, members)
    every = _worst_first(judged, told, {name: _score_lost(data) for name, data in runs.items()})
    measures = [
        measure for measure in MEASURES if any(judgement.worth.get(measure) for _, judgement in every)
    ]
    hinted = [
        place
        for place in range(2)
        if any(_advice(judgement, of_run=bool(members))[place] for _, judgement in every[:_JUDGED])
    ]
    aligned = any(math.isfinite(judgement.cosine) for _, judgement in every)
    rows = [
        [
            judgement.channel,
            name,
            ", ".join(judgement.verdicts) or "–",
            *(
                _worth(
                    judgement.worth.get(measure),
                    named=False,
                    alone=alone.get((name, judgement.channel, measure)),
                )
                for measure in measures
            ),
            *([_number(float(f"{judgement.cosine:.3g}"))] if aligned else []),
            *(
                with_command(runs[name], _advice(judgement, of_run=bool(members))[place]) or "–"
                for place in hinted
            ),
        ]
        for name, judgement in every[:_JUDGED]
    ]
    if not rows:
        return ""
    more = f" Shown: {_JUDGED} of {len(every):,} rows." if len(every) > _JUDGED else ""
    says = f"{begins}Order: runs with bad channels or a warning first, the worst score first; within a run, bad channels first and unresolved ones last.{more} A click on a heading sorts."
    medians = [
        f"{name} {_number(float(f'{known:.3g}'))}"
        for name, of_run in judged.items()
        if math.isfinite(known := _median_cosine(runs[name], of_run))
    ]
    says += f" Median cosines, as in the tab: {', '.join(medians)}." if medians else ""
    chance = _chance(sum(bool(judgement.worth) for _, judgement in every))
    heads = [
        *("channel", "run", "verdicts"),
        *(EXPLANATIONS["channel"][measure].title for measure in measures),
        *([EXPLANATIONS["channel"]["cosine"].title] if aligned else []),
        *(("hint at the cause", "try")[place] for place in hinted),
    ]
    tables = _folded(
        heads,
        rows,
        [] if folded else _foremost(rows, every),
        "rows",
        3,
        words=len(hinted),
    )
    return _section(title, _lines([says, *chance, *ends]), *tables)


def _of_one_seed(
    judged: Mapping[str, Sequence[Judgement]], members: Mapping[str, Sequence[RunData]]
) -> dict[tuple[str, str, Measure], Worth]:
    """Return the results of single seeds by run, channel and measure, where one has no interval over seeds."""
    return {
        (name, one.channel, measure): worth
        for name, of_run in judged.items()
        if any(not math.isfinite(worth.low) for one in of_run for worth in one.worth.values())
        for member in members.get(name, ())
        for one in judgements(member)
        for measure, worth in one.worth.items()
    }


def _advice(judgement: Judgement, *, of_run: bool) -> tuple[str, str]:
    """Return the best hint at the cause and what to try; `of_run`: also where what is said of the run has it."""
    if of_run and judgement.of_run is not None:
        return "said of the run (What to know first)", judgement.of_run.fix
    return judgement.cause, judgement.fix


def _median_cosine(data: RunData, judged: Sequence[Judgement]) -> float:
    """Return the median cosine that is said of a run; of one of which nothing is said that of the numbers in the table; nan: there are none."""
    cosines = [one.cosine for one in judged if math.isfinite(one.cosine)]
    said = median_cosine(data)
    return said if math.isfinite(said) or not cosines else float(np.median(cosines))


def _causes(pooled: Mapping[str, RunData], groups: Mapping[str, Sequence[ReportRun]]) -> str:
    """Return what is said of the runs, of those that are read as one once, and what differs in numbers alone once; nothing: nothing is to be said."""
    of_runs = [data for name, group in groups.items() for data in _read_as_one(name, group, pooled)]
    said = ((data.name, line) for data in of_runs for line in run_sentences(data))
    alike = by_key(
        (_NUMBER.sub("", line), (name, line)) for name, line in said
    )  # in numbers alone they differ
    told, by_name = [], {data.name: data for data in of_runs}
    for (name, line), *others in alike.values():
        told.append(f"{name}: {with_command(by_name[name], line)}.")
        if others:
            names = [other for other, _ in others]
            whose = ", ".join(names) if len(names) <= _MOST_SAME else with_count(len(names), "more run")
            differs = any(text != line for _, text in others)
            told.append(f"{whose}: the same{', with other numbers' * differs}.")
    return _section("What to know first", _items(told)) if told else ""


def _folded(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    foremost: Sequence[Sequence[str]],
    named: str,
    texts: int,
    words: int = 0,
) -> list[str]:
    """Return a table of the `foremost` rows, none where there are none, and one of all behind a fold, where there are more; see `_table`."""
    first = [_table(heads, foremost, texts, words)] if foremost else []
    whole = (
        f"<details><summary>All {len(rows):,} {named}</summary>{_table(heads, rows, texts, words)}</details>"
    )
    return [*first, whole] if len(rows) > len(foremost) else first


def _foremost(rows: Sequence[Sequence[str]], judged: Sequence[tuple[str, Judgement]]) -> list[Sequence[str]]:
    """Return as many of the first rows of each run as there is room for, in their order: those of its order, the worst first, and those that are worth
    most in turn."""
    places = by_key((name, place) for place, (name, _) in enumerate(judged[: len(rows)]))

    def best_first(of_run: Sequence[int]) -> list[int]:
        sound = [place for place in of_run if not _is_ill(judged[place][1])]
        return sorted(sound, key=lambda place: -_most_worth(judged[place][1]))

    of_runs = [
        dict.fromkeys(place for pair in zip_longest(of_run, best_first(of_run)) for place in pair)
        for of_run in places.values()
    ]
    turns = [place for turn in zip_longest(*of_runs) for place in turn if place is not None]
    return [rows[place] for place in sorted(turns[: max(_FOREMOST, len(places))])]


def _most_worth(judgement: Judgement) -> float:
    """Return what is resolved of a channel's worth, by its first measure; of nothing resolved the least."""
    resolved = [worth.value for worth in judgement.worth.values() if worth.verdict != "unresolved"]
    return next(iter(resolved), -math.inf)


def _is_ill(judgement: Judgement) -> bool:
    """Return whether a channel is among the worst: it is bad, perhaps by chance, or has a hint at the cause."""
    return judgement.named or judgement.doubtful or bool(judgement.cause)


def _worst_first(
    judged: Mapping[str, Sequence[Judgement]], told: Mapping[str, Sequence[str]], lost: Mapping[str, float]
) -> list[tuple[str, Judgement]]:
    """Return the judgements of all runs with their run's name, run by run: first those of which something is `told` or a channel is bad, of these the one that
    `lost` most.

    Of a run what is named of it comes first, then what is bad, then what has a hint, then what is bad perhaps by chance; then the others, the
    highest first, of runs of which something is told the lowest; what is unresolved last.
    """
    ill = {
        name: bool(told[name]) or any(one.bad or one.named for one in of_run)
        for name, of_run in judged.items()
    }

    def rank(name: str, judgement: Judgement) -> tuple[Any, ...]:
        is_ill = _is_ill(judgement)
        worths = [worth.value for worth in judgement.worth.values()] or [math.inf]
        unresolved = not is_ill and all(word == "unresolved" for word in judgement.verdicts)
        if not (is_ill or unresolved or told[name]):
            worths = [-value for value in worths]
        sure = judgement.bad or bool(judgement.cause)
        lowest = judgement.lowest if math.isfinite(judgement.lowest) else math.inf
        harms = any(worth.verdict in ("harms", "misleads") for worth in judgement.worth.values())
        first = not judgement.named, not judgement.bad, not sure, not is_ill, unresolved
        return *first, not harms, math.inf if harms else lowest, worths

    ordered = {name: sorted(of_run, key=partial(rank, name)) for name, of_run in judged.items()}

    def run_rank(name: str) -> tuple[Any, ...]:
        return (
            not ill[name],
            -lost[name] if ill[name] else 0.0,
            *(rank(name, one) for one in ordered[name][:1]),
        )

    return [(name, judgement) for name in sorted(ordered, key=run_rank) for judgement in ordered[name]]


def _score_lost(data: RunData) -> float:
    """Return how bad a run's score is, over its own links where it was scored so; the best where it has none."""
    logged = [metric for metric in headline_metrics(data.metrics) if (HEADLINE, metric) in data.metrics]
    if not logged:
        return -math.inf
    own = logged[0] + AS_RUN
    metric = own if (HEADLINE, own) in data.metrics else logged[0]
    value = float(data.metrics[HEADLINE, metric].values[-1, 0])
    return value if EXPLANATIONS["agent"][metric].good == "low" else -value


def _chance(results: int) -> list[str]:
    """Return the line on verdicts by chance among so many channels with a result."""
    alone = f"Each interval is at 95 %: of {results:,} channels with a result about {results / 20:.2g} lie wholly above or below 0 by chance alone."
    return [alone] if results else []


def _worths(
    groups: Mapping[str, Sequence[ReportRun]],
    scenarios: Mapping[str, Sequence[ReportRun]],
    pooled: Mapping[str, RunData],
) -> list[str]:
    """Return the tables of channels: over seeds, of runs that are of no such group, beside one another, and of each seed."""
    of_seeds = {run.name for name in pooled for run in groups[name]}
    single = {run.name: run.data for of in scenarios.values() for run in of if run.data is not None}
    return [
        _judged(
            "Channels over seeds",
            {data.name: data for data in pooled.values()},
            "Verdicts of worth are by 95 % intervals over seeds (Student's t); in brackets: what each seed finds by itself. ",
            of_few_seeds(len(data.graph["seeds"]) for data in pooled.values()),
            members={
                data.name: [run.data for run in groups[name] if run.data is not None]
                for name, data in pooled.items()
            },
        ),
        _judged(
            "Channels: what helps, what harms, what to try",
            {name: data for name, data in single.items() if name not in of_seeds},
        ),
        *(table for of in scenarios.values() for table in _all_beside(_of_scenario(groups, pooled, of))),
        _judged(
            "Channels of each seed",
            {name: data for name, data in single.items() if name in of_seeds},
            folded=True,
        ),
    ]


def _of_scenario(
    groups: Mapping[str, Sequence[ReportRun]], pooled: Mapping[str, RunData], runs: Sequence[ReportRun]
) -> list[RunData]:
    """Return what is compared of the runs of a scenario: of groups that are read as one the whole, of others each run."""
    of_scenario = {name: group for name, group in groups.items() if group[0] in runs}
    return [data for name, group in of_scenario.items() for data in _read_as_one(name, group, pooled)]


def _read_as_one(name: str, group: Sequence[ReportRun], pooled: Mapping[str, RunData]) -> Sequence[RunData]:
    """Return the data of a group: of one that is read as one the whole, else each run's."""
    return [pooled[name]] if name in pooled else _with_data(group)


def _with_data(runs: Iterable[ReportRun]) -> list[RunData]:
    """Return the data of runs that have any, under their names in the report."""
    return [replace(run.data, name=run.name) for run in runs if run.data is not None]


def _all_beside(runs: Sequence[RunData]) -> list[str]:
    """Return the channels of runs by each measure of worth; a run is judged once for all."""
    judged = {run.name: judgements(run) for run in runs}
    return [_beside(runs, judged, measure) for measure in MEASURES]


def _beside(runs: Sequence[RunData], judged: Mapping[str, Sequence[Judgement]], measure: Measure) -> str:
    """Return the channels of runs by a measure of worth at the step that is shown first, what is resolved and highest in any run first; nothing without results."""
    worths = {
        name: {judgement.channel: judgement.worth.get(measure) for judgement in of_run}
        for name, of_run in judged.items()
    }
    worths = {name: rows for name, rows in worths.items() if any(rows.values())}
    names = list(worths)[:_MOST_BESIDE]
    channels = list(
        dict.fromkeys(channel for name in names for channel, worth in worths[name].items() if worth)
    )

    def rank(channel: str) -> tuple[bool, float]:
        """What is resolved in any run stands first, by its highest number."""
        results = [worth for name in names if (worth := worths[name].get(channel)) is not None]
        resolved = [worth.value for worth in results if worth.verdict != "unresolved"]
        return not resolved, -max(resolved or (worth.value for worth in results))

    channels.sort(key=rank)
    rows = [
        [channel, *(_worth(worths[name].get(channel)) for name in names)] for channel in channels[:_JUDGED]
    ]
    info = EXPLANATIONS["channel"][measure]
    without_result = {name: sum(worth is None for worth in worths[name].values()) for name in names}
    steps = by_key((_shown(run, measure), run.name) for run in runs if run.name in names)
    told = [f"{', '.join(of)} at step {step}" for step, of in steps.items()]
    says = [f"{info.says} The newest results: {'; '.join(told)}."]
    results = sum(worth is not None for name in names for worth in worths[name].values())
    cautions = [*_chance(results), *([_NO_RANK] if len(names) > 1 else [])]
    at = {run.name: run.results[measure].step for run in runs if run.name in names}
    heads = [f"{name} (step {at[name]:,})" if len(set(at.values())) > 1 else name for name in names]
    says += [f"Shown: the first {_JUDGED} of {len(channels):,} channels."] if len(channels) > _JUDGED else []
    says += (
        [f"{len(worths) - len(names)} further runs are in the tables of channels."]
        if len(worths) > len(names)
        else []
    )
    says += [
        f"{name}: {count} of {len(worths[name])} channels have no result there."
        for name, count in without_result.items()
        if count
    ]
    return (
        _section(
            f"{info.title.capitalize()}: {', '.join(names)}",
            _lines([" ".join(says), *cautions]),
            *_folded(["channel", *heads], rows, rows[:_RANKED], "channels", 1),
        )
        if rows
        else ""
    )


def _shown(run: RunData, measure: Measure) -> str:
    """Return the step of a measure's results that is shown first, and the links that they name: "30 over perfect links"."""
    results = run.results[measure]
    told = {entry["metric"]: entry for entry in run.catalogue()["verdicts"]["measures"]}[measure]
    over = told.get("links") if results.step == results.newest else ""
    return f"{results.step:,}" + (f" over {over}" if over else "")


def _worth(worth: Worth | None, *, named: bool = True, alone: Worth | None = None) -> str:
    """Return a result with three digits, as "0.5 [0.4, 0.6] helps", the verdict where it is `named`; of several seeds in brackets what each finds.

    Without an interval it has that of the seed that was measured `alone`.
    """
    if worth is None:
        return "–"
    known = worth if alone is None or math.isfinite(worth.low) else alone
    value, low, high = (f"{end:.3g}".replace("-", "−") for end in (worth.value, known.low, known.high))
    interval = f" [{low}, {high}]" if math.isfinite(known.low) else ""
    interval += " of one seed" if interval and known is alone else ""
    verdict, seeds = worth.verdict if named else "", f"({worth.seeds})" if worth.seeds else ""
    doubt = f"({worth.doubt})" if worth.doubt and (named or worth.verdict is None) else ""
    return " ".join(filter(None, [value + interval, verdict, doubt, seeds]))


# --- curves ------------------------------------------------------------------------------------------------


def _charts(groups: Mapping[str, Sequence[ReportRun]]) -> Iterator[dict[str, Any]]:
    """Yield the charts as plain data: of readouts, of the environment, of synthetic gradients; a line per group."""
    env = dict.fromkeys(chain.from_iterable(run.env for runs in groups.values() for run in runs))
    of_env = Explanation("", "A metric of the environment.")
    explanations = EXPLANATIONS["channel"]
    curve_readers: list[tuple[Explanation, Callable[[ReportRun], Curve]]] = [
        *((EXPLANATIONS["agent"][metric], partial(_of, "agent", metric)) for metric in CURVES),
        *(
            (OF_EPISODES.get(metric, of_env)._replace(title=_env_title(metric)), partial(_of_env, metric))
            for metric in env
        ),
        *((_of_channels(metric), partial(_of, "channel", metric)) for metric in SIGNALS),
        (
            explanations["sg_loss"]._replace(title="local loss", says=_LOCAL),
            partial(_of, "channel", "sg_loss", compared=False),
        ),
    ]
    drawn = []
    for info, curve in curve_readers:
        group_lines = [_line(name, [curve(run) for run in runs], info) for name, runs in groups.items()]
        lines = [{"place": index, **line} for index, line in enumerate(group_lines) if line is not None]
        several = any(len(line["steps"]) > 1 for line in lines)  # the tables have what was measured once
        if several and lines not in drawn:  # an environment's return may be the policy's
            drawn.append(lines)
            yield {"title": info.title, "says": info.plain, "positive": info.positive, "lines": lines}


def _of_channels(metric: str) -> Explanation:
    """Return the explanation of a curve of channels: of a mean of the newest entries, which the tab has, the name says that it is another one."""
    info = EXPLANATIONS["channel"][metric]
    return info._replace(title=f"{info.title} of one batch, mean over channels") if metric in MEANS else info


def _of_env(metric: str, run: ReportRun) -> Curve:
    return run.env.get(metric, {})


def _of(family: str, metric: str, run: ReportRun, *, compared: bool = True) -> Curve:
    """Return a run's curve: the mean over its readouts, or over its channels.

    Of channels, only those that predict returned gradients, as a loss of a target of their own is not comparable with
    theirs; without `compared`, only the others.
    """
    series = None if run.data is None else run.data.read(family, metric)
    if run.data is None or series is None:
        return {}
    readouts = [item for item, agent in enumerate(run.data.graph["agents"]) if agent.get("role") == "readout"]
    if family == "agent":
        values = series.values[:, readouts]
    else:
        targets = np.array(
            ["target" in channel.get("predictor", ()) for channel in run.data.graph["channels"]]
        )
        values = series.values[:, targets != compared]
    return dict(zip(series.steps.tolist(), over_seeds(values.T.astype(np.float64))[0].tolist(), strict=True))


def _line(name: str, curves: Sequence[Curve], info: Explanation) -> dict[str, Any] | None:
    """Return the mean of some curves with its 95 % interval as plain data; None where they have no number."""
    every = sorted(set(chain.from_iterable(curves)))
    chosen = np.unique(np.linspace(0, len(every) - 1, min(_POINTS, len(every))).round().astype(int))
    steps = [every[at] for at in chosen]
    values = np.array([[curve.get(step, math.nan) for step in steps] for curve in curves])
    if not np.isfinite(values).any():
        return None
    middle, halves, _ = over_seeds(values)
    least, most = (0.0, 1.0) if info.scale == "share" else (info.least, info.most)
    low, high = interval_ends(middle, halves, positive=info.positive, least=least, most=most)
    line = {"name": name, "steps": steps, "values": _plain(middle)}
    return line if len(curves) < 2 else line | {"low": _plain(low), "high": _plain(high)}


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
