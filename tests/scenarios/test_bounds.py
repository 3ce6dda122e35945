"""Bounds that are shown are those that are enforced: by `antiphon show` of parameters, and by every refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from antiphon.base.errors import ScenarioError
from antiphon.base.problems import DocumentError
from antiphon.base.spec import Spec, written_key
from antiphon.envs import ids, options_of
from antiphon.scenarios import catalogue
from antiphon.scenarios.parameters import ParameterSpec
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.study_spec import StudySpec
from tests.kit.kinds import kinds_of, own_keys_of, sections
from tests.kit.tiers import sampled

LIBRARY = catalogue()
_SHOWN = re.compile(r"(>=|>|<=) (\S+)")
_NAMED = re.compile(r"must be (at least|greater than|at most|less than) (\S+), not ")
_NEAR = 1e-9
"""How far a value lies from a bound that it must not have."""


@pytest.mark.parametrize("name", sampled(LIBRARY, 5))
def test_the_bounds_of_a_parameter_are_those_of_its_settings(name: str) -> None:
    template = LIBRARY[name]
    parameters = template.parameters
    # a count of agents may need as few readouts, and a loss of messages no further passes
    least: dict[str, Any] = {
        key: int(one.min) for key, one in parameters.items() if one.type == "int" and one.min is not None
    } | ({"passes": "first"} if "passes" in parameters else {})

    def refused(values: Mapping[str, Any]) -> str:
        try:
            template.resolve(None, values)
        except ScenarioError as error:
            return str(error)
        return ""

    for key, one in parameters.items():
        for sign, limit in _SHOWN.findall(one.accepts):
            value = type(one.default)(float(limit))
            value += _NEAR if sign == ">" else 0
            assert not (refused({key: value}) and refused({**least, key: value})), (key, one.accepts)


def test_a_bound_above_which_values_must_be_is_shown_and_refused_as_such() -> None:
    lr = ParameterSpec(default=0.1, above=0, max=1)
    assert lr.accepts == "float > 0 <= 1"
    assert lr.problem(0.0) == "must be greater than 0, not 0.0"
    assert lr.problem(1e-12) is None
    with pytest.raises(DocumentError, match=r"default: must be greater than 0, not 0\.0"):
        ParameterSpec(default=0.0, above=0)
    assert ParameterSpec(default=7, min=1, max=2**20).accepts == "int >= 1 <= 1048576"


def _specs() -> Iterator[type[Spec]]:
    """Yield every section of a scenario, population or study, each with the keys of every kind and environment."""
    for section in sections():
        for kind in kinds_of(section):
            own_keys_of(section, kind)
    for env in ids():
        options_of(env)
    assert PopulationSpec.model_fields.keys() & StudySpec.model_fields.keys()
    found = [Spec]
    for spec in found:
        found += [one for one in spec.__subclasses__() if one not in found]
    yield from (spec for spec in found if spec.__module__.startswith("antiphon."))


def _refusal(spec: type[Spec], key: str, value: Any) -> str:
    """Return what is said of the value of a key, whatever else is missing."""
    try:
        spec.model_validate({key: value})
    except DocumentError as error:
        return "; ".join(str(one) for one in error.separate() if one.path == (key,))
    except ScenarioError as error:
        return str(error)
    return ""


@pytest.mark.long
def test_every_bound_that_a_refusal_names_is_accepted() -> None:
    bounded = set()
    for spec in _specs():
        keys = {written_key(spec, field) for field in spec.model_fields if field not in spec.refused}
        for key in sorted(keys - {"kind"}):
            for beyond in (-1, 2**60, -1.0, 1.0e12):
                for words, limit in _NAMED.findall(_refusal(spec, key, beyond)):
                    bound = float(limit)
                    value = type(beyond)(bound) if bound.is_integer() else bound
                    value += {"greater than": _NEAR, "less than": -_NEAR}.get(words, 0)
                    bounded.add((spec.__name__, key))
                    assert "must be" not in _refusal(spec, key, value), (spec.__name__, key, beyond)
    assert len(bounded) > 100
