// Verdicts of all workers in all rounds. Only the cells in view exist: a thousand workers cost as much as twenty.

import { el, say, viewOf } from "./dom.js";
import { VERDICTS } from "./verdicts.js";

const CELL = 24; // px, each way
const NAME = 132; // px
const MARGIN = 2; // cells beyond the edge, so that a short scroll shows no gap

export class VerdictGrid {
  /** `pick(worker, round)` is called for a cell that is clicked, or entered from the keyboard. */
  constructor(holder, pick) {
    this.pick = pick;
    this.data = { rounds: [], workers: [], letters: [] };
    this.focus = { row: 0, column: 0 };
    this.head = el("div", { class: "grid-head", role: "row", "aria-rowindex": 1 });
    this.body = el("div", { class: "grid-body", role: "rowgroup" });
    this.box = el(
      "div",
      { class: "grid", role: "grid", "aria-label": "Verdicts: workers by rounds", hidden: true },
      el("div", { class: "grid-top", role: "rowgroup" }, this.head),
      this.body,
    );
    this.empty = el("p", { class: "empty" });
    holder.replaceChildren(this.empty, this.box);
    this.view = viewOf(this.box, () => this.draw());
    this.box.addEventListener("click", (event) => this.clicked(event));
    this.box.addEventListener("keydown", (event) => this.pressed(event));
    this.box.addEventListener("focusin", ({ target }) => {
      if (target.dataset.row) this.focus = { row: Number(target.dataset.row), column: Number(target.dataset.column) };
    });
  }

  /** Show these rows, `letters[i]` is worker i's string, a letter a round; who looked at the last round still does. */
  show(rounds, workers, letters, marked) {
    const isFirst = this.data.rounds.length === 0;
    const sawLast = isFirst || this.view.left + this.view.width >= NAME + CELL * (this.data.rounds.length - 1);
    const isLonger = rounds.length > this.data.rounds.length;
    this.data = { rounds, workers, letters };
    this.marked = marked;
    const isEmpty = rounds.length === 0 || workers.length === 0;
    this.empty.hidden = !isEmpty;
    say(this.empty, rounds.length === 0 ? "Nothing yet: the first round is not over." : "No worker has such a name.");
    this.box.hidden = isEmpty;
    this.box.setAttribute("aria-rowcount", workers.length + 1);
    this.box.setAttribute("aria-colcount", rounds.length + 1);
    this.focus.row = Math.min(this.focus.row, Math.max(0, workers.length - 1));
    this.focus.column = isFirst ? Math.max(0, rounds.length - 1) : Math.min(this.focus.column, rounds.length - 1);
    const width = `${NAME + CELL * rounds.length}px`;
    this.head.style.width = width;
    this.body.style.width = width;
    this.body.style.height = `${CELL * workers.length}px`;
    if (sawLast && isLonger) {
      this.view.left = Math.max(0, NAME + CELL * rounds.length - this.view.width);
      requestAnimationFrame(() => { // once everything is in place: to scroll lays the whole page out
        this.box.scrollLeft = this.view.left;
        this.view.left = this.box.scrollLeft; // as far as it goes
        this.draw();
      });
    }
    this.drawn = "";
    this.draw();
  }

  /** Mark the column of the round that the rest of the page shows. */
  mark(round) {
    if (round === this.marked) return;
    this.marked = round;
    this.drawn = "";
    this.draw();
  }

  draw() {
    const { rounds, workers } = this.data;
    const rows = visible(this.view.top, this.view.height, workers.length);
    const columns = visible(this.view.left, this.view.width - NAME, rounds.length);
    const view = [...rows, ...columns].join();
    if (view === this.drawn || this.box.hidden) return;
    this.drawn = view;
    const hadFocus = this.body.contains(document.activeElement);
    this.head.replaceChildren(
      el("span", { class: "grid-name", role: "columnheader", "aria-colindex": 1 }, "worker / round"),
      ...this.numbers(columns),
    );
    const made = [];
    for (let row = rows[0]; row < rows[1]; row += 1) made.push(this.row(row, columns));
    this.body.replaceChildren(...made);
    if (hadFocus) this.focused()?.focus({ preventScroll: true });
    else if (!this.focused()) this.body.querySelector("[data-row]")?.setAttribute("tabindex", 0);
  }

  numbers([first, end]) {
    return this.data.rounds.slice(first, end).map((round, index) =>
      this.placed(
        el(
          "span",
          {
            class: round === this.marked ? "grid-round marked" : "grid-round",
            role: "columnheader",
            "aria-colindex": first + index + 2,
          },
          String(round),
        ),
        index ? null : first,
      ),
    );
  }

  row(row, [first, end]) {
    const worker = this.data.workers[row];
    const cells = [...this.data.letters[row].slice(first, end)].map((letter, index) =>
      this.cell(worker, row, first + index, letter, index === 0),
    );
    const name = el("span", { class: "grid-name", role: "rowheader", "aria-colindex": 1, title: worker }, worker);
    const made = el("div", { class: "grid-row", role: "row", "aria-rowindex": row + 2 }, name, cells);
    made.style.top = `${CELL * row}px`;
    return made;
  }

  cell(worker, row, column, letter, isFirst) {
    const round = this.data.rounds[column];
    const verdict = VERDICTS[letter];
    const isFocus = row === this.focus.row && column === this.focus.column;
    return this.placed(
      el(
        "span",
        {
          class: `cell v-${verdict.kind}${round === this.marked ? " marked" : ""}`,
          role: "gridcell",
          tabindex: isFocus ? 0 : -1,
          "aria-colindex": column + 2,
          "aria-label": `${worker}, round ${round}: ${verdict.word}`,
          "data-row": row,
          "data-column": column,
        },
        verdict.sign,
      ),
      isFirst ? column : null,
    );
  }

  /** Make room for the columns to the left that do not exist. */
  placed(node, before) {
    if (before) node.style.marginLeft = `${CELL * before}px`;
    return node;
  }

  clicked(event) {
    const cell = event.target.closest("[data-row]");
    if (!cell) return;
    this.moveTo(Number(cell.dataset.row), Number(cell.dataset.column));
    this.picked();
  }

  pressed(event) {
    const { row, column } = this.focus;
    const page = Math.max(1, Math.floor(this.view.height / CELL) - 2);
    const [lastRow, lastColumn] = [this.data.workers.length - 1, this.data.rounds.length - 1];
    const moves = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      PageUp: [row - page, column],
      PageDown: [row + page, column],
      Home: [event.ctrlKey ? 0 : row, 0],
      End: [event.ctrlKey ? lastRow : row, lastColumn],
    };
    if (event.key in moves) this.moveTo(...moves[event.key]);
    else if (event.key === "Enter" || event.key === " ") this.picked();
    else return;
    event.preventDefault();
  }

  picked() {
    this.pick(this.data.workers[this.focus.row], this.data.rounds[this.focus.column]);
  }

  moveTo(row, column) {
    this.focus = {
      row: Math.min(this.data.workers.length - 1, Math.max(0, row)),
      column: Math.min(this.data.rounds.length - 1, Math.max(0, column)),
    };
    const [top, left] = [CELL * this.focus.row, CELL * this.focus.column];
    const { view } = this;
    this.box.scrollTop = view.top = Math.min(top, Math.max(view.top, top + 2 * CELL - view.height));
    this.box.scrollLeft = view.left = Math.min(left, Math.max(view.left, left + CELL + NAME - view.width));
    this.drawn = "";
    this.draw();
    this.focused()?.focus({ preventScroll: true });
  }

  focused() {
    return this.body.querySelector('[tabindex="0"]');
  }
}

/** Return [first, end) of the cells in view. */
function visible(scrolled, length, all) {
  const first = Math.max(0, Math.floor(scrolled / CELL) - MARGIN);
  return [Math.min(first, all), Math.min(all, Math.ceil((scrolled + length) / CELL) + MARGIN)];
}
