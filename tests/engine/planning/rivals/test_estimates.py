"""The closing sentence of a plan."""

from __future__ import annotations

from antiphon.engine.planning.rivals.estimates import compare_seconds


def test_it_names_those_that_are_slower_quicker_and_level_with_their_ratios() -> None:
    found = compare_seconds(
        "there", 10.0, {"locked": 125.0, "async": 30.0, "local": 5.0, "delayed": 10.5, "other": None}
    )
    assert found == (
        "On there decoupling pays against locked (12x faster), async (3.0x faster) and other (never there), "
        "but not against local (2.0x slower), and is level with delayed."
    )


def test_it_does_not_pay_against_those_that_are_quicker() -> None:
    found = compare_seconds("there", 10.0, {"locked": 5.0, "local": 2.0, "delayed": 10.0})
    assert found == (
        "On there decoupling does not pay against locked (2.0x slower) and local (5.0x slower), and is level with delayed."
    )


def test_it_pays_where_it_is_the_quickest_and_is_level_with_its_equals() -> None:
    assert (
        compare_seconds("there", 1.0, {"locked": 2.0})
        == "On there decoupling pays against locked (2.0x faster)."
    )
    assert compare_seconds("there", 1.0, {"locked": 1.05}) == "On there decoupling is level with locked."


def test_a_run_that_does_not_reach_the_target_does_not_pay() -> None:
    found = compare_seconds("there", None, {"locked": 2.0, "local": None})
    assert found == "On there decoupling does not pay: it does not reach the target, which locked reaches."
    found = compare_seconds("there", None, {"locked": 2.0, "local": 1.0})
    assert found.endswith("which locked and local reach.")
    assert compare_seconds("there", None, {"locked": None}).endswith("it does not reach the target.")
