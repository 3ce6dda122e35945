"""The Channels tab, as somebody uses it: looks, clicks and keys."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Frame, Locator, Page

_APP = "document.querySelector('[data-antiphon]')?.antiphon"


class Tab:
    """The tab in a page.

    Args:
        page: The page.
        frame: Where the tab is: the page's own frame, or the one that TensorBoard puts it in.
    """

    def __init__(self, page: Page, frame: Frame) -> None:
        self.page = page
        self.frame = frame
        frame.wait_for_function(f"{_APP}?.ready.then(() => true)")

    @classmethod
    def alone(cls, page: Page, address: str, run: str | None = None) -> Tab:
        """Open the tab's own page, without TensorBoard around it."""
        page.goto(f"{address}/data/plugin_entry.html?name=antiphon")
        tab = cls(page, page.main_frame)
        if run is not None:
            tab.choose("run", run)
        return tab

    @classmethod
    def inside(cls, page: Page) -> Tab:
        """Find the tab in TensorBoard's page."""
        frame = page.wait_for_selector(
            "iframe[src*='name=antiphon']"
        ).content_frame()  # its address comes later
        assert frame is not None
        return cls(page, frame)

    def ask(self, expression: str, *arguments: Any) -> Any:
        """Return what an expression of `app` (and `a`, the arguments) is, waited for."""
        return self.frame.evaluate(
            f"async (a) => {{ const app = {_APP}; return await ({expression}); }}", list(arguments)
        )

    def idle(self) -> None:
        """Wait until all that was asked for is shown."""
        self.ask("app.idle()")

    def part(self, testid: str) -> Locator:
        """Return what bears a test id."""
        return self.frame.get_by_test_id(testid)

    def choose(self, testid: str, value: str) -> None:
        """Choose from one of the lists."""
        self.part(testid).select_option(value)
        self.idle()

    def at(self, step: int) -> None:
        """Show a step."""
        self.ask("app.layout.player.setStep(a[0])", step)
        self.idle()

    def push(self, testid: str) -> None:
        """Click a button."""
        self.part(testid).click()
        self.idle()

    def fill(self, testid: str, text: str) -> None:
        """Write into the search."""
        self.part(testid).fill(text)
        self.idle()

    def press(self, *keys: str) -> None:
        """Press keys, one after another."""
        for key in keys:
            self.page.keyboard.press(key)
        self.idle()

    @property
    def step(self) -> int:
        """The step that is shown."""
        return int(self.part("step").get_attribute("data-step") or 0)

    def point(self, kind: str, index: int) -> tuple[float, float]:
        """Return where an agent or channel is in the graph or matrix, in pixels of the page."""
        place = self.ask("app.layout.stage.view.pointOf(...a)", kind, index)
        box = {"x": 0.0, "y": 0.0}
        if self.frame.parent_frame is not None:
            box = self.frame.frame_element().bounding_box() or box
        return box["x"] + place["x"], box["y"] + place["y"]

    def click(self, kind: str, index: int) -> None:
        """Click an agent or channel in the graph or matrix with the mouse."""
        x, y = self.point(kind, index)
        self.page.mouse.move(x, y)
        self.page.mouse.click(x, y)
        self.idle()

    def pixels(self, place: tuple[float, float], reach: int = 3) -> np.ndarray[Any, Any]:
        """Return what is seen around a place of the page: [height, width, 3]."""
        x, y = place
        clip = {"x": x - reach, "y": y - reach, "width": 2.0 * reach, "height": 2.0 * reach}
        png = self.page.screenshot(clip=clip)  # type: ignore[arg-type]
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    @property
    def title(self) -> str:
        """What the panel is about; a channel as in the scenario."""
        return self.part("panel-title").get_attribute("title") or ""

    def number(self, metric: str) -> float:
        """Return a number of the panel, in full."""
        return float(self.part(f"number-{metric}").get_attribute("data-value") or "nan")
