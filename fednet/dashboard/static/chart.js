// Charts over the rounds: lines, or stacked bars. Pointer and arrow keys look at a round, Enter picks it.

import { el, say, svg, whenResized } from "./dom.js";
import { figure } from "./format.js";
import { pointing } from "./pointing.js";
import { linear, mark, topOf } from "./scale.js";

const EDGE = { left: 52, right: 14, top: 10, bottom: 36 };
const MARKED = 40; // rounds; beyond these the marks of a line run into one another

class RoundChart {
  /**
   * `series`: [{key, label, style, shape}], `style` a class of dashboard.css; `format` writes a value,
   * `tick` one of an axis; `pick(round)` is called for a round that is clicked or entered.
   */
  constructor(holder, { label, unit, series, format = figure, tick = figure, height = 220, pick }) {
    Object.assign(this, {
      label,
      unit,
      series,
      format,
      tick,
      height,
      pick,
      rounds: [],
      values: {},
      looked: null,
      width: 0,
    });
    this.readout = el("p", { class: "readout" });
    this.plot = el("div", { class: "plot", tabindex: 0, role: "slider", "aria-label": `${label}, by round` });
    const legend = el(
      "ul",
      { class: "legend" },
      series.map((each) => el("li", {}, this.sample(each), each.label)),
    );
    holder.append(legend, this.plot, this.readout);
    this.listen();
    whenResized(this.plot, (width) => {
      this.width = width;
      this.draw();
    });
  }

  /** Show these values; an array with a number or null for each round, by the series' key. */
  show(rounds, values) {
    this.rounds = rounds;
    this.values = values;
    this.draw();
  }

  listen() {
    pointing(this.plot, {
      length: () => this.rounds.length,
      nearest: (event) => this.nearest(event),
      look: (index) => this.look(index),
      pick: (index) => this.pick(this.rounds[index]),
      start: () => this.rounds.length - 1,
    });
  }

  nearest(event) {
    const { left } = this.plot.getBoundingClientRect();
    const share =
      (event.clientX - left - this.x.at(this.rounds[0])) /
      (this.x.at(this.rounds.at(-1)) - this.x.at(this.rounds[0]) || 1);
    return Math.min(this.rounds.length - 1, Math.max(0, Math.round(share * (this.rounds.length - 1))));
  }

  look(position) {
    this.looked = position;
    const index = position ?? this.rounds.length - 1;
    const x = this.x.at(this.rounds[index]);
    this.rule.setAttribute("d", position === null ? "" : `M${x},${EDGE.top}V${this.height - EDGE.bottom}`);
    const told = this.series.map((each) => `${each.label} ${this.format(this.values[each.key][index])}`);
    const text = `Round ${this.rounds[index]}: ${told.join(", ")}`;
    say(this.readout, text);
    this.plot.setAttribute("aria-valuetext", text);
    this.plot.setAttribute("aria-valuenow", this.rounds[index]);
  }

  draw() {
    const { width } = this;
    if (width === 0) return; // not in view yet
    if (this.rounds.length === 0) {
      this.plot.replaceChildren(el("p", { class: "empty" }, "Nothing yet: the first round is not over."));
      this.plot.setAttribute("aria-valuenow", 0);
      this.plot.setAttribute("aria-valuetext", "no round yet");
      return;
    }
    const [first, last] = [this.rounds[0], this.rounds.at(-1)];
    const pad = this.padding(width);
    this.x = linear(first, last, EDGE.left + pad, width - EDGE.right - pad, Math.max(2, Math.floor(width / 90)));
    if (first === last) this.x.at = () => (EDGE.left + width - EDGE.right) / 2;
    const [low, high] = this.extent();
    this.y = linear(low, high, this.height - EDGE.bottom, EDGE.top, 4);
    this.rule = svg("path", { class: "rule" });
    this.plot.setAttribute("aria-valuemin", first);
    this.plot.setAttribute("aria-valuemax", last);
    const size = { width, height: this.height, viewBox: `0 0 ${width} ${this.height}`, "aria-hidden": "true" };
    this.plot.replaceChildren(svg("svg", size, this.axes(width), this.shapes(width), this.rule));
    this.look(this.looked === null ? null : Math.min(this.looked, this.rounds.length - 1));
  }

  axes(width) {
    const bottom = this.height - EDGE.bottom;
    const middle = (EDGE.top + bottom) / 2;
    const across = this.y.ticks.map((value) => [
      svg("path", { class: "gridline", d: `M${EDGE.left},${this.y.at(value)}H${width - EDGE.right}` }),
      svg("text", { class: "tick", x: EDGE.left - 6, y: this.y.at(value) + 4, "text-anchor": "end" }, this.tick(value)),
    ]);
    const rounds = this.rounds.length === 1 ? this.rounds : this.x.ticks.filter(Number.isInteger);
    const along = rounds.map((value) =>
      svg("text", { class: "tick", x: this.x.at(value), y: bottom + 16, "text-anchor": "middle" }, String(value)),
    );
    return [
      ...across,
      ...along,
      svg(
        "text",
        { class: "axis", x: (EDGE.left + width - EDGE.right) / 2, y: this.height - 4, "text-anchor": "middle" },
        "round",
      ),
      svg(
        "text",
        { class: "axis", transform: `translate(12 ${middle}) rotate(-90)`, "text-anchor": "middle" },
        this.unit,
      ),
    ];
  }
}

/** Lines with marks; `range` fixes the value axis, else it starts at 0 and ends above the largest value. */
export class LineChart extends RoundChart {
  constructor(holder, options) {
    super(holder, options);
    this.range = options.range;
  }

  padding() {
    return 4;
  }

  extent() {
    return this.range ?? [0, topOf(Math.max(...this.series.flatMap((each) => this.values[each.key]), 0))];
  }

  sample(series) {
    return svg(
      "svg",
      { class: `sample ${series.style}`, width: 26, height: 12, "aria-hidden": "true" },
      svg("path", { class: "line", d: "M1,6H25" }),
      svg("path", { class: "mark", d: mark(series.shape, 13, 6, 3.5) }),
    );
  }

  shapes() {
    return this.series.map((series) => {
      const points = this.values[series.key].map((value, index) =>
        value === null ? null : [this.x.at(this.rounds[index]), this.y.at(value)],
      );
      const line = points.map((point, index) =>
        point ? `${points[index - 1] ? "L" : "M"}${point[0].toFixed(1)},${point[1].toFixed(1)}` : "",
      );
      const shown = points.filter((point, index) => point && (points.length <= MARKED || index === points.length - 1));
      const marks = shown.map(([x, y]) => mark(series.shape, x, y, 3.5));
      return svg(
        "g",
        { class: series.style },
        svg("path", { class: "line", d: line.join("") }),
        svg("path", { class: "mark", d: marks.join("") }),
      );
    });
  }
}

/** Bars that stand on one another, in the order of the series. */
export class StackChart extends RoundChart {
  padding(width) {
    return (width - EDGE.left - EDGE.right) / (2 * this.rounds.length);
  }

  extent() {
    const totals = this.rounds.map((_, index) =>
      this.series.reduce((sum, each) => sum + (this.values[each.key][index] ?? 0), 0),
    );
    return [0, topOf(Math.max(...totals))];
  }

  sample(series) {
    return svg(
      "svg",
      { class: `sample ${series.style}`, width: 14, height: 12, "aria-hidden": "true" },
      svg("path", { class: "bar", d: "M1,1h12v10h-12Z" }),
    );
  }

  shapes(width) {
    const step = 2 * this.padding(width);
    const thick = step < 4 ? step : Math.min(48, 0.8 * step);
    const tops = this.rounds.map(() => 0);
    return this.series.map((series) => {
      const bars = this.values[series.key].map((value, index) => {
        if (!value) return "";
        const base = this.y.at(tops[index]);
        tops[index] += value;
        const x = this.x.at(this.rounds[index]) - thick / 2;
        const [left, from, wide, to] = [x, base, thick, this.y.at(tops[index])].map((each) => each.toFixed(1));
        return `M${left},${from}h${wide}V${to}h-${wide}Z`;
      });
      return svg("g", { class: series.style }, svg("path", { class: "bar", d: bars.join("") }));
    });
  }
}
