"""Windows of learning groups (semantics 14, 16, 27a)."""

from __future__ import annotations

from antiphon.base.problems import DocumentError
from antiphon.engine.heart.clock import Clock, EpisodeWindows, StepWindows, WindowGrid
from antiphon.envs.signal import Description
from antiphon.scenarios.scenario import Scenario


def windows_of(
    scenario: Scenario, members: tuple[str, ...], env: Description, episode: EpisodeWindows | None
) -> WindowGrid:
    """Return the windows of a learning group; `episode`: of those that learn once an episode, where its length varies.

    ScenarioError where the window is the episode, but episodes have no known length, or too great a one.
    """
    window = scenario.relations.window(members)
    if window == "episode":
        return _episodes(scenario, members, env, episode)
    first = scenario.agents[members[0]].clock
    if all(len(scenario.relations.locked[name]) == 1 for name in members):
        assert isinstance(first.unroll, int)
        return StepWindows.of_ticks(Clock(first.period, first.phase), first.unroll)
    return StepWindows(window)


def _episodes(
    scenario: Scenario, members: tuple[str, ...], env: Description, episode: EpisodeWindows | None
) -> WindowGrid:
    name = next((n for n in members if scenario.agents[n].clock.unroll == "episode"), members[0])
    path = ("agents", name, "clock", "unroll")
    declared = scenario.agents[name].clock.unroll == "episode"
    longest = env.longest_episode if env.episode_steps is None else env.episode_steps
    if longest is None and not declared:
        raise DocumentError(
            ("agents", name),
            "its locked state makes its window a whole episode, and this environment's episodes have no known length; "
            "use coupling detached or decoupled for the state",
        )
    if longest is None:
        fix = "use a number of ticks, such as 16"
        raise DocumentError(path, f"'episode' needs episodes of one known length; {fix}")
    if env.episode_steps is not None:
        return StepWindows(env.episode_steps)
    assert episode is not None
    return episode
