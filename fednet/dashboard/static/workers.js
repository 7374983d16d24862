// The table of workers. Its rows are drawn where they are in view, so that a thousand of them cost as much as twenty.

import { el, say, viewOf } from "./dom.js";
import { NOTHING, ago, byName, bytes, count, date, duration, figure, percent } from "./format.js";

const ROW = 40; // px
const MARGIN = 5; // rows beyond the edge
const SOON_MS = 7 * 86400e3; // a certificate that ends within a week

// `known`: whether there is something to say of a worker; a column of which nobody has anything is not shown
const COLUMNS = [
  { key: "name", label: "Worker", text: (each) => each.name, compare: (one, other) => byName(one.name, other.name) },
  { key: "state", label: "State", text: state, compare: (one, other) => order(state(one), state(other)) },
  { key: "fraction", label: "Progress", text: progress, known: (each) => progress(each) !== "", isNumber: true },
  { key: "rejected", label: "Rejected", text: rejections, isNumber: true },
  {
    key: "last_seen",
    label: "Last heartbeat",
    text: (each, now) => ago(each.last_seen, now),
    known: (each) => each.last_seen,
  },
  { key: "samples", label: "Scans", text: (each) => count(each.samples), isNumber: true },
  { key: "loss", label: "Training loss", text: (each) => figure(each.loss), isNumber: true },
  {
    key: "images_per_s",
    label: "Images/s",
    text: (each) => figure(each.images_per_s || null),
    known: (each) => each.images_per_s,
    isNumber: true,
  },
  { key: "train_s", label: "Trained", text: (each) => duration(each.train_s), isNumber: true },
  { key: "transfer_s", label: "Waited, sent", text: (each) => duration(each.transfer_s), isNumber: true },
  {
    key: "bytes",
    label: "Sent in all",
    text: (each) => bytes(each.bytes || null),
    known: (each) => each.bytes,
    isNumber: true,
  },
  { key: "mean_weight", label: "Mean weight", text: (each) => percent(each.mean_weight), isNumber: true },
  {
    key: "epsilon",
    label: "Own ε",
    text: (each) => figure(each.epsilon),
    known: (each) => each.epsilon,
    isNumber: true,
  },
  {
    key: "certificate_expires",
    label: "Certificate until",
    text: (each) => date(each.certificate_expires),
    known: (each) => each.certificate_expires,
  },
  { key: "device", label: "Device", text: (each) => each.device || NOTHING, known: (each) => each.device },
];

function state(each) {
  return each.connected
    ? each.activity || "connected"
    : each.activity && each.activity !== "joined"
      ? each.activity
      : "not connected";
}

function progress(each) {
  if (!each.connected || !(each.fraction > 0 && each.fraction < 1)) return "";
  return `${Math.round(100 * each.fraction)} %${each.remaining_s ? `, ${duration(each.remaining_s)} left` : ""}`;
}

function rejections(each) {
  const sent = each.selected + each.rejected;
  return sent === 0 ? NOTHING : `${count(each.rejected)} of ${count(sent)}`;
}

export class WorkerTable {
  /** `pick(worker)` is called for a worker whose name is pressed. */
  constructor(holder, pick) {
    this.workers = [];
    this.sort = { column: COLUMNS[0], isDown: false };
    this.pool = [];
    this.heads = COLUMNS.map((column) => this.headOf(column));
    this.body = el("tbody");
    this.above = el("tr", { class: "spacer", "aria-hidden": "true" }, el("td", { colspan: COLUMNS.length }));
    this.below = this.above.cloneNode(true);
    this.body.append(this.above, this.below);
    this.table = el(
      "table",
      { class: "workers" },
      el("thead", {}, el("tr", { "aria-rowindex": 1 }, this.heads)),
      this.body,
    );
    this.box = el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of workers", hidden: true },
      this.table,
    );
    this.empty = el("p", { class: "empty" });
    holder.replaceChildren(this.empty, this.box);
    this.view = viewOf(this.box, () => this.draw());
    this.body.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) pick(button.textContent);
    });
  }

  headOf(column) {
    const head = el(
      "th",
      { scope: "col", class: column.isNumber ? "number" : null },
      el("button", { type: "button" }, column.label),
    );
    head.firstChild.addEventListener("click", () => {
      const isSame = this.sort.column === column;
      this.sort = { column, isDown: isSame ? !this.sort.isDown : Boolean(column.isNumber) };
      this.show(this.workers, this.isFiltered);
    });
    return head;
  }

  /** Show these workers; `isFiltered` says that there are others. */
  show(workers, isFiltered) {
    const { column, isDown } = this.sort;
    const compare = column.compare ?? ((one, other) => order(one[column.key], other[column.key]));
    this.isFiltered = isFiltered;
    this.workers = [...workers].sort((one, other) => (isDown ? -1 : 1) * compare(one, other));
    this.isShown = COLUMNS.map((each) => !each.known || workers.some(each.known));
    COLUMNS.forEach((each, index) => {
      this.heads[index].hidden = !this.isShown[index];
      if (each === column) this.heads[index].setAttribute("aria-sort", isDown ? "descending" : "ascending");
      else this.heads[index].removeAttribute("aria-sort");
    });
    this.table.setAttribute("aria-rowcount", workers.length + 1);
    this.empty.hidden = workers.length > 0;
    this.box.hidden = workers.length === 0;
    say(this.empty, isFiltered ? "No worker has such a name." : "Nobody has joined yet.");
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.min(this.workers.length, Math.floor(this.view.top / ROW) - MARGIN));
    const end = Math.min(this.workers.length, Math.ceil((this.view.top + this.view.height) / ROW) + MARGIN);
    const now = Date.now();
    while (this.pool.length < end - first) this.pool.push(newRow());
    this.pool.forEach((row, index) => {
      const worker = this.workers[first + index];
      if (index >= end - first) row.line.remove();
      else {
        if (!row.line.isConnected) this.below.before(row.line);
        fill(row, worker, first + index, { now, isShown: this.isShown });
      }
    });
    this.above.firstChild.style.height = `${ROW * first}px`;
    this.below.firstChild.style.height = `${ROW * (this.workers.length - end)}px`;
  }
}

function newRow() {
  const cells = COLUMNS.map((column, index) =>
    index === 0
      ? el("th", { scope: "row" }, el("button", { type: "button", class: "link" }))
      : el("td", { class: column.isNumber ? "number" : null }),
  );
  cells[1].append(el("span", { class: "dot", "aria-hidden": "true" }), el("span"));
  cells[2].append(el("progress", { max: 1 }), el("span"));
  return { line: el("tr", {}, cells), cells };
}

function fill({ line, cells }, worker, index, { now, isShown }) {
  line.setAttribute("aria-rowindex", index + 2);
  COLUMNS.forEach((column, place) => {
    const cell = cells[place];
    cell.hidden = !isShown[place];
    if (cell.hidden) return;
    const text = column.text(worker, now);
    say(place <= 2 ? cell.lastChild : cell, text);
    if (place === 1) cell.firstChild.className = worker.connected ? "dot on" : "dot";
    if (place === 2) {
      cell.firstChild.hidden = text === "";
      cell.firstChild.value = worker.fraction ?? 0;
      cell.firstChild.setAttribute("aria-label", `${worker.name}: ${state(worker)}`);
    }
    if (column.key === "rejected") cell.classList.toggle("alarm", worker.rejected > worker.selected);
    if (column.key === "certificate_expires") {
      cell.classList.toggle(
        "alarm",
        worker.certificate_expires !== null && new Date(worker.certificate_expires) - now < SOON_MS,
      );
    }
  });
}

/** Numbers, dates and nothing at all; what is not known comes first. */
function order(one, other) {
  if (one === other) return 0;
  return (one ?? -Infinity) < (other ?? -Infinity) ? -1 : 1;
}
