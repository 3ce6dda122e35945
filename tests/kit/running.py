"""Ways of running a scenario that have no name of their own in the public interface, for tests: the internals they need stand here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from antiphon import Population, Simulation
from antiphon.base.errors import ScenarioError
from antiphon.comms import Predictor
from antiphon.distributed.parts.placement import check_divisible, check_placement, lookahead_of, units_of
from antiphon.engine.capture.loop import CapturedLoop
from antiphon.engine.inference.evaluation import AgentScore, Evaluator, Scored
from antiphon.engine.metrics.report_by_agent import LossesByAgent
from antiphon.engine.metrics.step_metrics import step_metrics
from antiphon.engine.native.networks import NativeNetwork
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.scenarios import Scenario
from tests.engine.capture.dispatch_recorder import DispatchRecorder


def stacked(simulation: Simulation) -> bool:
    """Whether some agents are computed as one."""
    return any(size > 1 for size in stack_sizes(simulation))


def newest_metrics(simulation: Simulation, channel: str) -> dict[str, float]:
    """The metrics of a channel as a log entry would have them now."""
    running = simulation.running
    rows = running.newest.completed(step_metrics(running, running.now - 1))
    return {row.metric: row.value for row in rows if row.name == channel}


def check_later(simulation: Simulation) -> Simulation:
    """Let what is not finite be found as on a GPU: after the steps, and not within."""
    simulation.running.backend.moving.check_later()
    return simulation


def state_of(simulation: Simulation) -> dict[str, Any]:
    """Return a copy of the whole state."""
    return copied(simulation.running.state_dict())


def copied(state: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a state, or of a part of one."""
    copy: dict[str, Any] = copy_tree(state)
    return copy


def evaluation_by_updates(agent: str, accuracy: Callable[[int, int], float]) -> Callable[..., Scored]:
    """Return what stands in for `seams.EVALUATE`: an agent's accuracy as a function of its updates and the run's seed."""

    def score(evaluator: Evaluator) -> Scored:
        running = evaluator.running
        reached = accuracy(running.system.agents[agent].learner.counts()[0], running.seed)
        return 1, {agent: AgentScore({"loss": 1 - reached, "accuracy": reached}, {}, {}, 1)}

    return score


def newest_losses(simulation: Simulation) -> dict[str, Any]:
    """The losses of the agents that learned at the newest step, which `step` returns, by name."""
    return dict(LossesByAgent(simulation.running.learned))


def stack_sizes(simulation: Simulation) -> list[int]:
    """How many agents each stack has."""
    backend: Any = simulation.running.backend
    return [len(agent.members) for agent in backend.stacked.system.agents.values()]


def native_agents(simulation: Simulation) -> list[str]:
    """The stacks that the native kernel computes; none where another backend does."""
    backend: Any = simulation.running.backend
    agents = backend.stacked.system.agents.values() if backend.name == "native" else ()
    return [agent.name for agent in agents if isinstance(agent.learner.network, NativeNetwork)]


def predictor_of(simulation: Simulation, channel: str) -> Predictor:
    """Return a channel's synthetic gradient itself, which predicts."""
    predictor = simulation.running.system.channels[channel].synthetic_gradient.model
    assert predictor is not None
    return predictor


def seeds_together(scenario: Scenario, seeds: tuple[int, ...], **settings: Any) -> Population | None:
    """Return several seeds in one program; None: they run one after the other."""
    found = Population(scenario, list(seeds), **settings)
    return found if found.sequential_reason is None else None


def captured(
    scenario: Scenario, *, recorder: type[DispatchRecorder] | None = DispatchRecorder, **settings: Any
) -> tuple[Simulation, CapturedLoop] | None:
    """Return a simulation whose steady periods are recorded and replayed, and what replays them; None: it cannot be recorded.

    Args:
        scenario: A scenario.
        recorder: What records; None: CUDA graphs.
        **settings: Of `Simulation`.
    """
    loop = CapturedLoop() if recorder is None else CapturedLoop(recorder)
    try:
        return Simulation(scenario, capture=loop, **settings), loop
    except ScenarioError:
        return None


def two_parts(scenario: Scenario, **settings: Any) -> dict[str, int] | None:
    """Return the part of each agent, its units dealt out in turn; None: no channel may be cut."""
    with Simulation(scenario, **settings) as whole:
        system = whole.running.system
    units = units_of(system)
    placement = {name: i % 2 for i, unit in enumerate(units) for name in unit}
    try:
        check_divisible(system, scenario)
        check_placement(system, placement)
    except ScenarioError:
        return None
    return placement if len(units) > 1 else None


def lookahead(whole: Simulation, divided: Simulation) -> int:
    """How many steps parts may be ahead of one another, as a run in parts is placed."""
    return lookahead_of(whole.running.system, divided.running.executor.facts["parts"]["placement"])


def in_parts(scenario: Scenario, placement: Mapping[str, int], steps: int, **settings: Any) -> Simulation:
    """Return a simulation after steps that parts have taken, all but the last, each exchange as late as it may be."""
    simulation = Simulation(scenario, parts=placement, **settings)
    simulation.run(steps)
    return simulation
