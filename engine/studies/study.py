"""A study: the variants of one template side by side over seeds, each run in its own directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from antiphon.engine.directory import graph_of
from antiphon.engine.request import Request
from antiphon.engine.studies.pool import Pool
from antiphon.engine.studies.recovered import Estimate, contrast, mean, recovered
from antiphon.engine.studies.table import write_tables
from antiphon.engine.studies.worker import job_of
from antiphon.errors import EngineError, RunError
from antiphon.scenarios import Template

__all__ = ["Ended", "Study", "StudyOutcome", "summary"]

DEFAULT = "default"
"""What the runs of a template without variants are called."""
_INPUT = 2


@dataclass(frozen=True)
class Ended:
    """One run of a study, as it ends.

    Attributes:
        number: How many have ended, this one included.
        total: How many there are.
        variant: Of the run.
        seed: Of the run.
        result: Of the run.
        kept: Whether it was there already.
    """

    number: int
    total: int
    variant: str
    seed: int
    result: Mapping[str, Any]
    kept: bool


@dataclass(frozen=True)
class StudyOutcome:
    """How a study ended.

    Attributes:
        result: The object of `--json`.
        exit_code: 0 done, 130 or 143 stopped by a signal.
    """

    result: Mapping[str, Any]
    exit_code: int = 0


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study is asked to be.

    Attributes:
        template: Whose variants are compared.
        directory: Where its runs go: `<variant>-s<seed>`.
        variants: Some of the template's; empty: all.
        values: Parameters set in every run.
        seeds: Every variant runs with 0 … seeds - 1.
        steps: Of every run; None: the template's.
        device: Where the numbers live.
        command: The command line, for the record.
    """

    template: Template
    directory: Path
    variants: Sequence[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 3
    steps: int | None = None
    device: str = "cpu"
    command: tuple[str, ...] = ()

    def requests(self) -> dict[tuple[str, int], Request]:
        """Return every run by variant and seed; all variants of a seed before the next seed.

        Raises:
            ScenarioError: A variant or value that the template does not accept.
        """
        variants: list[str | None] = (
            list(dict.fromkeys(self.variants)) or list(self.template.variants) or [None]
        )
        return {
            (variant or DEFAULT, seed): Request(
                template=self.template,
                variant=variant,
                values=self.values,
                steps=self.steps,
                seed=seed,
                device=self.device,
                command=self.command,
            )
            for seed in range(self.seeds)
            for variant in variants
        }

    def go(self, jobs: int, on_run: Callable[[Ended], None]) -> StudyOutcome:
        """Carry out the runs that are not there yet, and write table.csv, table.md and graph.png.

        Args:
            jobs: Runs at a time.
            on_run: Called when a run ends.

        Raises:
            ScenarioError: A variant or value that the template does not accept; nothing has been run.
            RunError: A run is there with other values (nothing has been run), or one failed.
            EngineError: A run ended by a defect.
        """
        requests = self.requests()
        paths = {key: self.directory / f"{key[0]}-s{key[1]}" for key in requests}
        for request in requests.values():
            assert request.scenario
        results = {key: request.finished(paths[key]) for key, request in requests.items()}
        ended = 0
        for (variant, seed), result in results.items():
            if result is not None:
                ended += 1
                on_run(Ended(ended, len(requests), variant, seed, result, kept=True))
        todo = [key for key, result in results.items() if result is None]
        pool = Pool(min(jobs, max(len(todo), 1)))
        answers = pool.answers([job_of(requests[key], paths[key]) for key in todo])
        try:
            for index, answer in answers:
                variant, seed = todo[index]
                if answer["result"] is None:
                    kind = RunError if answer["exit_code"] == _INPUT else EngineError
                    raise kind(f"{variant} s{seed}: {answer['error']}")
                results[variant, seed] = answer["result"]
                ended += 1
                on_run(Ended(ended, len(requests), variant, seed, answer["result"], kept=False))
        finally:
            answers.close()
        result = self._result(results, stopped=bool(pool.stopped))
        if pool.stopped:
            return StudyOutcome(result, 128 + pool.stopped[0])
        write_tables(self.directory, result)
        self._draw()
        return StudyOutcome(result)

    def _result(
        self, results: Mapping[tuple[str, int], Mapping[str, Any] | None], stopped: bool
    ) -> dict[str, Any]:
        found = {key: result for key, result in results.items() if result is not None}
        steps = max((result["steps"] for result in found.values()), default=None)
        return {
            "scenario": self.template.name,
            "study_dir": str(self.directory),
            "steps": steps,
            "seeds": self.seeds,
            "exit": "stopped" if stopped else "done",
            **summary(found),
            "runs": [
                {"variant": variant, "seed": seed}
                | {key: result[key] for key in ("accuracy", "seconds", "exit", "run_dir")}
                for (variant, seed), result in found.items()
            ],
        }

    def _draw(self) -> None:
        """Draw the graph that the template has with these values and no variant, where matplotlib is there."""
        from antiphon.telemetry import draw_graph

        graph = graph_of(self.template.resolve(None, self.values))
        try:
            draw_graph(graph, self.directory / "graph.png")
        except RunError:
            return


def summary(results: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, Any]:
    """Compare variants.

    Args:
        results: Of runs, by variant and seed.

    Returns:
        `contrast` (locked - detached, its standard error, whether it is resolved; None without both) and
        `variants`: by name `n`, `diverged`, `seconds` (mean), `accuracy` and `recovered` (each with value and
        interval, or None).
    """
    scores: dict[str, dict[int, float]] = {}
    seconds: dict[str, list[float]] = {}
    diverged: dict[str, int] = {}
    examples = next((result["examples"] for result in results.values()), None)
    for (variant, seed), result in results.items():
        scores.setdefault(variant, {})
        seconds.setdefault(variant, []).append(result["seconds"])
        diverged[variant] = diverged.get(variant, 0) + (result["exit"] == "diverged")
        if result["exit"] == "done" and result["accuracy"] is not None:
            scores[variant][seed] = result["accuracy"]
    locked, detached = scores.get("locked", {}), scores.get("detached", {})
    gap = contrast(locked, detached, examples)
    variants = {}
    for variant, found in scores.items():
        share: Estimate | None = None
        if gap is not None and gap.resolved:
            share = recovered(found, locked, detached)
        variants[variant] = {
            "n": len(found),
            "diverged": diverged[variant],
            "accuracy": asdict(mean(list(found.values()), examples)) if found else None,
            "recovered": None if share is None else asdict(share),
            "seconds": sum(seconds[variant]) / len(seconds[variant]),
        }
    return {
        "contrast": None if gap is None else asdict(gap) | {"resolved": gap.resolved},
        "variants": variants,
    }
