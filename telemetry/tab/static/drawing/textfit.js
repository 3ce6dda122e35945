// How much room a text takes on a canvas, and names shortened to fit.

/** Shorten a name to some letters in its middle: the ends of names tell them apart. */
export function shortName(name, longest = 22) {
  if (name.length <= longest) return name;
  const kept = Math.floor((longest - 1) / 2);
  return `${name.slice(0, longest - 1 - kept)}…${name.slice(name.length - kept)}`;
}

/** Return a function that says how wide a text is in a font, in px. */
export function textMeasure(font) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = font;
  return (text) => pen.measureText(text).width;
}
