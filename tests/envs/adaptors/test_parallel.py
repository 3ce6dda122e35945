"""PettingZoo's parallel worlds: signals and parts by agent, agents that die, resets in the same step."""

import sys
from functools import partial
from typing import Any

import pytest
import torch
from gymnasium import spaces

import antiphon
from antiphon import envs
from antiphon.errors import RunError, ScenarioError
from tests.envs.adaptors import parallel_worlds
from tests.envs.adaptors.parallel_worlds import Mines, SavedMines
from tests.kit.worlds import batch_of

WALK = {"low": torch.tensor([2, 1]), "high": torch.tensor([[-1.0], [-1.0]])}
"""In the first copy `low` goes up by 1 a step, in the second it stays."""


def mines(
    batch: int = 2, kind: type[Mines] = Mines, dtype: torch.dtype = torch.float32, **options: Any
) -> envs.TorchVectorEnv:
    return batch_of(*(kind(**options) for _ in range(batch)), dtype=dtype)


def test_signals_and_parts_of_the_action_are_by_agent() -> None:
    env = mines()
    own = envs.Signal(training_only=True, known="after_step")
    end = envs.Signal(training_only=True, known="after_step", low=0.0, high=1.0)
    place = envs.Signal(shape=(1,), low=-99.0, high=99.0)
    ends = {f"{key}{who}": end for key in ("terminated", "truncated") for who in ("", ".low", ".high")}
    assert env.signals == {
        "low.observation": place,
        "high.place": place,
        "high.sign": envs.Signal(classes=2),
        "state": envs.Signal(shape=(2,), low=-99.0, high=99.0, training_only=True),
        "reward": own,
        "reward.low": own,
        "reward.high": own,
        **{f"alive.{who}": envs.Signal(training_only=True, low=0.0, high=1.0) for who in ("low", "high")},
        **ends,
    }
    box = spaces.Box(-2, 2, (1,))
    assert env.single_action_space == spaces.Dict({"low": spaces.Discrete(3), "high": box})


@pytest.mark.parametrize("kind", [Mines, SavedMines])
def test_contract(kind: type[Mines]) -> None:
    envs.check_vector_env(partial(mines, 3, kind), steps=20)


def test_an_agent_that_died_is_masked_until_the_episode_ends() -> None:
    env = mines(mine=2)
    obs, _info = env.reset(seed=4)
    start = obs["low.observation"].flatten()
    assert start.tolist() == [1, 0] or start.tolist() == [0, 1] or len(set(start.tolist())) == 1
    found = [env.step(WALK) for _ in range(4)]
    death = int(2 - start[0])  # the step in which `low` of the first copy reaches the mine
    for step, (seen, reward, terminated, truncated, facts) in enumerate(found, start=1):
        alive = step <= death
        assert facts["_reward.low"].tolist() == [alive, True]
        assert facts["_reward.high"].tolist() == [True, True]
        assert facts["terminated.low"].tolist() == [step == death, 0]
        if alive:
            assert facts["reward.low"][0] == start[0] + step
            assert reward[0] == (facts["reward.low"][0] + facts["reward.high"][0]) / 2
        else:
            assert facts["reward.low"][0] == 0
            assert reward[0] == facts["reward.high"][0]
        if not alive and step < 4:
            assert seen["low.observation"][0] == 0
        assert not bool(terminated.any())
        assert truncated.tolist() == facts["truncated"].tolist() == [step == 4] * 2
    assert set(found[-1][4]["final_info"]) == {"state", "alive.low", "alive.high"}
    assert found[-1][4]["final_obs"]["high.place"].flatten().tolist() == [
        *(obs["high.place"].flatten() - 4).tolist()
    ]
    assert found[-1][0]["low.observation"].abs().max() <= 1  # the next episode has begun
    env = mines(1, mine=2, limit=9, dtype=torch.float64)
    assert env.reset(seed=1)[0]["low.observation"].item() == 0
    up = {"low": torch.tensor([2]), "high": torch.tensor([[9.0]], dtype=torch.float64)}  # cut to 2
    ends = [env.step(up)[2:4] for _ in range(2)]
    assert [(bool(a), bool(b)) for a, b in ends][-1] == (True, False), "all have died"


def test_a_state_is_the_copies_own() -> None:
    with pytest.raises(RunError, match=r"env: 'mines_v0' cannot be forked; give it state_dict and"):
        mines().state_dict()
    env = mines(kind=SavedMines)
    env.reset(seed=0)
    env.step(WALK)
    state = env.state_dict()
    twin = mines(kind=SavedMines)
    twin.load_state_dict(state)
    for _ in range(6):
        one, other = env.step(WALK), twin.step(WALK)
        assert torch.equal(one[1], other[1])
        assert torch.equal(one[0]["low.observation"], other[0]["low.observation"])


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module under a name of a document, imported already."""
    monkeypatch.setitem(sys.modules, "parallel_worlds_of_a_test", parallel_worlds)


def test_a_document_names_a_module_with_a_parallel_world(named: None) -> None:
    foot = {"observes": ["low.observation"], "objective": {"kind": "regression", "target": "reward.low"}}
    env = {"id": "pettingzoo/parallel_worlds_of_a_test", "limit": 3}
    document = {"scenario": "mines", "env": env, "agents": {"foot": foot}, "training": {"batch": 2}}
    scenario = antiphon.Scenario.model_validate(document)
    assert antiphon.Scenario.from_yaml(scenario.to_yaml()) == scenario
    with antiphon.Simulation(scenario) as simulation:
        simulation.run(steps=10)


class Odd(Mines):
    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Graph(spaces.Discrete(2), None)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"id": "pettingzoo/mpe2.simple_speaker_listener_v4"}, "mpe2 is not installed; pip install"),
        (
            {"id": "pettingzoo/os.path"},
            "os.path has no parallel_env or env; name the module of an environment",
        ),
        (
            {"id": "pettingzoo/nothing_here.world_v0"},
            "a scenario file may not import 'nothing_here'; allow it with",
        ),
        (
            {"id": "pettingzoo/parallel_worlds_of_a_test", "render_mode": "human"},
            "env.render_mode: 'parallel_worlds_of_a_test' has no 'human'; known: rgb_array",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(spec: dict[str, Any], expected: str, named: None) -> None:
    if "mpe2" in spec["id"] and _installed("mpe2"):
        pytest.skip("mpe2 is installed")
    with pytest.raises(ScenarioError) as caught:
        envs.make(spec, batch=2)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def test_a_space_without_translation_names_its_signal() -> None:
    reasons = mines(kind=Odd).description.unreadable
    assert reasons["low.observation"].startswith(
        "the observation 'low.observation' is a Graph; flatten it to Box"
    )
    with pytest.raises(ScenarioError, match=r"env: object is not an environment of PettingZoo"):
        batch_of(object())
