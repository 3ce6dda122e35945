"""The environment at run time: stepped, and its returns made into the signals of each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from antiphon.base.errors import RunError, ScenarioError, named, require
from antiphon.engine.episodes import REWARD, EpisodeStatistics
from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.signals import Action, EpisodeEnds, Life, StepSignals
from antiphon.engine.heart.system import System
from antiphon.envs.base import StepResult, TorchVectorEnv
from antiphon.envs.signal import ALIVE, ENDS, OUTCOMES
from antiphon.nets.mask import ALL, NONE, Mask
from antiphon.nets.plain_trees import to_tree
from antiphon.nets.random import LARGEST_SEED, sampled_seeds, seed_for, seed_globally


def signals_of(agent: Agent) -> set[str]:
    """Return the names of the signals that agents of a stack read, learn from, or have their messages masked or predictors conditioned on."""
    observed = (*agent.inputs.observed.names_by_member, *agent.inputs.critic_observed.names_by_member)
    names = {name for names in observed for name in names if name != AGE}
    for member in agent.members:
        names.update(f"{kind}.{member.life_name}" for kind in (ALIVE, *ENDS) if member.life_name)
        if member.goal is not None:
            names.update(member.goal.signal_names)
    for channel in (*agent.connections.send_channels, *agent.connections.incoming):
        names.update(channel.mask_signal_names)
    for channel in agent.connections.send_channels:
        names.update(spec.name for spec in channel.synthetic_input.context.signal_specs)
        if channel.predicts:
            names.update(spec.name for spec in channel.synthetic_gradient.context.signal_specs)
            if channel.synthetic_gradient.target_signal_name is not None:
                names.add(channel.synthetic_gradient.target_signal_name)
    return names


def signals_read(system: System) -> set[str]:
    return set[str]().union(*map(signals_of, system.agents.values()))


class SignalledSteps:
    """Makes what the steps of an environment, or of several that are alike, return into step signals.

    Attributes:
        episodes: Returns and lengths of finished episodes; None: rewards and ends are not read.
        elapsed: Steps of the present episode, where its length is known.
    """

    step_signals: StepSignals
    elapsed: int

    def __init__(self, env: TorchVectorEnv, names: set[str]) -> None:
        self.env = env
        self.names = sorted(names)
        signals = env.description.all_signals
        self._after = [name for name in self.names if signals[name].known == "after_step"]
        self._at_tick = [(name, f"_{name}") for name in self.names if name not in self._after]
        self._outcomes = [name for name in self.names if name in OUTCOMES and name not in env.signals]
        lives = [name.removeprefix(f"{ALIVE}.") for name in self.names if name.startswith(f"{ALIVE}.")]
        # not what an environment shows under the key `alive`
        self._lives = [name for name in lives if names.issuperset(f"{kind}.{name}" for kind in ENDS)]
        self._limits = [name for name in self._after if name.partition(".")[0] == "truncated"]
        self.episodes: EpisodeStatistics | None = None

    @property
    def episode_length(self) -> int | None:
        """Steps of the present episode; None: its environment does not know them."""
        return self.env.episode_length

    def _signals(self, step: int, observations: dict[str, Tensor], info: dict[str, Any]) -> StepSignals:
        """The signals of a step that are known at its tick."""
        signals = {name: observations[name] for name in self.names if name in observations}
        step_signals = StepSignals(step, signals)
        for name, mask in self._at_tick:
            if name in info:
                signals[name] = info[name]
            if mask in info:
                signals[mask] = info[mask]
                self._note_uniform(step_signals, mask)
        return step_signals

    def _note_uniform(self, step_signals: StepSignals, name: str) -> None:
        """Note what the host knows of a mask that is the same in all environments."""
        uniform = self.env.uniform(step_signals.signals[name])
        if uniform is not None:
            step_signals.uniform_masks[name] = Mask.of(uniform)

    def advance(self, action: Action | None = None) -> EpisodeEnds:
        """Take one step; complete the present moment, make the next, and return which episodes ended."""
        length = self.env.episode_length
        step = self.step_signals.step
        with named(f"step {step + 1}, environment {self.env.name}"):
            observations, reward, terminated, truncated, info = self.step_env(action, step)
        wrong = f"the reward is {list(reward.shape)}; return one number for each environment, [batch]"
        require(reward.dim() == 1, "env", wrong, ScenarioError)
        outcomes = {"reward": reward, "terminated": terminated, "truncated": truncated}
        for name in self._outcomes:
            if name not in info:
                self.step_signals.signals[name] = outcomes[name].to(self.env.dtype)
            if (uniform := self.env.uniform(outcomes[name])) is not None:
                self.step_signals.uniform_masks[name] = Mask.of(uniform)
        for name in self._after:
            if name in info:
                self.step_signals.signals[name] = info[name]
            if (mask := f"_{name}") in info:
                self.step_signals.signals[mask] = info[mask]
                self._note_uniform(self.step_signals, mask)
        previous, ends = self.step_signals, self._ends(terminated, truncated, length)
        if self.episodes is not None:
            self.episodes.add(reward, info, ends.ended, previous.uniform_masks)
        self.step_signals = self._signals(previous.step + 1, observations, info)
        if self._lives:
            ends = replace(ends, lives=self._lives_over(previous))
        if self._limits and self._cut_off(previous, ends):
            ends = replace(ends, final_signals=self._final(info, ends, previous))
        return ends

    def step_env(self, action: Any, step: int) -> StepResult:
        """Step the environment itself, after so many steps."""
        raise NotImplementedError

    def _lives_over(self, previous: StepSignals) -> dict[str, Life]:
        """By agent of the environment: where it is dead after a step, or begins another life, and where it has terminated."""
        lives: dict[str, Life] = {}
        for name in self._lives:
            terminated, truncated = (previous.signals[f"{kind}.{name}"] > 0 for kind in ENDS)
            over = previous.not_alive(name) | Mask.of(terminated | truncated)
            if over.anywhere:
                lives[name] = Life(over, Mask.of(terminated))
        return lives

    def _ends(self, terminated: Tensor, truncated: Tensor, length: int | None) -> EpisodeEnds:
        """Which episodes a step ended; `length`: of the episode before it."""
        if length is not None:  # all end together, and it is known when
            self.elapsed += 1
            if self.elapsed < length:
                return EpisodeEnds()
            self.elapsed = 0
            uniform = self.env.uniform(terminated)
            return EpisodeEnds(ALL, Mask.of(bool(terminated[0]) if uniform is None else uniform))
        if self.env.description.endless:
            return EpisodeEnds()
        for_good, cut_off = map(self._known_mask, (terminated, truncated))
        ended = for_good | cut_off
        if not ended.anywhere:
            return EpisodeEnds()
        return EpisodeEnds(ended, for_good if for_good.anywhere else NONE)

    def _known_mask(self, end: Tensor) -> Mask:
        """Where a step ended episodes, with what the host knows of it."""
        anywhere = self.env.anywhere(end)
        return NONE if anywhere is False else Mask.of(torch.as_tensor(end), anywhere)

    def _cut_off(self, previous: StepSignals, ends: EpisodeEnds) -> bool:
        """Whether a step truncated an episode, or a single agent's, as far as somebody reads that."""
        for name in self._limits:
            for_all = name in self._outcomes or (name == "truncated" and not self.env.late_ends)
            if ends.ended is NONE and for_all:
                continue
            truncated, shown = previous.uniform_masks.get(name), previous.signals.get(name)
            if truncated is None and shown is not None:
                truncated = NONE if self.env.uniform(shown) is False else Mask.of(shown > 0)
            if truncated is not None and truncated.anywhere:
                return True
        return False

    def _final(self, info: Mapping[str, Any], ends: EpisodeEnds, previous: StepSignals) -> StepSignals | None:
        """The final observations of the episodes that have been reset, and the next ones elsewhere; None: they are not known.

        There, an agent lives on that has not terminated. Where one is truncated and lives again at once, what it observes is of
        its next life (mask `_final.NAME`).
        """
        present, rows = self.step_signals, info.get("_final_obs")
        if rows is None:
            if ends.ended is not NONE:
                return None
            return StepSignals(present.step, {**present.signals, **self._lives_on(previous, None)})
        last = {**info.get("final_obs", {}), **info.get("final_info", {})}
        signals = {
            name: torch.where(rows.view(-1, *(1 for _ in value.shape[1:])), last[name], value)
            for name, value in present.signals.items()
            if name in last
        }
        return StepSignals(present.step, {**signals, **self._lives_on(previous, rows)})

    def _lives_on(self, previous: StepSignals, reset: Tensor | None) -> dict[str, Tensor]:
        """Which agents of the environment live on with final observations; `reset`: [B] the episodes that have been reset."""
        signals: dict[str, Tensor] = {}
        for name in self._lives:
            terminated, truncated = (previous.signals[f"{kind}.{name}"] > 0 for kind in ENDS)
            again = self.step_signals.signals[f"{ALIVE}.{name}"] > 0
            again = again if reset is None else again & ~reset
            lived = previous.signals[f"{ALIVE}.{name}"] > 0
            signals[f"{ALIVE}.{name}"] = (again | (lived & ~terminated)).to(self.env.dtype)
            signals[f"_final.{name}"] = ~(truncated & again)
        return signals

    def state_dict(self) -> dict[str, Any]:
        """Return the signals of the present step, and how far its episodes are, without copying a tensor."""
        state = {"present": dict(self.step_signals.signals), "elapsed": self.elapsed}
        return state if self.episodes is None else {**state, "episodes": self.episodes.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned after `now` steps; its tensors are used as they are."""
        self.step_signals = StepSignals(state["now"], state["present"])
        self.elapsed = state["elapsed"]
        if self.episodes is not None:
            self.episodes.load_state_dict(state["episodes"])


class EnvironmentRunner(SignalledSteps):
    """Steps an environment that it owns."""

    def __init__(self, env: TorchVectorEnv, names: set[str], seed: int) -> None:
        super().__init__(env, names)
        env.request(names.difference(self._outcomes))
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Start again from step 0."""
        self._seed = seed
        with named(f"reset of environment {self.env.name}"):
            self.seed_step("reset")
            if not 0 <= seed <= LARGEST_SEED:  # the environment may add the row
                (seed,) = sampled_seeds(seed, 1, LARGEST_SEED - self.env.num_envs + 1)
            observations, info = self.env.reset(seed=seed)
        self.step_signals = self._signals(0, observations, info)
        self.elapsed = 0
        self.episodes = None
        if any(name.partition(".")[0] in OUTCOMES for name in self._after):
            rewards = [name for name in self._after if name.partition(".")[0] == REWARD]
            self.episodes = EpisodeStatistics(rewards, self.env.num_envs, self.env.device, self.env.dtype)

    def metrics(self) -> dict[str, float]:
        """Return metrics of progress by name: the environment's own, and those of finished episodes."""
        own = {
            name: float(value.double().mean()) if isinstance(value, Tensor) else value
            for name, value in self.env.metrics().items()
        }
        return own | ({} if self.episodes is None else self.episodes.metrics())

    def metric_error(self, name: str) -> float:
        """Return the standard error of one of `metrics` over the environments; 0 of one that is a single number."""
        by_environment = {
            **self.env.metrics(),
            **({} if self.episodes is None else self.episodes.by_environment()),
        }
        values = by_environment.get(name)
        if not isinstance(values, Tensor) or len(values) < 2:
            return 0.0
        return float(values.double().std()) / math.sqrt(len(values))

    def step_env(self, action: Any, step: int) -> StepResult:
        self.seed_step(str(step))
        return self.env.step(action)

    def seed_step(self, name: str) -> None:
        """Seed the global generators for what the environment may draw at a step."""
        if not self.env.draws_globally:
            return
        seed = seed_for(self._seed, "env", "draws", name)
        seed_globally(seed)
        if self.env.device.type == "cuda":
            torch.cuda.manual_seed(seed)


def environment_state(env: TorchVectorEnv, *, complete: bool = False) -> dict[str, Any]:
    """Return an environment's state under `env`, as a tree that `from_tree` reads; None where it keeps it to itself.

    RunError where it holds what is not plain data, or, for `complete`, there is none.
    """
    state = env.state_dict() if complete or env.description.can_be_saved else None
    try:
        return {"env": to_tree(state)}
    except TypeError as error:
        raise RunError(f"env: its state_dict {error}") from None
