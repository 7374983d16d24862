// What Krum saw in a round: the scores with the cut, and a map on which an attacker stands apart.

import { el, say, svg, whenResized } from "./dom.js";
import { figure, plural } from "./format.js";
import { pointing } from "./pointing.js";
import { linear, logarithmic, mark, topOf } from "./scale.js";
import { VERDICTS, kindOf, letterOf } from "./verdicts.js";

const NAMED = 20; // updates that have room for a bar with a name each
const CROWD = 150; // points that overlap unless they are small
const WIDE_RANGE = 20; // between largest and smallest score: small ones would be invisible on a linear scale
const SHAPES = { selected: "circle", rejected: "cross", quarantined: "diamond" };

/** The updates of a round, and which of them somebody looks at; a subclass draws them. */
class UpdatePicture {
  constructor(holder, label, pick) {
    this.updates = [];
    this.plot = el("div", { class: "plot", tabindex: 0, role: "slider", "aria-label": label, "aria-valuemin": 0 });
    this.readout = el("p", { class: "readout" });
    holder.append(this.plot, this.readout);
    pointing(this.plot, {
      length: () => this.updates.length,
      nearest: (event) => this.nearest(event),
      look: (index) => this.look(index),
      pick: (index) => pick(this.updates[index].worker),
      start: () => this.updates.length - 1,
    });
    this.width = 0;
    whenResized(this.plot, (width) => {
      this.width = width;
      this.redraw();
    });
  }

  showNothing(text) {
    this.updates = [];
    this.nothing = text;
    this.redraw();
  }

  redraw() {
    if (this.width === 0) return; // not in view yet
    const isEmpty = this.updates.length === 0;
    this.plot.setAttribute("aria-valuemax", Math.max(0, this.updates.length - 1));
    this.plot.replaceChildren(isEmpty ? el("p", { class: "empty" }, this.nothing) : this.drawn(this.width));
    this.look(null);
  }

  look(index) {
    const update = index === null ? null : this.updates[index];
    const text = update
      ? `${update.worker}: ${VERDICTS[letterOf(update)].word}, ${this.described(update)}`
      : this.summary();
    say(this.readout, text);
    this.plot.setAttribute("aria-valuenow", index ?? 0);
    this.plot.setAttribute("aria-valuetext", text || this.nothing);
    this.ring?.setAttribute("d", update ? this.ringed(index) : "");
  }
}

/** Scores as bars, the best first, with the line beyond which nobody was selected. */
export class Scores extends UpdatePicture {
  constructor(holder, pick) {
    super(holder, "Scores of the round's updates, best first", pick);
  }

  show(round) {
    this.updates = round.updates.filter((each) => each.score !== null).sort((one, other) => one.score - other.score);
    this.cut = round.cut;
    this.nothing = "This round has no scores: its rule does not rank the updates, or they are not told.";
    this.redraw();
  }

  summary() {
    if (this.updates.length === 0) return "";
    const selected = this.updates.filter((each) => each.selected).length;
    const cut = this.cut === null ? "no cut" : `cut at ${figure(this.cut)}`;
    return `${selected} of ${plural(this.updates.length, "update")} selected; ${cut}`;
  }

  described(update) {
    return `score ${figure(update.score)}${this.cut > 0 ? `, ${figure(update.score / this.cut)} times the cut` : ""}`;
  }

  scale(from, to) {
    const scores = this.updates.map((each) => each.score);
    const [least, most] = [scores.find((score) => score > 0) ?? 0, scores.at(-1)];
    this.isLogarithmic = least > 0 && most / least > WIDE_RANGE;
    return this.isLogarithmic ? logarithmic(least, most, from, to) : linear(0, topOf(most), from, to, 4);
  }

  axisName() {
    return `score${this.isLogarithmic ? ", logarithmic" : ""} (sum of squared distances to the nearest)`;
  }

  drawn(width) {
    this.isNamed = this.updates.length <= NAMED;
    return this.isNamed ? this.named(width) : this.crowd(width);
  }

  named(width) {
    const [row, left, right] = [24, Math.min(120, width / 3), 58];
    const bottom = 12 + row * this.updates.length;
    const x = this.scale(left, width - right);
    this.middle = (index) => 12 + row * (index + 0.5);
    this.nearestAt = (event, box) => (event.clientY - box.top - 12) / row - 0.5;
    this.ring = null;
    const bars = this.updates.map((update, index) => {
      const y = 12 + row * index;
      return svg(
        "g",
        { class: `v-${kindOf(update)}` },
        svg(
          "text",
          { class: "name", x: left - 8, y: y + 16, "text-anchor": "end" },
          short(update.worker, left / 7.5),
          ` ${VERDICTS[letterOf(update)].sign}`,
        ),
        svg("path", {
          class: "bar",
          d: `M${left},${y + 4}H${Math.max(left + 1, x.at(update.score))}v${row - 8}H${left}Z`,
        }),
        svg("text", { class: "tick", x: width - 4, y: y + 16, "text-anchor": "end" }, figure(update.score)),
      );
    });
    const cut =
      this.cut === null
        ? []
        : [
            svg("path", { class: "cut", d: `M${x.at(this.cut)},6V${bottom}` }),
            svg("text", { class: "cut-name", x: x.at(this.cut) + 4, y: 10 }, "cut"),
          ];
    const ticks = x.ticks.map((value) =>
      svg("text", { class: "tick", x: x.at(value), y: bottom + 16, "text-anchor": "middle" }, figure(value)),
    );
    const name = svg("text", { class: "axis", x: width / 2, y: bottom + 34, "text-anchor": "middle" }, this.axisName());
    return svg("svg", { width, height: bottom + 40, "aria-hidden": "true" }, bars, cut, ticks, name);
  }

  crowd(width) {
    const [left, right, top, bottom, height] = [52, 14, 12, 204, 240];
    const y = this.scale(bottom, top);
    const step = (width - left - right) / this.updates.length;
    const wide = Math.max(0.6, step * 0.85).toFixed(2);
    this.at = (index) => left + step * (index + 0.5);
    this.nearestAt = (event, box) => (event.clientX - box.left - left) / step - 0.5;
    this.ring = svg("path", { class: "rule" });
    this.ringed = (index) => `M${this.at(index)},${top}V${bottom}`;
    const parts = Object.fromEntries(Object.keys(SHAPES).map((kind) => [kind, ""]));
    this.updates.forEach((update, index) => {
      const [from, to] = [(left + step * index).toFixed(1), y.at(update.score).toFixed(1)];
      parts[kindOf(update)] += `M${from},${bottom}V${to}h${wide}V${bottom}Z`;
    });
    const bars = Object.entries(parts).map(([kind, d]) =>
      svg("g", { class: `v-${kind}` }, svg("path", { class: "bar", d })),
    );
    const ticks = y.ticks.map((value) =>
      svg("text", { class: "tick", x: left - 6, y: y.at(value) + 4, "text-anchor": "end" }, figure(value)),
    );
    const cut =
      this.cut === null
        ? []
        : [
            svg("path", { class: "cut", d: `M${left},${y.at(this.cut)}H${width - right}` }),
            svg("text", { class: "cut-name", x: left + 4, y: y.at(this.cut) - 4 }, "cut"),
          ];
    const names = [
      svg("text", { class: "axis", x: width / 2, y: bottom + 22, "text-anchor": "middle" }, "updates, best first"),
      svg(
        "text",
        { class: "axis", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" },
        `score${this.isLogarithmic ? ", logarithmic" : ""}`,
      ),
    ];
    return svg("svg", { width, height, "aria-hidden": "true" }, bars, cut, ticks, names, this.ring);
  }

  nearest(event) {
    return Math.min(
      this.updates.length - 1,
      Math.max(0, Math.round(this.nearestAt(event, this.plot.getBoundingClientRect()))),
    );
  }

  ringed() {
    return "";
  }
}

/** Updates as points of a plane: as far from one another as their distances allow. */
export class UpdateMap extends UpdatePicture {
  constructor(holder, pick) {
    super(holder, "Map of the round's updates", pick);
  }

  show(round) {
    const places = new Map(round.map ? round.scored.map((name, index) => [name, round.map[index]]) : []);
    this.updates = round.updates
      .filter((each) => places.has(each.worker))
      .map((each) => ({ ...each, place: places.get(each.worker) }));
    this.nothing = "This round has no map: its distances are not kept (very many workers, or differential privacy).";
    this.redraw();
  }

  summary() {
    return this.updates.length ? "Near to one another: alike. Far from the crowd: suspicious." : "";
  }

  described(update) {
    const [x, y] = update.place;
    return `at (${figure(x)}, ${figure(y)}), norm ${figure(update.norm)}`;
  }

  drawn(width) {
    const [left, right, top, bottom, height] = [52, 20, 14, 244, 284];
    const xs = this.updates.map((each) => each.place[0]);
    const ys = this.updates.map((each) => each.place[1]);
    const middle = [(Math.min(...xs) + Math.max(...xs)) / 2, (Math.min(...ys) + Math.max(...ys)) / 2];
    const spread =
      Math.max(
        (Math.max(...xs) - Math.min(...xs)) / (width - left - right),
        (Math.max(...ys) - Math.min(...ys)) / (bottom - top),
        1e-12,
      ) * 1.2;
    const [halfWide, halfHigh] = [((width - left - right) / 2) * spread, ((bottom - top) / 2) * spread];
    const x = linear(middle[0] - halfWide, middle[0] + halfWide, left, width - right, Math.max(2, width / 110));
    const y = linear(middle[1] - halfHigh, middle[1] + halfHigh, bottom, top, 4);
    this.points = this.updates.map((each) => [x.at(each.place[0]), y.at(each.place[1])]);
    this.ring = svg("path", { class: "ring" });
    const lines = [
      ...x.ticks.map((value) => [
        svg("path", { class: "gridline", d: `M${x.at(value)},${top}V${bottom}` }),
        svg("text", { class: "tick", x: x.at(value), y: bottom + 16, "text-anchor": "middle" }, figure(value)),
      ]),
      ...y.ticks.map((value) => [
        svg("path", { class: "gridline", d: `M${left},${y.at(value)}H${width - right}` }),
        svg("text", { class: "tick", x: left - 6, y: y.at(value) + 4, "text-anchor": "end" }, figure(value)),
      ]),
    ];
    const isCrowd = this.updates.length > CROWD;
    const marks = Object.entries(SHAPES).map(([kind, shape]) => {
      const parts = this.updates.map((update, index) =>
        kindOf(update) === kind ? mark(shape, ...this.points[index], isCrowd ? 3 : 5) : "",
      );
      return svg(
        "g",
        { class: `v-${kind}` },
        svg("path", { class: `point ${shape}${isCrowd ? " crowd" : ""}`, d: parts.join("") }),
      );
    });
    const names = [
      svg(
        "text",
        { class: "axis", x: (left + width - right) / 2, y: bottom + 34, "text-anchor": "middle" },
        "distance, in norms of an update's difference",
      ),
      svg(
        "text",
        { class: "axis", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" },
        "the same scale",
      ),
    ];
    return svg("svg", { width, height, "aria-hidden": "true" }, lines, marks, this.labels(width), names, this.ring);
  }

  /** Names of all, where these are few, or of those not selected; one that would lie on another is left out. */
  labels(width) {
    const taken = [];
    const order = this.updates
      .map((_, index) => index)
      .sort((one, other) => this.updates[one].selected - this.updates[other].selected);
    const wanted = order.filter((index) => this.updates.length <= NAMED || !this.updates[index].selected);
    return wanted.slice(0, NAMED).map((index) => {
      const [x, y] = this.points[index];
      const isLeft = x > width - 110;
      if (taken.some(([left, top]) => Math.abs(left - x) < 90 && Math.abs(top - y) < 14)) return null;
      taken.push([x, y]);
      const place = { x: x + (isLeft ? -10 : 10), y: y + 4, "text-anchor": isLeft ? "end" : "start" };
      return svg(
        "text",
        { class: `name v-${kindOf(this.updates[index])}`, ...place },
        short(this.updates[index].worker, 16),
      );
    });
  }

  nearest(event) {
    const box = this.plot.getBoundingClientRect();
    const away = this.points.map(([x, y]) => (x - event.clientX + box.left) ** 2 + (y - event.clientY + box.top) ** 2);
    const index = away.indexOf(Math.min(...away));
    return away[index] < 900 ? index : null;
  }

  ringed(index) {
    return mark("circle", ...this.points[index], 11);
  }
}

const short = (name, most) => (name.length > most ? `${name.slice(0, Math.max(1, Math.floor(most) - 1))}…` : name);
