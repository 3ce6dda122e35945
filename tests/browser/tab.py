"""The Channels tab, as somebody uses it: looks, clicks and keys, and the few things it tells of itself."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tests.browser.numbers import Colour, parsed

if TYPE_CHECKING:
    from playwright.sync_api import Frame, Locator, Page

_ROOT = "document.querySelector('[data-antiphon]')"
_READY = f"{_ROOT} && {_ROOT}.antiphon && {_ROOT}.antiphon.ready.then(() => true)"


_RECORD = """(async () => {
  const pen = CanvasRenderingContext2D.prototype;
  const kept = [pen.stroke, pen.fillText];
  const found = { strokes: [], texts: [] };
  pen.stroke = function () {
    found.strokes.push([this.strokeStyle, this.lineWidth, this.getLineDash()]);
    kept[0].call(this);
  };
  pen.fillText = function (text, x, y) {
    const place = this.getTransform().transformPoint({ x, y });
    found.texts.push([text, place.x, place.y]);
    kept[1].call(this, text, x, y);
  };
  app.view().redraw();
  await app.idle();
  [pen.stroke, pen.fillText] = kept;
  return found;
})()"""


class Tab:
    """The tab in a page.

    Args:
        page: The page.
        frame: Where the tab is: the page's own frame, or the one that TensorBoard puts it in.
    """

    def __init__(self, page: Page, frame: Frame) -> None:
        self.page = page
        self.frame = frame
        frame.wait_for_function(_READY)

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
            f"async (a) => {{ const app = {_ROOT}.antiphon; return await ({expression}); }}", list(arguments)
        )

    def idle(self) -> None:
        """Wait until all that was asked for is shown."""
        self.ask("app.idle()")

    def part(self, testid: str) -> Locator:
        """Return what bears a test id."""
        return self.frame.get_by_test_id(testid)

    def choose(self, testid: str, value: str) -> None:
        """Choose from one of the lists above."""
        self.part(testid).select_option(value)
        self.idle()

    def at(self, step: int) -> None:
        """Show a step."""
        self.ask("app.setStep(a[0])", step)
        self.idle()

    def select(self, kind: str, index: int) -> None:
        """Select an agent or a channel by its number."""
        self.ask("app.select(...a)", kind, index)
        self.idle()

    def push(self, testid: str) -> None:
        """Click a button."""
        self.part(testid).click()
        self.idle()

    def fill(self, testid: str, text: str) -> None:
        """Write into the search or the filter."""
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
        return int(self.ask("app.step()"))

    def colours(self, kind: str = "channel", side: int = 0) -> list[Colour]:
        """Return the colours of all channels, or of all agents' rings, at the step that is shown."""
        name, count = ("channelColour", "channels") if kind == "channel" else ("agentRing", "agents")
        found = self.ask(
            f"Array.from({{length: app.counts(a[0]).{count}}}, (_, i) => app.{name}(i, a[0]))", side
        )
        return [parsed(colour) for colour in found]

    def point(self, method: str, *arguments: Any) -> tuple[float, float]:
        """Return a point of the page that the view names, in pixels of the page."""
        place = self.ask(f"(app.{method} ? app.{method}(...a) : app.view().{method}(...a))", *arguments)
        assert place is not None, f"{method}{arguments}: not in sight"
        box = {"x": 0.0, "y": 0.0}
        if self.frame.parent_frame is not None:
            box = self.frame.frame_element().bounding_box() or box
        return box["x"] + place["x"], box["y"] + place["y"]

    def click(self, method: str, *arguments: Any) -> None:
        """Click such a point with the mouse."""
        x, y = self.point(method, *arguments)
        self.page.mouse.move(x, y)
        self.page.mouse.click(x, y)
        self.idle()

    def is_drawn(self, colour: Colour, place: tuple[float, float], reach: int = 7) -> bool:
        """Return whether a line of a colour passes near a place.

        A thin line is nowhere of its full colour: a pixel counts that is a mixture of paper and at least two fifths of it.
        """
        x, y = place
        pixels = self.pixels({"x": x - reach, "y": y - reach, "width": 2 * reach, "height": 2 * reach})
        colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
        paper = colours[counts.argmax()].astype(float)
        way = np.array(colour) - paper
        off = pixels.reshape(-1, 3) - paper
        share = (off @ way / (way @ way)).clip(0.4, 1.0)
        return bool((np.abs(off - share[:, None] * way).max(1) <= 12).any())

    def pixel(self, place: tuple[float, float]) -> Colour:
        """Return the colour of one pixel of the page."""
        red, green, blue = self.pixels({"x": place[0], "y": place[1], "width": 1, "height": 1})[0, 0]
        return int(red), int(green), int(blue)

    def pixels(self, clip: dict[str, float]) -> np.ndarray[Any, Any]:
        """Return what is seen in a rectangle of the page: [height, width, 3]."""
        png = self.page.screenshot(clip=clip)  # type: ignore[arg-type]
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    @property
    def title(self) -> str:
        """What the panel is about; a channel as in the scenario."""
        return self.part("panel-title").get_attribute("title") or ""

    def number(self, metric: str, *, beside: bool = False) -> float:
        """Return a number of the panel, in full."""
        shown = self.part(f"number-{'beside-' if beside else ''}{metric}").first
        return float(shown.get_attribute("data-value") or "nan")

    def drawn(self) -> tuple[list[tuple[Colour, float, tuple[float, ...]]], list[tuple[str, float, float]]]:
        """Return what the view draws: its strokes (colour, width, dashes), and its texts with their place on the canvas."""
        found = self.ask(_RECORD)
        strokes = [(parsed(colour), width, tuple(dashes)) for colour, width, dashes in found["strokes"]]
        return strokes, [(text, x, y) for text, x, y in found["texts"]]
