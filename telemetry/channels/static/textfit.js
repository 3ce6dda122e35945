// How much room a text takes on a canvas, and texts shortened to fit.

const FITTED = new Map();
const FITTED_MOST = 20_000;

/**
 * Shorten a text to a width in its middle, since names often differ in their ends; measured once per text, font and width.
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
      const kept = [...text];
      if (kept.length > 160) kept.splice(80, kept.length - 160);
      const joined = () => `${kept.slice(0, Math.ceil(kept.length / 2)).join("")}…${kept.slice(Math.ceil(kept.length / 2)).join("")}`;
      while (kept.length > 2 && measure(joined()) > room) kept.splice(Math.floor(kept.length / 2), 1);
      fitted = joined();
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
