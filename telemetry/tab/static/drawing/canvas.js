// Canvases: their pixels, straight lines on them, and the pointer over them.

/** Give a canvas as many pixels as it needs for a size on the page; whether it has others than before, and is empty. */
export function fitCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [wide, tall] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width === wide && canvas.height === tall) return false;
  canvas.width = wide;
  canvas.height = tall;
  return true;
}

/** Return the pen of a canvas, which is emptied; a unit of it is so many pixels. */
export function clearedPen(canvas, scale = 1) {
  const pen = canvas.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  return pen;
}

/** Draw a straight line. */
export function strokeLine(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

/** Listen to the pointer over a canvas, in px from its corner, `on` hover(x, y), leave(), click(x, y), twice(x, y), drag(across, down) since the last call, zoom(factor, x, y). */
export function listenToPointer(canvas, on) {
  let last = null;
  let dragged = false;
  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top]; // offsetX is whole: too coarse for cells of half a pixel
  };
  const listen = (name, handler) => canvas.addEventListener(name, (event) => handler(event, ...spot(event)), { passive: false });
  listen("pointerdown", (event, x, y) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    [last, dragged] = [[x, y], false];
  });
  listen("pointermove", (event, x, y) => {
    if (!last) return on.hover(x, y);
    const [across, down] = [x - last[0], y - last[1]];
    if (!dragged && Math.hypot(across, down) < 4) return;
    [last, dragged] = [[x, y], true];
    on.drag(across, down);
  });
  listen("pointerup", (event, x, y) => {
    if (last && !dragged) on.click(x, y);
    last = null;
  });
  listen("pointercancel", () => (last = null));
  listen("pointerleave", () => on.leave());
  listen("dblclick", (event, x, y) => on.twice(x, y));
  listen("wheel", (event, x, y) => {
    event.preventDefault();
    on.zoom(Math.exp(-0.0016 * (event.deltaMode === 1 ? 16 : 1) * event.deltaY), x, y);
  });
}
