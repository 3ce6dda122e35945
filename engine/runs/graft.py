"""Grafts: a new run that goes on from a checkpoint of another one, with agents' weights out of further runs in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from antiphon.engine.base_simulation import check_continues
from antiphon.engine.runs.directory import RunDirectory, facts_of, now
from antiphon.engine.simulation import Simulation, given_scenario
from antiphon.engine.state.checkpoint import latest
from antiphon.engine.state.weights import Fit, TakenWeights
from antiphon.errors import RunError, ScenarioError, suggest
from antiphon.scenarios import Scenario

__all__ = ["AgentOfRun", "Grafted", "Target", "graft"]


class AgentOfRun(NamedTuple):
    """`RUN:agent`: an agent of a run directory (its newest checkpoint) or of a checkpoint folder."""

    run: Path
    agent: str

    @classmethod
    def parse(cls, text: str) -> AgentOfRun:
        """Read `RUN:agent`; ScenarioError where it is of another form."""
        run, colon, agent = text.rpartition(":")
        if not (run and colon and agent):
            raise ScenarioError(
                f"{text}: names no agent of a run; write RUN:agent, for example runs/first:eye"
            )
        return cls(Path(run), agent)


@dataclass(frozen=True)
class Grafted:
    """A run made by a graft.

    Attributes:
        directory: It, ready to be resumed.
        step: Steps that its checkpoint has taken.
        taken: What was taken, by source run.
    """

    directory: RunDirectory
    step: int
    taken: Sequence[TakenWeights]


class Target:
    """The checkpoint that a graft starts from, with the run directory that it is in.

    Args:
        path: A run directory (its newest checkpoint) or a checkpoint folder.

    Attributes:
        place: The checkpoint folder.
        directory: The run directory; None: the checkpoint is in none.

    Raises:
        RunError: There is no checkpoint, or no run can go on from this one.
    """

    def __init__(self, path: Path) -> None:
        self.place = latest(path)
        run = self.place.parent.parent
        self.directory = RunDirectory.open(run) if (run / "run.json").exists() else None
        facts = {} if self.directory is None else self.directory.facts
        if "virtual" in facts:
            raise RunError(f"{path}: is of a run in virtual time; graft into a run without --cluster")
        if (facts.get("parts") or {}).get("mode") == "free":
            raise RunError(
                f"{path}: its parts did not wait, and what was under way between them is in no checkpoint; graft into a run "
                "in lockstep"
            )

    def load(self, scenario: Scenario | None) -> Simulation:
        """Return its simulation, on the CPU; raises as `Simulation.load`, and where no step can follow."""
        facts = {} if self.directory is None else self.directory.facts
        if self.directory is not None:
            scenario = given_scenario(self.directory, scenario)
        how = {"threads": facts.get("threads", 1), "backend": facts.get("backend", "cohort")}
        simulation = Simulation.load(self.place, scenario, **how)
        try:
            check_continues(simulation)
            if simulation.diverged is not None:
                raise RunError(
                    f"{self.place}: diverged: {simulation.diverged}; graft into an earlier checkpoint"
                )
        except BaseException:
            simulation.close()
            raise
        return simulation

    def facts(self, simulation: Simulation, scenario: Scenario, command: Sequence[str]) -> dict[str, Any]:
        """Return the content of run.json for a run that goes on from here: it has stopped, and can be resumed."""
        before: dict[str, Any] = {} if self.directory is None else self.directory.facts
        found = facts_of(
            scenario,
            seed=simulation.seed,
            device=before.get("device", "cpu"),
            dtype=str(simulation.dtype).removeprefix("torch."),
            threads=simulation.threads,
            backend=simulation.backend.name,
        )
        inherited: dict[str, Any] = {
            key: before[key] for key in ("template", "variant", "values") if key in before
        }
        weights = [entry for entry in before.get("weights", ()) if entry["step"] <= simulation.now]
        changes = {"changes": simulation.changes} if simulation.changes else {}
        return {
            **inherited,
            "command": list(command),
            **found,
            **changes,
            "steps": max(before.get("steps", 0), found["steps"]),
            "step": simulation.now,
            "exit": "stopped",
            "finished": now(),
            "origin": {
                "run": str(self.place if self.directory is None else self.directory.path),
                "checkpoint": self.place.name,
                "step": simulation.now,
            },
            "weights": weights,
        }


def graft(
    target: Path,
    pairs: Iterable[tuple[AgentOfRun, str]],
    output: Path,
    *,
    fit: Fit = "all",
    optimisers: bool = False,
    scenario: Scenario | None = None,
    command: Sequence[str] = (),
) -> Grafted:
    """Make a run that goes on from a checkpoint of another one, in which agents have the weights of agents of further runs.

    Everything else is the target's: environment, messages in flight, states, the other agents. Neither run is changed.

    Args:
        target: A run directory (its newest checkpoint) or a checkpoint folder.
        pairs: (agent of a run, agent of the target that takes its weights).
        output: The new run directory; not there yet, or empty.
        fit: As of `Simulation.load_weights`.
        optimisers: Likewise.
        scenario: Of the target, needed where that holds Python objects.
        command: The command line, for run.json.

    Raises:
        RunError: A run is missing, damaged or cannot go on, or `output` is there.
        ScenarioError: An agent is missing, takes weights twice, or does not fit.
        DivergenceError: The target diverged.
    """
    by_run: dict[Path, dict[str, str]] = {}
    takers: list[str] = []
    for source, taker in pairs:
        if taker in takers:
            raise ScenarioError(f"{target}:{taker}: takes the weights of two agents; choose one")
        takers.append(taker)
        by_run.setdefault(source.run, {})[taker] = source.agent
    found = Target(target)
    with found.load(scenario) as simulation:
        for taker in takers:
            if taker not in simulation.system.agents:
                raise ScenarioError(
                    f"{target} has no agent '{taker}'{suggest(taker, simulation.system.agents)}"
                )
        taken = [
            simulation.load_weights(run, agents, fit, optimisers=optimisers) for run, agents in by_run.items()
        ]
        own = scenario or (simulation.scenario if found.directory is None else found.directory.scenario)
        facts = found.facts(simulation, own, command)
        facts["weights"] += [origin for each in taken for origin in each.origins(simulation.now)]
        directory = RunDirectory.create(output, own, facts, simulation)
        directory.release()
        return Grafted(directory, simulation.now, taken)
