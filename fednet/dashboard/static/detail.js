// The panel that answers "why": one worker in one round, in plain words. It takes no focus: a grid stays where it was.

import { byId, facts, say } from "./dom.js";
import { count, duration, figure, percent } from "./format.js";
import { VERDICTS, letterIn, reasonIn } from "./verdicts.js";

export class Detail {
  constructor() {
    this.panel = byId("detail");
    byId("detail-close").addEventListener("click", () => this.close());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.panel.hidden) this.close();
    });
  }

  /** Show what became of `worker` in a round (an answer of /api/rounds/N). */
  show(worker, round) {
    const verdict = VERDICTS[letterIn(round, worker)];
    const update = round.updates.find((each) => each.worker === worker);
    const badge = byId("detail-verdict");
    badge.className = `badge v-${verdict.kind}`;
    say(badge, `${verdict.sign} ${verdict.word}`);
    say(byId("detail-title"), `${worker}, round ${round.round}`);
    say(byId("detail-reason"), reasonIn(round, worker));
    byId("detail-facts").replaceChildren(facts(update ? known(update, round) : []));
    this.panel.classList.toggle("left", isToTheRight(document.activeElement));
    this.panel.hidden = false;
  }

  close() {
    this.panel.hidden = true;
  }
}

/** Whether the reader looks at the right half of the page, which the panel then leaves alone. */
function isToTheRight(node) {
  const { left, right } = node.getBoundingClientRect();
  return node !== document.body && (left + right) / 2 > innerWidth / 2;
}

function known(update, round) {
  const told = (value, text = figure) => (value === null || value === undefined ? null : text(value));
  return [
    ["score", told(update.score)],
    ["cut: the worst score selected", told(round.cut)],
    ["size of its update (norm)", told(update.norm)],
    ["cosine to the selected's mean", told(update.cosine)],
    ["weight in the step", told(update.weight, percent)],
    ["scans it trained on", told(update.samples, count)],
    ["training loss", told(update.loss)],
    ["training took", told(update.train_s, duration)],
    ["arrived after", told(update.arrived_s, duration)],
    ["own ε", told(update.epsilon)],
    ["note on the round", round.note],
  ];
}
