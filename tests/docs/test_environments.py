"""The tables of docs/environments.md: every id of the library, and every option as its class declares it."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon import envs

PAGE = (Path(__file__).parents[2] / "docs/environments.md").read_text(encoding="utf-8")
LIBRARY = [name for name in envs.ids() if name.startswith("antiphon/")]
PICTURES = [f"antiphon/{name}-v0" for name in ("Digits", "Mnist", "Cifar10")]
"""Their options differ in the default of `data` alone."""


@pytest.mark.parametrize("name", LIBRARY)
def test_the_page_has_every_environment_and_its_options(name: str) -> None:
    assert f"`{name.removeprefix('antiphon/')}`" in PAGE.partition("\n## ")[0]
    for key, meaning, default in envs.options_of(name).rows():
        found = "by the id" if key == "data" and name in PICTURES else default
        row = f"| `{key}` | {meaning} | {found} |"
        assert row in PAGE, f"docs/environments.md needs this row of {name}:\n{row}"
