"""Several seeds or members of one scenario in one program: their systems are stacked as one, their environments stepped as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import torch

from antiphon.base.errors import DivergenceError, ScenarioError
from antiphon.engine.backends import StackedBackend, step_once
from antiphon.engine.environment import EnvironmentRunner, SignalledSteps
from antiphon.engine.episodes import REWARD, EpisodeStatistics
from antiphon.engine.heart.layout import name_in_seed
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.signals import Action
from antiphon.engine.heart.system import System
from antiphon.engine.live_system import Executor, LiveSystem, Reader
from antiphon.engine.metrics.report_by_agent import MeanAccumulator
from antiphon.engine.stacked import Stacked
from antiphon.engine.state.changes import differences_of, read_members
from antiphon.engine.state.state_dict import load_messages, restore_parameters, snapshot
from antiphon.engine.state.trees import join, joined, joined_signals, split_rows
from antiphon.envs.base import StepResult, TorchVectorEnv
from antiphon.envs.worlds.arena import Arena
from antiphon.envs.worlds.world import World
from antiphon.nets.mask import Mask
from antiphon.scenarios import Scenario


class Together(Executor):
    """Takes the steps of several running scenarios at once, its members (at first none), which differ in seeds and hyperparameters alone."""

    stacks = False

    def __init__(self) -> None:
        self.members: list[LiveSystem] = []
        self._behind = False
        self.loaded = False
        """Whether a state or hyperparameters have been loaded into a member since the last step."""

    def join(self, members: Sequence[LiveSystem]) -> None:
        """Step these together from here on; of fewer than two, and of those that leave, each goes on alone."""
        members = members if len(members) > 1 else []
        self._share()
        if self.members:
            self._world.go_on_with([n for n, running in enumerate(self.members) if running in members])
        for running in self.members:
            if running not in members:
                running.execute_by(Executor())
                running.restack()
        self.members = list(members)
        if not members:
            return
        self.bases = [running.system for running in members]
        self._world: JointSteps = JointSteps([running.world for running in members])
        self._backend = StackedBackend(*self.bases)
        self._means = MeanAccumulator(*self.bases)
        for member, running in enumerate(members):
            if running.executor is not self:
                running.execute_by(self)
            stacked = Stacked(self.bases[member], self._backend.system, member)
            running.compute_by(MemberBackend(self, member, stacked))  # type: ignore[arg-type]
        if any(running.now for running in members):
            self._load()

    def step(self, step: int, *, watch: Sequence[Watch]) -> list[Mask]:
        """Take a step of all members, and return which episodes of each have ended; those that diverge are not counted."""
        self.take_over()
        self._behind, backend, stopped = True, self._backend, self._stopped
        how: dict[str, Any] = {"confirm": self._share_before_stop, "watch": self._watched(watch)}
        try:
            ends, learned = step_once(backend, self._world, self._means, step, **how)
        except DivergenceError:
            raise
        except BaseException:
            for running in self.members:
                running.closed = True
            raise
        for member, running in enumerate(self.members):
            if member in stopped:
                running.diverge(stopped[member])
            else:
                running.count(learned.seen_by(running.backend.stacked))
        self._behind = True
        ended_by_member = split_rows(ends.ended.plain, len(self.members), backend.system.batch)
        return [Mask.of(ended) for ended in ended_by_member]

    @property
    def _stopped(self) -> dict[int, str]:
        return self._backend.system.stopped_seeds

    def _share_before_stop(self) -> None:
        """Leave to members that have diverged at the present step the means of before it."""
        if self._stopped:
            self._share()

    def _watched(self, watch: Sequence[Watch]) -> Watch:
        return any(channels is True for channels in watch) or {
            name_in_seed(name, member, len(watch))
            for member, channels in enumerate(watch)
            if not isinstance(channels, bool)
            for name in channels
        }

    def end_row(self) -> None:
        self._means.end_row()

    def revive(self, running: LiveSystem) -> None:
        """Let a member that has diverged go on, once a state is loaded into it."""
        self._share()
        if running in self.members:
            self._stopped.pop(self.members.index(running), None)

    # --- the state of the members ------------------------------------------------------------------------

    def take_over(self) -> None:
        if self.loaded:
            self._share()
            self._world.join()
            self._load()

    def _load(self) -> None:
        """Take over the state and the hyperparameters of all members, which they have by agent and channel."""
        for agents in self._backend.system.agents.values():
            read_members(agents)
        for channels in self._backend.system.channels.values():
            read_members(channels)
        self._backend.load_members()
        sums = {
            name_in_seed(name, member, len(self.members)): value
            for member, running in enumerate(self.members)
            for name, value in running.train_means.state_dict().items()
        }
        self._means.load_state_dict(sums)
        self.loaded = False

    def _share(self) -> None:
        """Bring environments and means of the members up to date, once a step."""
        if not self._behind:
            return
        self._behind = False
        self._world.share()
        sums, seeds = self._means.state_dict(), len(self.members)
        for member, (running, base) in enumerate(zip(self.members, self.bases, strict=True)):
            if running.diverged is None:  # else it has those of before
                names = {n: name_in_seed(n, member, seeds) for n in base.agents}
                running.train_means.load_state_dict(
                    {name: sums[at] for name, at in names.items() if at in sums}
                )

    def system(self, member: int) -> System:
        self._backend.per_agent()
        return self.bases[member]

    # --- an executor of each of them ---------------------------------------------------------------------

    def advance(self, running: LiveSystem, reader: Reader | None, watch: Watch) -> Mask:
        raise ScenarioError(
            "step: this simulation is one of several seeds that are trained together; use a fork of it"
        )

    def refresh(self, running: LiveSystem) -> None:
        self._share()

    def continue_as(self, running: LiveSystem, scenario: Scenario, system: System, event: str | None) -> None:
        """Go on with the hyperparameters of another system; ScenarioError where more than these would change in place."""
        if running not in self.members:  # not joined yet
            running.rebuild(scenario, system, event)
            return
        differences_of(running.scenario, scenario)
        running.take_values(scenario, system, event)
        self.loaded = True


class MemberBackend:
    """The backend of one of several running scenarios that are stepped together; its system is up to date when it is read."""

    name = "cohort"

    def __init__(self, together: Together, member: int, stacked: Stacked) -> None:
        self._together, self._member, self._stacked = together, member, stacked

    @property
    def stacked(self) -> Stacked:
        self._together.take_over()
        return self._stacked

    @property
    def system(self) -> System:
        return self._together.system(self._member)

    def per_agent(self) -> System:
        return self.system

    def synchronize(self) -> None:
        """Nothing to wait for: every step of several is checked at once."""

    def state_dict(self) -> dict[str, Any]:
        return snapshot(self.system)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `StackedBackend.load_state_dict`; open windows are replayed where a step follows."""
        load_messages(self.system, restore_parameters(self.system, state))
        self._together.loaded = True


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
        present = joined_signals([runner.step_signals for runner in self._runners])
        states = [{**runner.state_dict(), "present": None} for runner in self._runners]
        state = join(states, self.env.num_envs, self.env.device, lambda numbers: numbers[0])
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
