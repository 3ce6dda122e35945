"""PettingZoo's environments whose agents move one after the other in a step: its own conversion makes the same calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from antiphon.envs.adaptors.cycles import Cycle
from antiphon.errors import RunError
from tests.kit.worlds import batch_of

wrappers = pytest.importorskip("pettingzoo.utils.wrappers")
conversions = pytest.importorskip("pettingzoo.utils.conversions")
AECEnv: Any = pytest.importorskip("pettingzoo").AECEnv


class Ring(AECEnv):  # type: ignore[misc]
    """Three agents; `c` dies in the fourth step, and the episode ends after the sixth. What they observe is random.

    Args:
        jumps: Whether `c` moves before `b`.
    """

    def __init__(self, *, jumps: bool = False) -> None:
        super().__init__()
        self.metadata = {"is_parallelizable": True, "name": "ring"}
        self.possible_agents, self.render_mode = ["a", "b", "c"], None
        self.jumps, self.log = jumps, list[Any]()

    def observation_space(self, agent: str) -> spaces.Box:
        del agent
        return spaces.Box(-9, 9, (2,))

    def action_space(self, agent: str) -> spaces.Discrete:
        del agent
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        del options
        self.log.append(("reset", seed))
        self.numbers = np.random.default_rng(seed)
        self.agents, self.agent_selection, self.time = ["a", "b", "c"], "a", 0
        self.rewards, self._cumulative_rewards = (dict.fromkeys(self.agents, 0.0) for _ in range(2))
        self.terminations, self.truncations = (dict.fromkeys(self.agents, False) for _ in range(2))
        self.infos: dict[str, dict[str, Any]] = {who: {} for who in self.agents}

    def observe(self, agent: str) -> Any:
        self.log.append(("observe", agent))
        return self.numbers.normal(size=2).clip(-9, 9).astype(np.float32)

    def step(self, action: Any) -> None:
        who = self.agent_selection
        self.log.append((who, None if action is None else int(action)))
        if self.terminations[who] or self.truncations[who]:
            self._was_dead_step(action)
            return
        self.rewards = {other: float(action) * (1 + (other == who)) for other in self.agents}
        self.agent_selection = self.agents[(self.agents.index(who) + 1 + self.jumps) % len(self.agents)]
        if who == self.agents[-1]:
            self.time += 1
            self.terminations.update({"c": self.time == 4} if "c" in self.agents else {})
            self.truncations.update(dict.fromkeys(self.agents, self.time == 6))
        self._deads_step_first()


def conversion(env: Any) -> Any:
    return conversions.aec_to_parallel(wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(env)))


def test_a_step_makes_the_calls_of_the_conversion_and_returns_the_same() -> None:
    made = [Ring() for _ in range(2)]
    theirs, ours = conversion(made[0]), Cycle(conversion(made[1]))
    actions = np.random.default_rng(0).integers(0, 3, (18, 3))
    for number, row in enumerate(actions):
        if number % 6 == 0:
            assert str(theirs.reset(seed=number)) == str(ours.reset(seed=number))
        assert ours.agents == theirs.agents == ["a", "b", "c"][: 3 if number % 6 < 4 else 2]
        chosen = dict(zip(theirs.agents, row, strict=False))
        assert str(theirs.step(chosen)) == str(ours.step(chosen))
    assert ours.agents == theirs.agents == []
    assert made[0].log == made[1].log
    assert {"observe"} < {call for call, _ in made[0].log}


def test_it_is_taken_in_where_no_wrapper_below_holds_what_is_read_of_it() -> None:
    assert Cycle.taken_in(conversion(Ring()))
    assert not Cycle.taken_in(Ring())
    assert not Cycle.taken_in(conversions.aec_to_parallel(Ring()))

    class Doubled(wrappers.BaseWrapper):  # type: ignore[misc, name-defined]
        @property
        def rewards(self) -> dict[str, float]:
            return {who: 2 * reward for who, reward in self.env.rewards.items()}

    assert not Cycle.taken_in(conversion(Doubled(Ring())))
    holding = conversion(Ring())
    holding.aec_env.rewards = {}
    assert not Cycle.taken_in(holding)


def test_agents_out_of_turn_are_named() -> None:
    env = batch_of(conversion(Ring(jumps=True)))
    env.reset(seed=0)
    with pytest.raises(
        RunError,
        match=r"^env: 'ring' failed in step\(\): AssertionError: it is the turn of 'c', not of 'b'; let agents",
    ):
        env.step({})
