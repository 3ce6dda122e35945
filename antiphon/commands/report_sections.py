"""What a report says of a study or a population, before its runs: the tables and words that the commands print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from antiphon.base.files import fitting, read_bytes
from antiphon.base.manifests import read_checked
from antiphon.base.text_table import TextTable
from antiphon.jobs.studies.table import FIGURE, heading, notes, tables
from antiphon.running.directory import STUDY
from antiphon.scenarios.training import RETURN, less_is_better
from antiphon.telemetry.html_report import ReportRun, ReportSection
from antiphon.telemetry.metrics import METRICS
from antiphon.telemetry.tab.documents import LINEAGE_FIGURE
from antiphon.terminal.output import written

if TYPE_CHECKING:
    from antiphon.jobs.populations.population_run import Standings


def study_section(directory: Path, runs: Mapping[Path, ReportRun]) -> ReportSection:
    """Read a study; `runs`: those of the report, by directory."""
    file, figure = directory / STUDY, directory / FIGURE
    result = read_checked(file)
    with fitting(file):
        study_tables = tables(result)
        of_lines = [runs.get((directory / name).resolve()) for name in result["runs"]]
        names = [run.name for run in of_lines if run is not None]
        title = f"Study {heading(result)}"
        return ReportSection(
            result["study"],
            title,
            names,
            tables=study_tables,
            after=notes(result),
            drawing=read_bytes(figure).decode() if figure.is_file() else "",
            drawn="The lines of the table, with their intervals; faint points are single seeds.",
        )


def study_variants(directory: Path) -> dict[Path, str]:
    """Return the variants that the runs of a study are of, by directory; of no study: none."""
    file = directory / STUDY
    if not file.is_file():
        return {}
    result = read_checked(file)
    with fitting(file):
        return {
            (directory / name).resolve(): ", ".join(run["variants"]) for name, run in result["runs"].items()
        }


def population_section(directory: Path, runs: Mapping[Path, ReportRun]) -> ReportSection:
    """Read a population: its members, best first, with their test metric, and what the winner continued from."""
    from antiphon.jobs.populations.population_run import standings  # it loads torch, which help does not need
    from antiphon.jobs.populations.selection import meaning
    from antiphon.terminal.member_tables import lead_in_words

    standing = standings(directory)
    members = [(path.name, runs.get(path.resolve()), entry) for path, entry in standing.members]
    tests = {name: {} if run is None else run.scores for name, run, _ in members}
    errors = {name: run.return_error for name, run, _ in members if run is not None}
    tested = next((metric for metric in METRICS if any(metric in scores for scores in tests.values())), None)
    lead = lead_in_words([(name, entry.score, entry.error) for name, _, entry in members])
    measured = f"Score: {meaning(standing.metric)}, ± its standard error. " if standing.metric else ""
    if standing.metric == RETURN:
        measured += "In the results below, the episode return in training is of finished episodes alone. "
    return ReportSection(
        standing.name,
        f"Population {standing.name}",
        [run.name for _, run, _ in members if run is not None],
        before=[
            f"{measured}Best first, with the values at the end.",
            *filter(None, [lead, standing.to_come]),
            *_of_tests(tests, tested, errors),
        ],
        tables=members_tables(standing, tests, tested),
        drawing=read_bytes(directory / LINEAGE_FIGURE).decode(),
        drawn="Scores and values of the members over steps: a line branches where a member is copied.",
    )


def members_tables(
    standing: Standings, tests: Mapping[str, Mapping[str, float]], tested: str | None
) -> list[TextTable]:
    """Return the table of a population's members, best first, and of how the winner came about.

    Args:
        tests: By name of a member's run, its scores on the test split.
        tested: Which of these has a column; None: none.
    """
    from antiphon.jobs.populations.selection import Entry, in_words
    from antiphon.terminal.member_tables import copied_from, with_error

    metric, score = standing.metric or "score", in_words(standing.metric)
    names = list(dict.fromkeys(name for _, entry in standing.members for name in entry.values))

    def numbers(entry: Entry | None, values: Mapping[str, float]) -> list[str]:
        scored = "–" if entry is None else with_error(metric, entry.score, entry.error)
        return [scored, *(f"{values[name]:.3g}" for name in names)]

    rows, copies = [], standing.copies
    for rank, (path, entry) in enumerate(standing.members):
        name, last = path.name, copies.get(entry.member)
        won = rank == 0 and entry.score is not None
        copied = ["–" if last is None else copied_from(last.parent, last.step)] if copies else []
        test = [] if tested is None else [written(tested, tests[name].get(tested))]
        rows.append([f"{name} (winner)" if won else name, *copied, *numbers(entry, entry.values), *test])
    headings = ["member", *(["copied from"] if copies else []), score, *names]
    headings += [] if tested is None else [f"test {tested}"]
    tables = [TextTable(headings, rows, 1 + bool(copies))]
    stages = standing.ancestry
    if stages:
        past = [["0", f"member {stages[0].member} begins", *numbers(None, stages[0].values)]]
        for before, after in pairwise(stages):
            if before.member != after.member:
                event = f"member {after.member} becomes a copy of member {before.member}, with these values"
                past.append([f"{before.step:,}", event, *numbers(before.entry, after.values)])
        last_stage = stages[-1]
        won_line = f"member {last_stage.member} has won"
        past.append([f"{last_stage.step:,}", won_line, *numbers(last_stage.entry, last_stage.values)])
        tables.append(TextTable(["step", "how the winner came about", score, *names], past, 2))
    return tables


def _of_tests(
    tests: Mapping[str, Mapping[str, float]], metric: str | None, errors: Mapping[str, float | None]
) -> Iterator[str]:
    """Yield what the test split says of the first of some members, the winner, where it was measured; `errors`: of returns."""
    from antiphon.terminal.member_tables import with_error

    measured = {name: scores[metric] for name, scores in tests.items() if metric in scores} if metric else {}
    winner: Sequence[str] = list(tests)[:1]
    if metric is None or winner[0] not in measured:
        return
    best = (min if less_is_better(metric) else max)(measured, key=lambda name: measured[name])

    def shown(name: str) -> str:
        return with_error(metric, measured[name], errors.get(name) if metric == RETURN else None)

    of_test = f"The test {metric} of {winner[0]} is {shown(winner[0])}"
    if measured[best] == measured[winner[0]]:
        yield f"{of_test}, the best of all members."
        return
    differs = (
        "takes the most likely actions, while training samples them" if metric == RETURN else "has other data"
    )
    yield (
        f"{of_test}; the best is {shown(best)}, of {best}. The winner is the member with the best score, and the test {differs}."
    )
