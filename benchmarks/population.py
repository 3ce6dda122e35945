"""The cost of a step of a population beside single runs of its scenario, on one thread.

Turns are interleaved in one process (`interleaved.py`): CPU time of a step of N stacked members over a step of one run, with
equal and with different hyperparameters, on the pole team (small networks) and on a digits network with layers of 128.
Demanded is at most 4.5 single runs for 32 members of the pole team, at least 12 times the members a second of separate runs for
64, and at most 5 % for different hyperparameters over equal ones.
Run: `python benchmarks/population.py --json`.

`--random` compares the population `pole` with random search of equal compute instead, the same without `select`: training returns in
the end.

`--tune STEPS` compares the population `pole` with Ray Tune's population based training instead, which has a process for each core,
the same ranges, and as many seconds: training returns in the end (needs `antiphon[tune]`).
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import antiphon
from antiphon.base.memory import keep_memory
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.yaml_text import find_document
from antiphon.telemetry.statistics import mean

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, ratio, table, timed

TASKS: dict[str, dict[str, Any]] = {
    "cartpole-team": {},
    "digits-mlp": {"width": 128, "depth": 3},
}
RANGE = (1e-4, 1e-2)
"""Of the members' learning rates, where they differ."""


def members(name: str, count: int, *, different: bool) -> Callable[[], object]:
    """Return what takes one step of a population, or of a single run for one member."""
    template = antiphon.load(name)
    draw = random.Random(0)
    rates = [draw.uniform(*RANGE) if different else 1e-3 for _ in range(count)]
    scenarios = [template.resolve(values={**TASKS[name], "lr": rate}) for rate in rates]
    if count == 1:
        return antiphon.Simulation(scenarios[0]).step
    return antiphon.Population(scenarios, range(count)).step


def measure(name: str, counts: list[int], rounds: int) -> list[dict[str, Any]]:
    """Return a row for each number of members."""
    contestants = {"one": members(name, 1, different=False)}
    for count in counts:
        contestants[f"{count} equal"] = members(name, count, different=False)
        contestants[f"{count} different"] = members(name, count, different=True)
    times = timed(contestants, rounds, seconds=0.3, multiple=16)
    rows = []
    for count in counts:
        over_one, within = ratio(times, f"{count} different", "one")
        over_equal, within_equal = ratio(times, f"{count} different", f"{count} equal")
        rows.append(
            {
                "scenario": name,
                "members": count,
                "single_runs": over_one,
                "interval": within,
                "members_a_second": round(count / over_one, 1),
                "different_over_equal": over_equal,
                "its_interval": within_equal,
            }
        )
    return rows


def with_selection(seed: int, steps: int | None, folder: Path) -> tuple[float, list[float], float]:
    """Train `pole`; return its seconds, the score of each member, and the steps of each."""
    start = time.perf_counter()
    members = antiphon.population("pole", seed=seed, steps=steps, logdir=folder, progress=False)
    scores = [float(one["score"]) for one in members.result["members"]]
    return time.perf_counter() - start, scores, float(members.result["members"][0]["steps"])


def at_random(seed: int, folder: Path) -> list[float]:
    """Train the members of `pole` without selection; return the score of each."""
    population = find_document(PopulationSpec, "pole")
    assert population is not None
    members = antiphon.population(
        population.scenario,
        vary={
            name: own.model_dump(by_alias=True, exclude_defaults=True)
            for name, own in population.vary.items()
        },
        members=population.members,
        values=dict(population.set),
        steps=population.steps,
        seed=seed,
        logdir=folder,
        progress=False,
    )
    return [float(one["score"]) for one in members.result["members"]]


def pays(seeds: range) -> dict[str, Any]:
    """Compare `pole` with random search, one pair for each seed."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            selected = with_selection(seed, None, Path(folder) / f"pole-{seed}")[1]
            random_search = at_random(seed, Path(folder) / f"random-{seed}")
            for name, scores in (("selection", selected), ("random search", random_search)):
                rows.append(
                    {
                        "seed": seed,
                        "population": name,
                        "best": round(max(scores), 1),
                        "mean": round(sum(scores) / len(scores), 1),
                    }
                )
    summary = []
    for name in ("selection", "random search"):
        row: dict[str, Any] = {"population": name}
        for column in ("best", "mean"):
            values = [float(row[column]) for row in rows if row["population"] == name]
            estimate = mean(values, share=False)
            assert estimate.high is not None
            row[column] = f"{estimate.value:.0f} ± {estimate.high - estimate.value:.0f}"
        summary.append(row)
    return {"benchmark": "population_random", "rows": rows, "summary": summary}


def with_tune(seed: int, steps: int, folder: Path, seconds: float) -> tuple[float, list[float], float]:
    """Train `pole` with Ray Tune for as many seconds; return what `with_selection` does."""
    from ray import tune
    from ray.tune.schedulers import PopulationBasedTraining

    population = find_document(PopulationSpec, "pole")
    assert population is not None
    assert population.select is not None
    random.seed(seed)
    ranges = {name: tune.loguniform(own.low, own.high) for name, own in population.vary.items()}
    every = population.select.every
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=1,
        hyperparam_mutations=dict(ranges),
        quantile_fraction=population.select.copy_share,
        resample_probability=0.0,
        perturbation_factors=(0.8, 1.25),
    )
    trial = antiphon.tune.trainable(
        population.scenario, every=every, by=population.select.by, steps=steps, values=dict(population.set)
    )
    start = time.perf_counter()
    found = tune.Tuner(
        trial,
        param_space={**ranges, "seed": tune.randint(0, 2**31)},
        tune_config=tune.TuneConfig(
            metric="return",
            mode="max",
            scheduler=scheduler,
            num_samples=population.members,
            reuse_actors=True,
            time_budget_s=seconds,
        ),
        run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0),
    ).fit()
    taken = time.perf_counter() - start
    reports = [one.metrics or {} for one in found]
    return (
        taken,
        [one["return"] for one in reports if math.isfinite(one.get("return", math.inf))],
        sum(one.get("steps", 0) for one in reports) / len(reports),
    )


def compare(steps: int, seeds: range) -> dict[str, Any]:
    """Compare `pole` with Ray Tune in turn, one pair for each seed."""
    for name, value in {
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # it is no folder of ours
        "RAY_worker_niceness": "0",  # as this process; else it waits for all others of the machine
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    }.items():
        os.environ.setdefault(name, value)
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            ours = with_selection(seed, steps, Path(folder) / f"pole-{seed}")
            theirs = with_tune(seed, steps, Path(folder) / f"tune-{seed}", ours[0])
            for name, (seconds, scores, taken) in (("antiphon", ours), ("ray tune", theirs)):
                row = {"seed": seed, "population": name, "seconds": round(seconds), "steps": round(taken)}
                row |= {"best": round(max(scores, default=math.nan), 1), "members": len(scores)}
                rows.append({**row, "mean": round(sum(scores) / max(1, len(scores)), 1)})
    return {"benchmark": "population_tune", "rows": rows}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--scenario", choices=TASKS, nargs="+", default=list(TASKS))
    parser.add_argument(
        "--tune", type=int, metavar="STEPS", help="compare with Ray Tune; steps of each member"
    )
    parser.add_argument("--random", action="store_true", help="compare with random search")
    parser.add_argument("--seeds", type=int, default=3, help="of the comparison")
    arguments = parsed(parser, rounds=8)
    torch.set_num_threads(1)
    keep_memory()
    if arguments.random:
        result = pays(range(0, 100 * arguments.seeds, 100))
        finish(result, arguments, table(result["summary"], list(result["summary"][0])))
        return
    if arguments.tune:
        result = compare(arguments.tune, range(0, 100 * arguments.seeds, 100))
        finish(result, arguments, table(result["rows"], list(result["rows"][0])))
        return
    rows = [row for name in arguments.scenario for row in measure(name, arguments.members, arguments.rounds)]
    columns = list(rows[0])
    finish({"benchmark": "population", "rows": rows}, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
