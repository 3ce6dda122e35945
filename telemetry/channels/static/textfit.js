// How much room a text takes on a canvas, and texts shortened to fit.

const FITTED = new Map();
const FITTED_MOST = 20_000;

/**
 * Shorten a text to a width; measured once per text, font and width.
 *
 * @param {string} text
 * @param {string} font as a canvas takes it
 * @param {number} room in px
 * @returns {{text: string, width: number}} with "…" where something was cut off
 */
export function fitText(text, font, room) {
  const key = `${font}/${Math.round(room)}/${text}`;
  if (FITTED.size > FITTED_MOST) FITTED.clear();
  if (!FITTED.has(key)) {
    const measure = textMeasure(font);
    let fitted = text;
    if (measure(text) > room) {
      const kept = [...text].slice(0, 80);
      while (kept.length > 1 && measure(`${kept.join("")}…`) > room) kept.pop();
      fitted = `${kept.join("")}…`;
    }
    FITTED.set(key, { text: fitted, width: measure(fitted) });
  }
  return FITTED.get(key);
}

/** Return a function that says how wide a text is in a font, in px. */
export function textMeasure(font) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = font;
  return (text) => pen.measureText(text).width;
}
