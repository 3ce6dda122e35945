"""What is taken out of the tab: CSV, JSON, SVG."""

from __future__ import annotations

import csv
import io
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.browser import runs
from tests.browser.numbers import Events
from tests.browser.tab import Tab, documents

if TYPE_CHECKING:
    from playwright.sync_api import Page

SVG = "{http://www.w3.org/2000/svg}"


def test_csv_has_all_rows_of_the_figure(tab: Tab, logdir: Path) -> None:
    """With the numbers of the event file, to the last digit of float32."""
    tab.choose("figure", "cosine")
    rows = list(csv.DictReader(io.StringIO(tab.downloaded("csv-channel"), newline="")))
    logged = Events(logdir / "made").figure("antiphon/channel/cosine")
    names = [runs.channel_name(channel) for channel in runs.CHANNELS]
    found = {(int(row["step"]), row["name"]): row["value"] for row in rows if row["metric"] == "cosine"}
    for step, values in logged.items():
        for name, value in zip(names, values, strict=True):
            if np.isnan(value):
                assert found.get((step, name), "") in ("", "nan", "NaN")
            else:
                assert np.float32(found[step, name]) == value


def test_csv_of_hostile_names_holds_no_formula(page: Page, address: str) -> None:
    """A name that begins like a formula is prefixed; commas and line ends are quoted."""
    tab = Tab.alone(page, address, runs.HOSTILE_RUN)
    tab.choose("figure", "sg_loss")
    rows = list(csv.reader(io.StringIO(tab.downloaded("csv-channel"), newline="")))
    assert {len(row) for row in rows} == {4}
    names = {row[1] for row in rows[1:]}
    assert not [name for name in names if name.startswith(("=", "+", "-", "@"))]
    whole = {f"{one}->{other}" for one, other in itertools.pairwise(runs.HOSTILE)}
    assert names == {f"'{name}" if name.startswith("=") else name for name in whole}


def test_json_has_the_step_that_is_shown(tab: Tab, logdir: Path) -> None:
    """Of the figure chosen, by name."""
    tab.choose("figure", "sg_loss")
    tab.at(50)
    content = documents(tab.downloaded("json"))
    logged = Events(logdir / "made").figure("antiphon/channel/sg_loss")[50]
    assert content["run"] == "made"
    assert content["step"] == 50
    numbers = leaves(content)
    for value in logged:
        assert any(math.isclose(value, number, rel_tol=1e-6) for number in numbers)
    assert runs.channel_name(runs.CHANNELS[1]) in str(content)


def leaves(content: object) -> list[float]:
    """Return all numbers in a document."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return [number for item in content for number in leaves(item)]
    return [float(content)] if isinstance(content, int | float) else []


@pytest.mark.parametrize("view", ["graph", "matrix", "timeline"])
def test_svg_is_a_picture_of_the_view(tab: Tab, view: str) -> None:
    """Well-formed, with the agents' names, and nothing that runs or is fetched."""
    tab.push(f"view-{view}")
    root = ElementTree.fromstring(tab.downloaded("svg"))
    assert root.tag == f"{SVG}svg"
    text = " ".join("".join(node.itertext()) for node in root.iter(f"{SVG}text"))
    assert all(name in text for name in ("left", "slow", "mind"))
    for node in root.iter():
        assert node.tag in {
            f"{SVG}{name}"
            for name in ("svg", "g", "path", "rect", "circle", "line", "text", "title", "tspan")
        }
        assert not [name for name in node.attrib if name.lower().startswith("on") or "href" in name]


def test_svg_of_hostile_names_holds_them_as_text(page: Page, address: str) -> None:
    """They are escaped: the file is well-formed, and says them."""
    tab = Tab.alone(page, address, runs.HOSTILE_RUN)
    root = ElementTree.fromstring(tab.downloaded("svg"))
    assert not list(root.iter(f"{SVG}img"))
    assert not list(root.iter(f"{SVG}script"))
