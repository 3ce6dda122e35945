"""Metrics of policies: means over the windows since the last row, the same after a resume."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon import Simulation
from antiphon.scenarios import Scenario
from antiphon.telemetry.history import History
from tests.engine.scenes import scenario_of
from tests.reference.backend import reference

OF_PPO = {"policy_loss", "value_loss", "entropy", "explained_variance", "approx_kl", "clip_fraction"}


def poles(kind: str = "ppo", every: int = 6, **goal: Any) -> Scenario:
    goal = {"kind": kind, **({"epochs": 2, "minibatches": 2} if kind == "ppo" else {}), **goal}
    motor = {
        "observes": ["observation"],
        "network": {"kind": "mlp", "hidden": [4]},
        "acts": True,
        "objective": goal,
        "clock": {"unroll": 4},
    }
    env = {"id": "antiphon/CartPole-v0", "limit": 5}
    return scenario_of({"motor": motor}, env=env, batch=3, steps=12, telemetry={"period": every})


def rows(simulation: Simulation, steps: int) -> list[tuple[int, str, float]]:
    history = History()
    simulation.recorders.append(history)
    simulation.run(steps)
    return [(row.step, row.metric, row.value) for row in history if row.name == "motor"]


def test_a_row_has_the_mean_over_its_windows() -> None:
    with Simulation(poles(every=4)) as simulation:
        windows = rows(simulation, 12)
    with Simulation(poles(every=12)) as simulation:
        together = {metric: value for step, metric, value in rows(simulation, 12) if step == 12}
    assert together.keys() >= OF_PPO
    for name in OF_PPO:
        each = [value for step, metric, value in windows if metric == name and step > 1]
        assert len(each) == 3
        assert together[name] == pytest.approx(sum(each) / 3, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", ["ppo", "reinforce"])
@pytest.mark.parametrize("settings", [{}, {"backend": reference}], ids=["cohort", "reference"])
def test_the_return_in_the_log_is_that_of_episodes_and_the_values_target_is_another_metric(
    kind: str, settings: dict[str, Any]
) -> None:
    """Rewards are 1 a step for at most 5 steps: no return is more, and of running episodes it is the step.

    Every entry has it, also before the first window of reinforce, which learns from an episode that has ended.
    """
    history = History()
    with Simulation(poles(kind, every=4, discount=1.0), **settings) as simulation:
        simulation.recorders.append(history)
        simulation.run()
    returns, targets = (
        dict(zip(*history.of("motor", name), strict=True)) for name in ("return", "value_target")
    )
    assert returns == {1: 1.0, 4: 4.0, 8: 5.0, 12: 5.0}
    assert dict(zip(*history.of("", "episode_return"), strict=True)) == {8: 5.0, 12: 5.0}
    assert targets.keys() == returns.keys() - ({1, 4} if kind == "reinforce" else {1})
    assert not targets.items() & returns.items()
