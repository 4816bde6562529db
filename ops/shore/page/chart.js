// Two lines over time, as SVG. The figures are in its label, too.
import { many } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, TURNS] = [300, 120, 20];
const LANES = ["before", "after"];

export class Chart {
  constructor(place, unit) {
    this.unit = unit;
    const viewBox = `0 0 ${WIDTH} ${HEIGHT}`;
    this.#svg = svg("svg", { viewBox, role: "img", "aria-label": `No ${unit} yet` });
    this.#lines = Object.fromEntries(LANES.map((lane) => [lane, svg("polyline", { class: lane })]));
    this.#texts = Object.fromEntries(LANES.map((lane) => [lane, svg("text", { class: lane, x: 4 })]));
    this.#svg.append(...Object.values(this.#lines), ...Object.values(this.#texts));
    place.append(this.#svg);
  }

  // points: [lane, value] in the order of the turns
  show(points) {
    const most = Math.max(1e-9, ...points.map(([, value]) => value));
    const x = (at) => (WIDTH * (at + 0.5)) / TURNS;
    const y = (value) => HEIGHT - 6 - ((HEIGHT - 24) * value) / most;
    const said = [];
    LANES.forEach((lane, line) => {
      const own = points.map(([its, value], at) => [its, at, value]).filter(([its]) => its === lane);
      const line_points = own.map(([, at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
      this.#lines[lane].setAttribute("points", line_points);
      const last = own.at(-1)?.[2];
      const figure = last < 100 ? last.toFixed(1) : many(Math.round(last ?? 0));
      const text = last === undefined ? "" : `${lane}: ${figure}`;
      this.#texts[lane].textContent = text;
      this.#texts[lane].setAttribute("y", 14 + 14 * line);
      if (text) said.push(text);
    });
    this.#svg.setAttribute("aria-label", `${this.unit}: ${said.join(", ") || "none yet"}`);
  }

  #svg;
  #lines;
  #texts;
}

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
