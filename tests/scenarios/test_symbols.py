"""Channels with messages of symbols, and with sampled ones: what is implied, what is refused, what is warned of."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.scenarios import Scenario
from tests.scenarios.made import channels, refused

WORDS: dict[str, Any] = {"sample": {"kind": "gumbel", "vocabulary": 8, "size": 2}}


def channel(**keys: Any) -> Any:
    return Scenario.model_validate(channels({**WORDS, **keys})).channels[0]


def written(scenario: Scenario) -> Scenario:
    return Scenario.from_yaml(scenario.to_yaml())


def test_the_size_is_vocabulary_times_length() -> None:
    assert channel().size == channel(size=16).size == channel(size=None).size == 16
    assert channel(size=[2, 8]).size == (2, 8)


@pytest.mark.parametrize("gradient", [None, {"context": []}, {"kind": "mlp"}])
def test_symbols_are_written_and_read(gradient: dict[str, Any] | None) -> None:
    keys = {} if gradient is None else {"gradient": gradient}
    scenario = Scenario.model_validate(channels({**WORDS, **keys}))
    assert written(scenario) == scenario
    assert written(scenario).to_yaml() == scenario.to_yaml()


def test_messages_that_a_policy_learns_are_detached() -> None:
    spoken = {"sample": {"kind": "reinforce", "vocabulary": 4}}
    goal = {"size": 3, "sample": {"kind": "gaussian", "noise": 0.5}}
    for keys in (spoken, goal):
        document = channels(keys)
        assert refused(document).endswith(
            "sampled messages are trained by their sender's policy, but 'a' has none; give it an objective of kind a2c, ppo or "
            "reinforce"
        )
        document["agents"]["a"]["objective"] = {"kind": "reinforce"}
        made = Scenario.model_validate(document).channels[0]
        assert made.coupling.name == "detached"
        assert made.learned_by_policy
    assert not channel().learned_by_policy
