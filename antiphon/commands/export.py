"""The verbs `export` and `watch`: the newest checkpoint of a run as a file that is read without antiphon: its system, or an
episode as an animated GIF.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from antiphon.commands.arguments import given_scenario
from antiphon.engine.core.progress import Progress
from antiphon.engine.inference.episodes import policies
from antiphon.engine.inference.frames import film
from antiphon.engine.metrics.description import graph_of
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError, suggest
from antiphon.telemetry.film import check_film, write_film
from antiphon.terminal.output import console, counted, display_path, print_json

__all__ = ["export", "watch"]


def export(path: Path, file: Path, *, python: str | None, agents: Sequence[str] | None, json: bool) -> None:
    """Write the composed system of a run, or its weights, as the file's suffix says."""
    directory = RunDirectory.open(path)
    scenario = given_scenario(directory, python)
    with Simulation.load(path, scenario, threads=directory.facts["threads"]) as simulation:
        _check_agents(simulation, file, agents or ())
        written, steps = simulation.export(file, agents), simulation.now
    size = written.stat().st_size
    if json:
        print_json({"run_dir": str(path), "steps": steps, "file": str(written), "bytes": size})
        return
    line = f"written      {display_path(written)} ({size:,} bytes, after {steps:,} steps)"
    console().print(line, soft_wrap=True)


def _check_agents(simulation: Simulation, file: Path, agents: Sequence[str]) -> None:
    """Check the names of --agent; of a module's, that they have outputs."""
    system = simulation.system
    goals = system.agents if file.suffix == ".safetensors" else system.goals()
    for name in agents:
        if name not in system.agents:
            raise ScenarioError(f"--agent: no agent '{name}'{suggest(name, system.agents)}")
        if name not in goals:
            raise ScenarioError(
                f"--agent: '{name}' has no objective, so it has no output{suggest(name, goals)}"
            )


def watch(
    path: Path,
    output: Path,
    *,
    python: str | None,
    episodes: int,
    seed: int | None,
    sampled: bool,
    json: bool,
) -> None:
    """Let the system of a run's newest checkpoint act in its world, and write what happens to a GIF."""
    check_film(output)
    directory = RunDirectory.open(path)
    scenario = given_scenario(directory, python)
    with Simulation.load(path, scenario, threads=directory.facts["threads"]) as simulation:
        with Progress("watching", None) as bar:
            found = film(simulation, episodes=episodes, seed=seed, sampled=sampled, on_step=bar.advance)
        steps = simulation.now
        actions = ("sampled" if sampled else "greedy") if policies(simulation.system) else None
        how = "" if actions is None else f", {actions}"
        title = f"{simulation.scenario.scenario} after {steps:,} steps{how}"
        graph = graph_of(simulation.scenario)
    with Progress("drawing", len(found.frames)) as bar:
        every = write_film(output, graph, found.frames, title=title, fps=found.fps, on_frame=bar.advance)
    if json:
        returns = {"returns": found.returns, "frames": len(found.frames), "every": every, "actions": actions}
        print_json({"run_dir": str(path), "steps": steps, "file": str(output), **returns})
        return
    kept = "" if every == 1 else f", one of {every} steps drawn"
    listed = ", ".join(counted(value) for value in found.returns)
    lines = (
        f"return       {listed}   ({len(found.frames):,} steps{how})",
        f"written      {display_path(output)} ({output.stat().st_size:,} bytes{kept})",
    )
    for line in lines:
        console().print(line, soft_wrap=True)
