// A pen like that of a canvas that writes SVG: a view drawn on screen is exported by the same code.

const PEN_STYLE = ["strokeStyle", "fillStyle", "lineWidth", "lineCap", "lineJoin", "globalAlpha", "font", "textAlign", "textBaseline"];

/** The part of CanvasRenderingContext2D the views draw with; `text()` is the picture. */
export class SvgPen {
  #parts = [];
  #path = [];
  #matrix = [1, 0, 0, 1, 0, 0];
  #kept = [];
  #dashes = [];
  #width;
  #height;

  strokeStyle = "#000000";
  fillStyle = "#000000";
  lineWidth = 1;
  lineCap = "butt";
  lineJoin = "miter";
  globalAlpha = 1;
  font = "11px sans-serif";
  textAlign = "start";
  textBaseline = "alphabetic";

  /**
   * @param {number} width in px
   * @param {number} height in px
   * @param {string} background
   */
  constructor(width, height, background) {
    this.#width = width;
    this.#height = height;
    this.fillStyle = background;
    this.fillRect(0, 0, width, height);
  }

  /** Set the transform; scales are alike in both directions. */
  setTransform(a, b, c, d, e, f) {
    this.#matrix = [a, b, c, d, e, f];
  }

  translate(x, y) {
    const [a, b, c, d, e, f] = this.#matrix;
    this.#matrix = [a, b, c, d, e + a * x + c * y, f + b * x + d * y];
  }

  rotate(angle) {
    const [a, b, c, d, e, f] = this.#matrix;
    const across = Math.cos(angle);
    const up = Math.sin(angle);
    this.#matrix = [a * across + c * up, b * across + d * up, c * across - a * up, d * across - b * up, e, f];
  }

  save() {
    this.#kept.push(PEN_STYLE.map((name) => this[name]), this.#matrix, this.#dashes);
  }

  restore() {
    if (!this.#kept.length) return;
    this.#dashes = this.#kept.pop();
    this.#matrix = this.#kept.pop();
    this.#kept.pop().forEach((value, index) => (this[PEN_STYLE[index]] = value));
  }

  setLineDash(dashes) {
    this.#dashes = dashes;
  }

  beginPath() {
    this.#path = [];
  }

  moveTo(x, y) {
    this.#path.push(`M${this.#at(x, y)}`);
  }

  lineTo(x, y) {
    this.#path.push(`L${this.#at(x, y)}`);
  }

  quadraticCurveTo(a, b, x, y) {
    this.#path.push(`Q${this.#at(a, b)} ${this.#at(x, y)}`);
  }

  bezierCurveTo(a, b, c, d, x, y) {
    this.#path.push(`C${this.#at(a, b)} ${this.#at(c, d)} ${this.#at(x, y)}`);
  }

  closePath() {
    this.#path.push("Z");
  }

  arc(x, y, radius, start, end) {
    const size = this.#number(radius * this.#scale());
    const from = this.#at(x + radius * Math.cos(start), y + radius * Math.sin(start));
    const joint = this.#path.length && !this.#path[this.#path.length - 1].startsWith("M") ? "L" : "M";
    if (end - start >= 2 * Math.PI - 1e-6) {
      const far = this.#at(x - radius * Math.cos(start), y - radius * Math.sin(start));
      this.#path.push(`M${from}A${size} ${size} 0 1 1 ${far}A${size} ${size} 0 1 1 ${from}`);
      return;
    }
    const to = this.#at(x + radius * Math.cos(end), y + radius * Math.sin(end));
    this.#path.push(`${joint}${from}A${size} ${size} 0 ${end - start > Math.PI ? 1 : 0} 1 ${to}`);
  }

  rect(x, y, width, height) {
    this.#path.push(`M${this.#at(x, y)}L${this.#at(x + width, y)}L${this.#at(x + width, y + height)}L${this.#at(x, y + height)}Z`);
  }

  stroke() {
    this.#shape(this.#path.join(""), true);
  }

  fill() {
    this.#shape(this.#path.join(""), false);
  }

  fillRect(x, y, width, height) {
    const kept = this.#path;
    this.#path = [];
    this.rect(x, y, width, height);
    this.fill();
    this.#path = kept;
  }

  strokeRect(x, y, width, height) {
    const kept = this.#path;
    this.#path = [];
    this.rect(x, y, width, height);
    this.stroke();
    this.#path = kept;
  }

  fillText(text, x, y) {
    this.#text(text, x, y, `fill="${attribute(this.fillStyle)}"`);
  }

  strokeText(text, x, y) {
    const width = this.#number(this.lineWidth * this.#scale());
    this.#text(text, x, y, `fill="none" stroke="${attribute(this.strokeStyle)}" stroke-width="${width}" stroke-linejoin="round"`);
  }

  /** The whole picture as an SVG document. */
  text() {
    const size = `width="${this.#width}" height="${this.#height}" viewBox="0 0 ${this.#width} ${this.#height}"`;
    return `<svg xmlns="http://www.w3.org/2000/svg" ${size}>\n${this.#parts.join("\n")}\n</svg>\n`;
  }

  #shape(path, stroked) {
    if (!path || this.globalAlpha === 0) return;
    const alpha = this.globalAlpha < 1 ? ` opacity="${this.#number(this.globalAlpha)}"` : "";
    if (!stroked) {
      this.#parts.push(`<path d="${path}" fill="${attribute(this.fillStyle)}"${alpha}/>`);
      return;
    }
    const dashes = this.#dashes.length ? ` stroke-dasharray="${this.#dashes.map((d) => this.#number(d * this.#scale())).join(" ")}"` : "";
    const width = this.#number(this.lineWidth * this.#scale());
    const cap = this.lineCap === "butt" ? "" : ` stroke-linecap="${this.lineCap}"`;
    this.#parts.push(`<path d="${path}" fill="none" stroke="${attribute(this.strokeStyle)}" stroke-width="${width}"${dashes}${cap}${alpha}/>`);
  }

  #text(text, x, y, paint) {
    const anchor = { center: "middle", right: "end", end: "end" }[this.textAlign] ?? "start";
    const base = { middle: "central", top: "hanging" }[this.textBaseline] ?? "auto";
    const font = /^(?:(\d+|bold) )?([\d.]+)px (.*)$/.exec(this.font) ?? [null, null, "11", "sans-serif"];
    const weight = font[1] ? ` font-weight="${font[1]}"` : "";
    const size = this.#number(Number(font[2]) * this.#scale());
    const alpha = this.globalAlpha < 1 ? ` opacity="${this.#number(this.globalAlpha)}"` : "";
    const [left, top] = this.#at(x, y).split(" ");
    const angle = (Math.atan2(this.#matrix[1], this.#matrix[0]) * 180) / Math.PI;
    const turned = Math.abs(angle) > 1e-6 ? ` transform="rotate(${this.#number(angle)} ${left} ${top})"` : "";
    const place = `x="${left}" y="${top}"${turned} text-anchor="${anchor}" dominant-baseline="${base}"`;
    this.#parts.push(
      `<text ${place} font-size="${size}"${weight} font-family="${attribute(font[3])}" ${paint}${alpha}>${attribute(String(text))}</text>`,
    );
  }

  #at(x, y) {
    const [a, b, c, d, e, f] = this.#matrix;
    return `${this.#number(a * x + c * y + e)} ${this.#number(b * x + d * y + f)}`;
  }

  #scale() {
    return Math.hypot(this.#matrix[0], this.#matrix[1]);
  }

  #number(value) {
    return String(Math.round(value * 100) / 100);
  }
}

/** Make text safe within XML; characters XML cannot hold are replaced. */
function attribute(text) {
  const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd").replace(/[&<>"']/g, (sign) => escapes[sign]);
}
