"""What is printed at the end of a run, or of the runs of several seeds: tables of agents, channels and seeds, and scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from antiphon.base.errors import with_count
from antiphon.base.files import display_path
from antiphon.base.table import decimal
from antiphon.scenarios.training import RETURN, fewest_scored
from antiphon.telemetry.intervals import of_few_seeds
from antiphon.telemetry.metrics import METRICS, SCORES
from antiphon.terminal.output import (
    console,
    counted,
    episodes_in_words,
    how_to_look,
    print_json,
    remark,
    scored,
    show_measured,
    show_table,
    updates_in_words,
    write_line,
    written,
)

if TYPE_CHECKING:
    from antiphon.jobs.scheduler import Outcomes
    from antiphon.running.callbacks import Outcome

_ROWS = 10
"""Most agents or channels in a table of results; metrics.csv has all."""


def print_outcome(outcome: Outcome, json: bool) -> int:
    """Print the result of a run, and return its exit code."""
    if json:
        print_json(outcome.result)
    else:
        show_result(outcome.result)
    if outcome.error is not None:
        remark(f"error: {outcome.error}")
    return outcome.exit_code


def show_result(result: Mapping[str, Any]) -> None:
    """Print the result of a run: readouts, agents with an objective, channels, accuracy, directories."""
    variant = f" · {result['variant']}" if result["variant"] else ""
    ended = "" if result["exit"] == "done" else f" · {result['exit']}"
    heading = f"{result['scenario']}{variant} · seed {result['seed']} · {result['steps']:,} steps"
    console().print(Text(f"\n{heading} · {result['seconds']:.1f} s{ended}\n", style="bold"))
    readout = result["readout"]
    readouts = [readout] if isinstance(readout, str) else readout
    goals = {name: agent for name, agent in result["agents"].items() if "loss" in agent}
    names = sorted(goals, key=lambda name: name not in readouts)
    if any(goal.get(metric) is not None for goal in goals.values() for metric in METRICS):
        scores = {metric for goal in goals.values() for metric in SCORES if metric in goal}
        rows = [[name, scored(goals[name]), decimal(goals[name]["loss"])] for name in names]
        heading = f"test {scores.pop()}" if len(scores) == 1 else "on the test split"
        heading = heading.removeprefix("test ") if result.get("episodes") else heading
        show_measured(["agent", heading, "loss"], rows, most=_ROWS)
    if result["channels"]:
        rows = [
            [name, *(decimal(channel[key]) for key in ("sg_loss", "cosine", "norm_ratio"))]
            for name, channel in result["channels"].items()
        ]
        show_measured(["channel", "SG loss", "cosine", "norm ratio"], rows, most=_ROWS)
    style = "bold" if result["exit"] == "done" else ""
    for metric in SCORES:
        if result.get(metric) is not None:
            having = [name for name in readouts if result["agents"][name].get(metric) is not None]
            by = having[0] if len(having) == 1 else f"mean of {len(having)} readouts"
            examples = fewest_scored(metric, having, result.get("scored") or {}, result["examples"])
            where = f"test split, {examples:,} examples"
            if result.get("episodes"):
                played = metric == RETURN or not result.get("scored")
                where = episodes_in_words(result["episodes"]) if played else f"{examples:,} examples"
            console().print(Text(f"{metric:<12} {written(metric, result[metric])}", style=style), end="")
            console().print(Text(f"   ({by}; {where})"))
    if result.get("no_return"):
        write_line(f"{'return':<12} –   ({result['no_return']})")
    _show_evaluated(result)
    if result["env"]:
        metrics = ", ".join(f"{name} {counted(value)}" for name, value in result["env"].items())
        console().print(Text(f"environment  {metrics}", style=style))
    updates = {name: int(agent["updates"]) for name, agent in result["agents"].items() if "updates" in agent}
    if updates:
        write_line(f"updates      {updates_in_words(updates)}")
    write_line(f"run          {display_path(result['run_dir'])}")
    how_to_look(result["run_dir"])


def _show_evaluated(result: Mapping[str, Any]) -> None:
    """Print the newest evaluation during the training, the best checkpoint, and why the run was stopped early."""
    if newest := result.get("evaluated"):
        scores = [f"{name} {written(name, value)}" for name, value in newest.items() if name != "split"]
        write_line(f"{newest['split']:<12} {', '.join(scores) or '–'}")
    if best := result.get("best"):
        value = written(best["metric"].rpartition(".")[2], best["value"])
        write_line(f"best         {best['metric']} {value} at step {best['step']:,} (--checkpoint best)")
    if result.get("reason"):
        write_line(f"stopped      {result['reason']}")


def show_seeds(outcomes: Outcomes, summary_dir: Path, root: Path) -> None:
    """Print the results of several seeds: each run, statistics over seeds, and the directories (`root` holds the runs')."""
    from antiphon.jobs.scheduler import metrics_of_result  # it loads torch, which help does not need

    seeds, summary = outcomes.result["seeds"], outcomes.result["summary"]
    first, ends = seeds[0], sorted({result["steps"] for result in seeds})
    variant = f" · {first['variant']}" if first["variant"] else ""
    count = with_count(len(seeds), "seed")
    steps = " – ".join(f"{number:,}" for number in dict.fromkeys((ends[0], ends[-1])))
    seconds = sum(result["seconds"] for result in seeds)
    rows = []
    for result in seeds:
        ended = "" if result["exit"] == "done" else f" ({result['exit']} after step {result['steps']:,})"
        metrics = [written(metric, metrics_of_result(result).get(metric)) for metric in summary]
        rows.append([f"{result['seed']}{ended}", display_path(result["run_dir"]), *metrics])
    if summary:
        rows.append([""] * (2 + len(summary)))
    for heading, keys, between in _STATISTICS if summary else ():
        cells = [
            between.join(written(metric, statistics[key]) for key in keys if statistics[key] is not None)
            or "–"
            for metric, statistics in summary.items()
        ]
        rows.append([heading, "", *cells])
    columns = ["seed", "run", *(metric.replace("_", " ") for metric in summary)]
    title = f"\n{first['scenario']}{variant} · {count} · {steps} steps · {seconds:.1f} s"
    show_table(columns, rows, right=len(summary), title=title)
    if summary:
        line = "Interquartile mean: mean of the middle half of the seeds; interval: bootstrap over seeds."
        complete = max(statistics["n"] for statistics in summary.values())
        line = "\n".join([line, *of_few_seeds([complete])])
        if complete < len(seeds):
            which = "finished" if any(result["exit"] == "done" for result in seeds) else "did not diverge"
            line += f"\nOnly the {complete} of {len(seeds)} seeds that {which}."
        console().print(Text(line, style="dim"))
    write_line(f"\nover seeds   {display_path(summary_dir / 'seeds.json')}")
    how_to_look(root)


_STATISTICS = (
    ("mean ± standard error", ("mean", "error"), " ± "),
    ("median", ("median",), ""),
    ("interquartile mean", ("iqm",), ""),
    ("its 95 % interval", ("low", "high"), " – "),
)
"""Heading of a statistic over seeds, its numbers, and what stands between them."""
