"""Parts of a scenario compute what follows from their fields once; copies and other processes compute it anew."""

from __future__ import annotations

import pickle

import pytest

from antiphon import Scenario, ScenarioError
from antiphon.scenarios import ChannelSpec, LinkSpec
from antiphon.scenarios.agent_specs import ClockSpec


def test_a_copy_with_other_fields_computes_what_follows_from_them_anew() -> None:
    channel = ChannelSpec.model_validate({"from": "a", "to": "b", "coupling": "locked", "link": {"delay": 2}})
    assert (channel.coupling.name, channel.link.delay, channel.name) == ("locked", 2, "a->b")
    other = {
        "receiver": "c",
        "written_coupling": ChannelSpec.model_fields["written_coupling"].default,
        "link": LinkSpec(),
    }
    copied = channel.model_copy(update=other)
    assert (copied.coupling.name, copied.link.delay, copied.name) == ("decoupled", 0, "a->c")


def test_a_part_in_which_all_is_default_shows_its_numbers_and_words() -> None:
    assert repr(ClockSpec()) == "ClockSpec(period=1, phase=0, unroll=1)"
    assert repr(ClockSpec(unroll=3)) == "ClockSpec(unroll=3)"


def test_what_is_computed_is_no_part_of_what_another_process_gets() -> None:
    channel = ChannelSpec.model_validate({"from": "a", "to": "b"})
    fresh = pickle.dumps(channel)
    assert (channel.coupling.name, channel.link.delay) == ("decoupled", 0)
    assert pickle.dumps(channel) == fresh
    assert pickle.loads(fresh) == channel


def test_a_value_without_its_key_is_refused_in_one_line() -> None:
    line = r"^Scenario\('x'\): takes keys by name; write antiphon.load\(…\) for a library name or a file, antiphon"
    with pytest.raises(ScenarioError, match=line):
        Scenario("x")
    with pytest.raises(ScenarioError, match=r"^ClockSpec\(3\): takes keys by name; name them$"):
        ClockSpec(3)
