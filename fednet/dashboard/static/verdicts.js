// What became of a worker's update in a round: a letter in the data; a sign, a word and a colour on the page.

export const VERDICTS = {
  s: { sign: "✓", word: "selected", kind: "selected" },
  r: { sign: "×", word: "rejected", kind: "rejected" },
  q: { sign: "Q", word: "quarantined", kind: "quarantined" },
  a: { sign: "A", word: "absent: no update in time", kind: "absent" },
  d: { sign: "D", word: "declined by the hospital", kind: "declined" },
  x: { sign: "V", word: "certificate revoked", kind: "revoked" },
  "-": { sign: "", word: "not asked", kind: "none" },
};

/** Return the verdicts of all rounds: those that were known, and those that came after them. */
export function longer(known, more) {
  const letters = new Map(known.workers.map((name, index) => [name, known.grid[index]]));
  const unknown = "-".repeat(known.rounds.length);
  return {
    rounds: [...known.rounds, ...more.rounds],
    workers: more.workers,
    grid: more.workers.map((name, index) => (letters.get(name) ?? unknown) + more.grid[index]),
  };
}

/** Return the letter of one worker in a round's view. */
export function letterIn(round, worker) {
  const update = round.updates.find((each) => each.worker === worker);
  if (update) return letterOf(update);
  if (round.absent.includes(worker)) return "a";
  if (Object.hasOwn(round.declined, worker)) return "d";
  return Object.hasOwn(round.revoked, worker) ? "x" : "-";
}

export const letterOf = (update) => (update.selected ? "s" : update.quarantined ? "q" : "r");
export const kindOf = (update) => VERDICTS[letterOf(update)].kind;

/** Return why, in the coordinator's own words where it gave some. */
export function reasonIn(round, worker) {
  const update = round.updates.find((each) => each.worker === worker);
  if (update) return update.selected ? "Selected: this update counts in the new model." : sentence(update.reason);
  if (round.absent.includes(worker)) return "Absent: no update of it arrived before the round closed.";
  if (Object.hasOwn(round.declined, worker)) return `Declined by the hospital: ${round.declined[worker]}`;
  if (Object.hasOwn(round.revoked, worker)) return `Its certificate was revoked: ${round.revoked[worker]}`;
  return "Not asked: it was not part of this round.";
}

export const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) : text);
