"""Evaluation: a system on a split that it does not learn from, over perfect links or as it runs (semantics 24).

`evaluation_of` is the entry; the forward pass is that of
    ExampleRollout        (rollout.py) a stream of examples, each shown once
    EnvironmentRollout    (rollout.py) any other environment, which runs forward once through the split; where agents learn
                          from rewards it runs for whole episodes
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE, features_of
from antiphon.base.errors import RunError, ScenarioError
from antiphon.base.problems import check_counts
from antiphon.engine.episodes import EpisodeStatistics, own_reward
from antiphon.engine.heart.agent import Goal
from antiphon.engine.heart.system import System
from antiphon.engine.inference.rollout import (
    AgentScore,
    EnvironmentRollout,
    ExampleRollout,
    Links,
    ScoreSums,
    with_targets,
)
from antiphon.engine.live_system import LiveSystem
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.engine.state.state_dict import load_objects, state_of_objects
from antiphon.envs import registry
from antiphon.envs.base import TorchVectorEnv, check_split
from antiphon.nets.random import seed_for
from antiphon.scenarios.training import RETURN, SPLITS, split_metric

LONGEST = 100_000
"""Steps within which every environment has to finish an episode."""
EPISODES = 200
"""Episodes of all environments together that are played by default, the same number in each."""

_ROWS = 1000
"""Examples shown at once, at most; part of what a seed means to links as they run."""
_MEMORY = 1 << 31
"""Bytes that messages and outputs of all agents may take at a time; of more agents fewer examples are shown at once."""
_ENVS = 64
"""Environments side by side in which a system runs forward, whatever the run's batch."""
_STRETCH = 2
"""Examples for each of them, at least, where that takes fewer."""
_PERFECT = Links()
_LINES = 20
"""Most agents or channels that a printed result lists."""


def first_lines(head: str, lines: Sequence[str], where: str) -> str:
    """Return a printed result: its head and its first lines; `where` has all of them."""
    more = len(lines) - _LINES
    return "\n".join([head, *lines[:_LINES], *([f"  … and {more:,} more in `{where}`"] if more > 0 else [])])


@dataclass(frozen=True)
class Evaluation:
    """The scores of a system on a split.

    Attributes:
        examples: The number of examples, each shown once; without a stream of examples, the number of targets.
        readout: The agents whose mean metric is the scenario's.
        agents: By agent with an objective: `loss` and the metric of its objective (`accuracy`, `error` or `bits`), with
            several objectives also each one's, such as `label_loss`; NaN without any target. By agent with a policy:
            `return`, of its own reward if it has one.
        episodes: The evaluated episodes; None: no agent has a policy.
        scored: By agent with a target and by metric, the number of examples, or of targets, that had one.
        errors: The standard errors of `agents`: over examples, over environments, or over episodes; NaN where there are
            fewer than two.
    """

    split: str
    examples: int
    readout: tuple[str, ...]
    agents: dict[str, dict[str, float]]
    links: Links = _PERFECT
    episodes: Episodes | None = None
    scored: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def score(self, metric: str) -> float:
        """Return a metric by name: the mean over the readouts that have it, or one agent's (`AGENT.accuracy`); else NaN."""
        return self._mean(metric, self.agents)

    def error(self, metric: str) -> float:
        """Return the standard error of a `score`; of a mean over agents the mean of theirs, as they score the same samples."""
        return self._mean(metric, self.errors)

    def _mean(self, metric: str, of_agents: Mapping[str, Mapping[str, float]]) -> float:
        agent, metric_name = split_metric(metric)
        names = self.readout if agent is None else (agent,)
        values = [of_agents[name][metric_name] for name in names if metric_name in of_agents.get(name, {})]
        return sum(values) / len(values) if values else float("nan")

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the readouts in [0, 1]; NaN if none classifies."""
        return self.score("accuracy")

    @property
    def bits(self) -> float:
        """Mean bits per target of the readouts; NaN if none has the objective `coding`."""
        return self.score("bits")

    @property
    def return_(self) -> float:
        """Mean undiscounted return of the readouts' episodes; NaN if none has a policy."""
        return self.score("return")

    @property
    def loss(self) -> float:
        """Mean loss of the readouts; NaN if none has one."""
        return self.score("loss")

    def __str__(self) -> str:
        head = f"{self.split}: {self.examples:,} examples"
        if self.episodes is not None:
            head = f"{self.episodes.count:,} whole episodes of {self.episodes.length:.1f} steps, {self.episodes.actions}"
        if len(self.agents) > _LINES:
            means = {metric: self.score(metric) for metric in self.agents[self.readout[0]]}
            head += f"; mean of {len(self.readout):,} readouts: {_written(means)}"
        marks = dict.fromkeys(self.readout, " (readout)")
        lines = [
            f"  {name}{marks.get(name, '')}: {_written(metrics)}" for name, metrics in self.agents.items()
        ]
        return first_lines(head, lines, "agents")

    __repr__ = __str__


def _written(metrics: Mapping[str, float]) -> str:
    words = (f"accuracy {100 * v:.2f} %" if k == "accuracy" else f"{k} {v:.4f}" for k, v in metrics.items())
    return ", ".join(words)


def policies(system: System) -> dict[str, Goal]:
    """Return the goals of the agents that learn from rewards, by name."""
    return {name: goal for name, goal in system.goals().items() if goal.policy is not None}


@contextmanager
def as_evaluated(system: System) -> Iterator[None]:
    """Set the buffers of users' objectives back after the block."""
    before = copy_tree(state_of_objects(system))
    try:
        yield
    finally:
        load_objects(system, before)


Scored = tuple[int, dict[str, AgentScore]]
"""How many examples or targets, and the scores of agents with a target."""


@dataclass(frozen=True)
class Episodes:
    """Mean return and length of whole episodes.

    Attributes:
        length: Their mean length in steps.
        returns: By reward, the mean sum of an episode's rewards, undiscounted.
        actions: `greedy` or `sampled`.
        steps: Steps that the evaluation took, in all environments at once.
        errors: By reward, the standard error of the mean return over the episodes; empty for a single episode.
    """

    count: int
    length: float
    returns: dict[str, float]
    actions: Literal["greedy", "sampled"]
    steps: int
    errors: dict[str, float]


class EpisodeReturns:
    """Length and returns of the first whole episodes of each environment, the same number of each, from their first step."""

    def __init__(self, statistics: EpisodeStatistics, episodes: int) -> None:
        self._statistics, self._episodes = statistics, episodes
        self.steps = 0
        self._before = statistics.finished.clone()
        self._counted = torch.zeros_like(self._before)
        self._rewards = list(statistics.returns)
        # in double precision, as a sum of many episodes loses digits
        shape = 1 + len(self._rewards), episodes, len(self._counted)
        self._table = torch.zeros(shape, dtype=torch.float64, device=self._counted.device)

    @property
    def missing(self) -> int:
        """Environments that have not finished their episodes yet."""
        return int((self._counted < self._episodes).sum())

    def add(self) -> bool:
        """Count the episodes that the newest step has finished, and return whether there are any.

        An environment's episodes beyond the number that is counted are left out.
        """
        self.steps += 1
        finished = self._statistics.finished
        new = (finished > self._before) & (self._counted < self._episodes)
        self._before = finished
        if not bool(new.any()):
            return False
        newest = torch.stack([self._statistics.lengths, *self._statistics.returns.values()])
        self._table[:, self._counted[new], new.nonzero()[:, 0]] = newest[:, new].to(self._table)
        self._counted = self._counted + new
        return True

    @property
    def returns(self) -> dict[str, Tensor]:
        """By reward, the return of each episode that is counted, [episodes, environments]; the table is complete."""
        return dict(zip(self._rewards, self._table[1:], strict=True))

    @property
    def lengths(self) -> Tensor:
        """The steps of each episode that is counted, [episodes, environments]; the table is complete."""
        return self._table[0].long()

    def means(self, actions: Literal["greedy", "sampled"]) -> Episodes:
        """Return the means over the episodes that are counted; the table is complete."""
        counted = self._table.flatten(1)
        count, (length, *returns) = counted.shape[1], counted.mean(1).tolist()
        named = dict(zip(self._rewards, returns, strict=True))
        errors: dict[str, float] = {}
        if count > 1:
            deviations: Tensor = counted[1:].std(1)
            standard_errors = (deviations / math.sqrt(count)).tolist()
            errors = dict(zip(self._rewards, standard_errors, strict=True))
        return Episodes(count, length, named, actions, self.steps, errors)


def environment_of(running: LiveSystem, batch: int, split: str | None) -> TorchVectorEnv:
    """Return an environment like the run's, of a batch and a split (None: the one that is trained on), to run forward in."""
    how: dict[str, Any] = {"device": running.settings.device, "dtype": running.settings.dtype, "split": split}
    return registry.make(running.scenario.env, batch=batch, **how)


def evaluation_of(
    running: LiveSystem,
    split: str = "test",
    links: Links | str = "perfect",
    *,
    episodes: int | None = None,
    sampled: bool = False,
) -> Evaluation:
    """Score the system on a split, with the present weights: see `Simulation.evaluate`; no bit of the run changes."""
    running.synchronize()
    stacked, env = running.evaluated, running.env
    system = stacked.single_system
    evaluator = Evaluator(running, stacked.system, split, Links.given(links, system))
    played, returns, errors = None, dict[str, dict[str, float]](), dict[str, dict[str, float]]()
    with as_evaluated(system):
        if rewards := rewards_of(system):
            scores, played = evaluator.play(episodes, sampled=sampled)
            count, missing = played.count, float("nan")
            returns = {name: {RETURN: played.returns[reward]} for name, reward in rewards.items()}
            errors = {name: {RETURN: played.errors.get(reward, missing)} for name, reward in rewards.items()}
            if with_targets(system) and (env.is_stream or env.evaluation_steps is not None):
                scores = evaluator.score()[1]
        else:
            for name, is_given in (("episodes", episodes is not None), ("sampled", sampled)):
                if is_given:
                    line = f"{name} has no effect here: no agent has a policy; leave it out"
                    raise ScenarioError(f"evaluate: {line}")
            count, scores = evaluator.score()
    of_agents = returns | {name: score.means for name, score in scores.items()}
    agents = {name: of_agents[name] for name in system.goals()}
    counts = {name: score.samples for name, score in scores.items()}
    errors |= {name: score.errors for name, score in scores.items()}
    readout = running.scenario.readouts
    return Evaluation(split, count, readout, agents, evaluator.links, played, counts, errors)


@dataclass(frozen=True)
class Evaluator:
    """Scores a system on a split, without messages at the start; delays are kept, and no agent reads a training-only signal.

    In a stream of examples, each example is shown once, for `steps_needed` steps, and each agent's newest output is scored.
    In other environments, the system runs forward for `evaluation_steps` in a new environment, and ticks with a target are
    scored, where no episode ends once all paths to the agent have filled. If agents have policies, the system runs in as many
    environments as in training until each has finished its first whole episodes (`EpisodeReturns`); their returns are the score.
    """

    running: LiveSystem
    """No bit of it changes. Losses and noise of links are sampled from its seed and from the split, the same every time."""
    system: System
    """Its stacks, which are run forward."""
    split: str
    links: Links

    def score(self) -> Scored:
        return self._score_stream() if self.running.env.is_stream else self._score_environment()

    def _score_stream(self) -> Scored:
        """Show every example of a split once."""
        system, env, split = self.system, self.running.env, self.split
        sums = {name: ScoreSums(system.agents[name]) for name in with_targets(system)}
        count = 0
        rows = _ROWS
        if self.links.kind == "perfect":
            sent = sum(c.content.size * len(c.members) for c in system.channels.values())
            outputs = sum(
                features_of(agent.learner.network.port_shape(OBJECTIVE)) * len(agent.members)
                for agent in map(system.agents.__getitem__, sums)
            )
            # a step's messages, while those of the one before are read
            rows = max(1, min(_ROWS, _MEMORY // (system.dtype.itemsize * (2 * sent + outputs))))
        mixed = mixes_rows(system)
        batches = whole_batches(env, split, system.batch) if mixed else example_batches(env, split, rows=rows)
        check_split(split, env.splits, "evaluate")
        for number, batch in enumerate(batches):
            rollout = ExampleRollout(
                system,
                batch,
                self.links,
                seed=rollout_seed(self.running.seed, split, number),
                ends=sums,
            )
            # of the last batch some were scored before
            new = min(rollout.rows, env.example_count(split) - count)
            count += new
            for name, tick_loss in rollout.losses().items():
                if tick_loss is not None:
                    sums[name].add(*sums[name].count(tick_loss, new))
        return count, {name: score for of in sums.values() for name, score in of.by_agent().items()}

    def _score_environment(self) -> Scored:
        """Run a system forward, once through a split."""
        system, env, split = self.system, self.running.env, self.split
        if env.evaluation_steps is None:
            raise ScenarioError(
                "evaluate: the environment has no splits to evaluate on; its metrics and losses in the run show progress"
            )
        check_split(split, env.splits, "evaluate")
        most = system.batch if mixes_rows(system) else _ENVS
        count = max(1, min(most, env.example_count(split) // _STRETCH))
        with closing(environment_of(self.running, count, split)) as evaluation_env:
            seed = rollout_seed(self.running.seed, split, 0)
            rollout = EnvironmentRollout(system, evaluation_env, self.links, seed)
            steps = evaluation_env.evaluation_steps  # which may depend on the seed
            assert steps is not None
            scores = rollout.run(steps)
        readout = self.running.scenario.readouts
        for name, score in scores.items():
            if name in readout and not score.targets:
                raise ScenarioError(
                    f"evaluate: in the {steps} steps of the {split} split, no tick of '{name}' has a target and a message over "
                    "every path; shorten delays or periods, or use more data"
                )
        targets = [scores[name].targets for name in readout if name in scores]
        return max(targets, default=0), scores

    def play(self, episodes: int | None, *, sampled: bool) -> tuple[dict[str, AgentScore], Episodes]:
        """Run a system for whole episodes: the scores of agents with a target, and the first episodes of each environment.

        None: `EPISODES` of all environments together, or in a stream of examples one pass through the split. In an environment
        without splits, the split's name seeds the episodes.
        """
        env, split = self.running.env, self.split
        check_episodes(env, split, episodes)
        if episodes is None:
            every = env.example_count(split) if env.is_stream else EPISODES
            episodes = -(-every // env.num_envs)
        of_split = split if env.splits else None
        with closing(environment_of(self.running, env.num_envs, of_split)) as evaluation_env:
            seed = rollout_seed(self.running.seed, split, 0)
            rollout = EnvironmentRollout(self.system, evaluation_env, self.links, seed, sampled=sampled)
            table = play(rollout, episodes)
        return rollout.scores, table.means("sampled" if sampled else "greedy")


def check_episodes(env: TorchVectorEnv, split: str, episodes: int | None) -> None:
    """Raise ScenarioError where no whole episodes of a split can be played, or not so many of each environment."""
    check_counts("evaluate", episodes=episodes)
    check_split(split, env.splits or SPLITS, "evaluate")
    if env.endless:
        raise ScenarioError(
            "evaluate: the environment's episodes never end, so they have no return; truncate them, as with max_episode_steps or limit"
        )


def play(rollout: EnvironmentRollout, episodes: int) -> EpisodeReturns:
    """Run a system, from its first step, until each environment has finished its first whole episodes, and return their table.

    Raises:
        RunError: An environment has not finished an episode within 100,000 steps.
    """
    world_episodes = rollout.world.episodes
    assert world_episodes is not None  # policies read rewards
    table = EpisodeReturns(world_episodes, episodes)
    since = 0
    while table.missing:
        if table.steps - since == LONGEST:
            raise RunError(
                f"evaluate: {table.missing} of {len(world_episodes.finished)} environments finished no episode within {LONGEST:,} "
                "steps; limit the length of episodes (max_episode_steps in Gymnasium)"
            )
        rollout.step()
        if table.add():
            since = table.steps
    return table


def rewards_of(system: System) -> dict[str, str]:
    """Return the reward whose sum is an agent's return, by agent with a policy."""
    return {
        name: own_reward(() if goal.rewards is None else goal.rewards.names)
        for name, goal in policies(system).items()
    }


def mixes_rows(system: System) -> bool:
    """Whether the loss of a sample may depend on the others in its batch: then it is evaluated in batches as in training."""
    objectives = (term.output_objective for goal in with_targets(system).values() for term in goal.terms)
    return any(objective.of_network or objective.is_own for objective in objectives)


def whole_batches(env: TorchVectorEnv, split: str, rows: int) -> Iterator[dict[str, Tensor]]:
    """Yield the examples of a split in order, in batches of so many; before those of a last, smaller one come others again."""
    before: dict[str, Tensor] = {}
    for batch in env.batches(split, rows):
        missing = rows - len(next(iter(batch.values())))
        if before and missing:
            batch = {name: torch.cat([before[name][-missing:], value]) for name, value in batch.items()}
        yield batch
        before = batch


def example_batches(
    env: TorchVectorEnv, split: str, limit: int | None = None, rows: int | None = None
) -> Iterator[dict[str, Tensor]]:
    """Yield at most `limit` examples of a split, spread evenly over it, in order, in batches as large as each other to within one row."""
    rows = rows or _ROWS
    every = env.batches(split, rows)
    count = env.example_count(split)
    limited = count if limit is None else min(limit, count)
    if limited == count:
        yield from env.batches(split, _even(count, rows))
        return
    chosen = torch.arange(limited) * count // limited
    pieces: list[dict[str, Tensor]] = []
    start = 0
    for batch in every:
        stop = start + len(next(iter(batch.values())))
        indices = chosen[(chosen >= start) & (chosen < stop)] - start
        pieces.append({name: value[indices.to(value.device)] for name, value in batch.items()})
        start = stop
    gathered = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    size = _even(limited, rows)
    for start in range(0, limited, size):
        yield {name: value[start : start + size] for name, value in gathered.items()}


def rollout_seed(seed: int, split: str, batch: int) -> int:
    """Return the seed of what links lose and add in batch number `batch` of a split."""
    return seed_for(seed, "evaluation", split, str(batch))


def _even(count: int, rows: int) -> int:
    batches = max(-(-count // rows), 1)
    return max(-(-count // batches), 1)
