// Matrices: a shaded table where people can read the numbers, one picture where there are too many.

import { el, say, svg, whenResized } from "./dom.js";
import { count, figure, percent, readable } from "./format.js";

const READABLE = 10; // rows whose numbers fit beside one another
const LABELLED = 40; // rows whose names can be told apart beside a picture
// cividis: as bright and dark to colour-blind eyes as to others (Nuñez, Anderton and Renslow 2018)
const RAMP = [
  [0, 34, 78],
  [53, 69, 108],
  [102, 105, 112],
  [148, 142, 119],
  [200, 184, 102],
  [254, 232, 56],
];

/** Return [r, g, b] for a share from 0 to 1. */
function colour(share) {
  const place = Math.min(1, Math.max(0, share)) * (RAMP.length - 1);
  const index = Math.min(RAMP.length - 2, Math.floor(place));
  return RAMP[index].map((from, part) => Math.round(from + (place - index) * (RAMP[index + 1][part] - from)));
}

/** Shade a cell by a share from 0 to 1, as the style sheet does in light and dark. */
function shade(cell, share) {
  cell.style.setProperty("--share", `${(60 * share).toFixed(1)}%`);
}

/** Show a confusion matrix: rows are true classes, columns what the model said. */
export function showConfusion(holder, confusion, classes) {
  if (!confusion) {
    holder.replaceChildren(el("p", { class: "empty" }, "This round has no confusion matrix of it."));
    return;
  }
  const head = el(
    "tr",
    {},
    el("td", { class: "corner" }, "true ↓ said →"),
    classes.map((name) => el("th", { scope: "col" }, readable(name))),
  );
  const rows = confusion.map((row, index) => {
    const images = row.reduce((sum, value) => sum + value, 0);
    const cells = row.map((value, said) => {
      const cell = el(
        "td",
        { class: said === index ? "hit" : null },
        el("b", {}, count(value)),
        el("small", {}, images ? percent(value / images) : ""),
      );
      shade(cell, images ? value / images : 0);
      return cell;
    });
    return el("tr", {}, el("th", { scope: "row" }, readable(classes[index])), cells);
  });
  const caption = el("caption", {}, "Images, and their share of the true class");
  holder.replaceChildren(el("table", { class: "shaded" }, caption, el("thead", {}, head), el("tbody", {}, rows)));
}

/** Distances between a round's updates; those that are far from the rest stand out as a bright band. */
export class DistanceMap {
  constructor(holder, pick) {
    this.holder = holder;
    this.pick = pick;
    this.looked = [0, 0];
    this.isSeen = false;
    whenResized(holder, () => {
      this.isSeen = true;
      this.draw();
    });
  }

  /** `names` with a verdict sign each, in the order of the matrix's rows; `unit` says what the numbers are. */
  show(names, signs, distances) {
    const selectedFirst = names
      .map((_, index) => index)
      .sort((one, other) => (signs[one] !== "✓") - (signs[other] !== "✓") || one - other);
    this.names = selectedFirst.map((index) => names[index]);
    this.labels = selectedFirst.map((index) => `${signs[index]} ${names[index]}`);
    this.distances = selectedFirst.map((row) => selectedFirst.map((column) => distances[row][column]));
    this.far = Math.max(...this.distances.flat(), 1e-30);
    this.draw();
  }

  showNothing(text) {
    this.names = null;
    this.holder.replaceChildren(el("p", { class: "empty" }, text));
  }

  draw() {
    if (!this.names || !this.isSeen) return;
    this.holder.replaceChildren(...(this.names.length <= READABLE ? this.table() : this.picture()));
  }

  table() {
    const head = el(
      "tr",
      {},
      el("td", {}),
      this.labels.map((name) => el("th", { scope: "col" }, el("span", {}, name))),
    );
    const rows = this.distances.map((row, index) => {
      const cells = row.map((value) => {
        const cell = el("td", {}, figure(value));
        shade(cell, value / this.far);
        return cell;
      });
      return el("tr", {}, el("th", { scope: "row" }, this.labels[index]), cells);
    });
    const caption = el("caption", {}, "Distance between two updates (norm of their difference)");
    return [el("table", { class: "shaded distances" }, caption, el("thead", {}, head), el("tbody", {}, rows))];
  }

  picture() {
    const n = this.names.length;
    const canvas = el("canvas", { width: n, height: n, class: "heat" });
    const pixels = new ImageData(n, n);
    this.distances.flat().forEach((value, place) => pixels.data.set([...colour(value / this.far), 255], 4 * place));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const readout = el(
      "p",
      { class: "readout", "aria-live": "polite" },
      "Point at a cell, or use the arrow keys, to read it.",
    );
    const frame = el(
      "div",
      { class: "heat-frame", tabindex: 0, role: "img", "aria-label": `Heat map of the distances between ${n} updates` },
      canvas,
    );
    const look = (row, column) => {
      this.looked = [row, column];
      say(readout, `${this.labels[row]} to ${this.labels[column]}: distance ${figure(this.distances[row][column])}`);
    };
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      const place = (from, length, to) => Math.min(n - 1, Math.max(0, Math.floor((n * (to - from)) / length)));
      return [place(box.top, box.height, event.clientY), place(box.left, box.width, event.clientX)];
    };
    canvas.addEventListener("pointermove", (event) => look(...at(event)));
    canvas.addEventListener("click", (event) => this.pick(this.names[at(event)[0]]));
    frame.addEventListener("keydown", (event) => {
      const [row, column] = this.looked;
      const moves = {
        ArrowUp: [row - 1, column],
        ArrowDown: [row + 1, column],
        ArrowLeft: [row, column - 1],
        ArrowRight: [row, column + 1],
      };
      if (event.key === "Enter") this.pick(this.names[row]);
      else if (event.key in moves) look(...moves[event.key].map((place) => Math.min(n - 1, Math.max(0, place))));
      else return;
      event.preventDefault();
    });
    const labels =
      n <= LABELLED
        ? el(
            "ol",
            { class: "heat-names" },
            this.labels.map((name) => el("li", {}, name)),
          )
        : null;
    return [
      el(
        "p",
        { class: "caption" },
        "Distance between two updates (norm of their difference); selected first, rejected last",
      ),
      el("div", { class: "heat-box" }, frame, labels),
      this.key(),
      readout,
    ];
  }

  key() {
    const steps = [0, 0.2, 0.4, 0.6, 0.8, 1].map((share) =>
      svg("rect", { x: 150 * share * 0.8335, y: 0, width: 26, height: 10, fill: `rgb(${colour(share).join(" ")})` }),
    );
    return el(
      "p",
      { class: "ramp" },
      "0 ",
      svg("svg", { width: 151, height: 10, "aria-hidden": "true" }, steps),
      ` ${figure(this.far)}`,
    );
  }
}
