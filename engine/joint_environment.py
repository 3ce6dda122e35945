"""Several environments that are stepped as one, alike but for their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch

from antiphon.engine.environment import EnvironmentRunner, SignalledSteps
from antiphon.engine.episodes import REWARD, EpisodeStatistics
from antiphon.engine.heart.signals import Action
from antiphon.engine.state.trees import join_rows, joined, joined_signals, split_rows
from antiphon.envs.base import StepResult, TorchVectorEnv
from antiphon.envs.worlds.arena import Arena
from antiphon.envs.worlds.world import World


class JointSteps(SignalledSteps):
    """Steps several environments as one, whose rows are those of all.

    What their runners hold is brought up to date by `share`, but for the state of their environments, which always is.
    """

    def __init__(self, runners: Sequence[EnvironmentRunner]) -> None:
        first = runners[0]
        super().__init__(first.env, {*first.names})
        self._runners, self._envs = runners, [runner.env for runner in runners]
        if first.episodes is not None:
            rows = len(runners) * first.env.num_envs
            self.episodes = EpisodeStatistics(first.episodes.returns, rows, first.env.device, first.env.dtype)
        self.join()

    def join(self) -> None:
        """Take over what the runners hold."""
        present = joined_signals([runner.step_signals for runner in self._runners])
        states = [{**runner.state_dict(), "present": None} for runner in self._runners]
        state = join_rows(states, self.env.num_envs, self.env.device)
        self.load_state_dict({**state, "now": present.step, "present": present.signals})

    def share(self) -> None:
        """Bring the runners up to date; their tensors are views."""
        state = {"now": self.step_signals.step, **self.state_dict()}
        for runner, runner_state in zip(
            self._runners, split_rows(state, len(self._runners), self.env.num_envs), strict=True
        ):
            runner.load_state_dict(runner_state)

    def go_on_with(self, staying: Sequence[int]) -> None:
        """Note that only the environments at these places are stepped together from here on."""
        for index in staying:
            if isinstance(env := self._envs[index], World):
                env.go_on_with(staying, index, len(self._runners))

    def step_env(self, action: Action | None, step: int) -> StepResult:
        """Step them, at once where they can (`World.step_all`), and return the rows of all."""
        envs = self._envs
        if _alike(envs):
            self._runners[0].seed_step(str(step))
            return World.step_all(envs, action)
        batch = envs[0].num_envs
        actions = split_rows(action, len(envs), batch)
        steps = [runner.step_env(own, step) for runner, own in zip(self._runners, actions, strict=True)]
        observations, *outcomes, infos = zip(*steps, strict=True)
        reward, terminated, truncated = (
            torch.cat([torch.as_tensor(values) for values in parts]) for parts in outcomes
        )
        info_names = [*self.names, REWARD]
        info: dict[str, Any] = joined(infos, [*info_names, *(f"_{name}" for name in info_names)])
        if any("_final_obs" in env_info for env_info in infos):
            nowhere = torch.zeros(batch, dtype=torch.bool, device=envs[0].device)
            info["_final_obs"] = torch.cat([env_info.get("_final_obs", nowhere) for env_info in infos])
            last = [final.get("final_obs", shown) for final, shown in zip(infos, observations, strict=True)]
            facts = [env_info.get("final_info", env_info) for env_info in infos]
            info |= {"final_obs": joined(last, self.names), "final_info": joined(facts, self.names)}
        return joined(observations, self.names), reward, terminated, truncated, info


def _alike(envs: Sequence[TorchVectorEnv]) -> TypeGuard[Sequence[World]]:
    """Whether environments are worlds of one kind without a state of their own beside rows, as often stepped.

    A user's world may draw from the global generators, of one seed at a time; an arena's rows belong together.
    """
    first = envs[0]
    if not isinstance(first, World) or (first.draws_globally and not isinstance(first, Arena)):
        return False
    kind = type(first)
    if kind.step is not World.step or kind.state_dict is not World.state_dict:
        return False
    return all(type(env) is kind and env.as_often_stepped(first) for env in envs)
