// How much room a text takes on a canvas, and names shortened to fit.

/** Roughly how wide a letter of 11 px is. */
const LETTER = 6.2;

/** Shorten a name to some letters in its middle: the ends of names tell them apart. */
export function shortName(name, longest = 22) {
  if (name.length <= longest) return name;
  const kept = Math.floor((longest - 1) / 2);
  return `${name.slice(0, longest - 1 - kept)}…${name.slice(name.length - kept)}`;
}

/** Write a name in a room of so many px: shortened, and squeezed by the canvas where its letters are wide. */
export function fillName(pen, name, x, y, room) {
  pen.fillText(shortName(name, Math.max(Math.floor(room / LETTER), 3)), x, y, room);
}

/** Return a function that says how wide a text is in a font, in px. */
export function textMeasure(font) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = font;
  return (text) => pen.measureText(text).width;
}
