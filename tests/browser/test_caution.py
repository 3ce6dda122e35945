"""A channel whose signal is right message by message and wrong in its sender's parameters: its panel says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from antiphon.telemetry import Figure
from antiphon.telemetry.tensorboard import TensorBoardRecorder
from tests.browser import runs
from tests.browser.served import tensorboard, wait_for_runs
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = [runs.channel_name(channel) for channel in runs.CHANNELS[:3]]


@pytest.fixture(scope="module")
def address(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where TensorBoard shows a run: the first channel's parameters agree at step 1 and contradict at step 10."""
    folder = tmp_path_factory.mktemp("caution")
    recorder = TensorBoardRecorder(folder / "run")
    recorder.begin(runs.description(runs.AGENTS, runs.CHANNELS[:3]))
    for step, parameters in ((1, (0.7, 0.5, 0.6)), (10, (-0.25, 0.5, 0.6))):
        rows = [Figure("channel", n, "parameter_cosine", v) for n, v in zip(NAMES, parameters, strict=True)]
        rows += [Figure("channel", n, "cosine", v) for n, v in zip(NAMES, (0.8, 0.8, 0.3), strict=True)]
        recorder.figures(step, rows)
    recorder.close()
    with tensorboard(folder) as found:
        wait_for_runs(found, {"run"})
        yield found


def test_a_panel_warns_at_the_steps_at_which_the_two_cosines_contradict(page: Page, address: str) -> None:
    tab = Tab.alone(page, address, "run")
    tab.select("channel", 0)
    caution = tab.part("signal-caution")
    assert (
        "(cosine 0.80), but the sender's parameters follow another direction (-0.25)" in caution.inner_text()
    )
    tab.at(1)
    assert not caution.is_visible()
    tab.at(10)
    assert caution.is_visible()
    for channel in (1, 2):
        tab.select("channel", channel)
        assert not tab.part("signal-caution").is_visible()
