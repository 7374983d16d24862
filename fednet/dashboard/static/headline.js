// What somebody who looks for ten seconds takes away: how the run stands, and who is rejected. No document here.

import { byName, count, duration, figure, listed, percent, plural } from "./format.js";

const PHASES = {
  waiting: "waiting for workers",
  distributing: "sending the model",
  collecting: "workers train, their updates come in",
  aggregating: "comparing and averaging the updates",
  evaluating: "judging the new model",
  committing: "writing the round down",
};
const ENOUGH_ROUNDS = 3; // after which a model knows something, if it ever will
const BETTER = 0.15; // than one in so many classes, as a share of it
const FALLEN = 0.1; // accuracy below the best round's: no longer the noise of one round

/** Return {tone: good|info|warn|bad, sign, title, detail} of a run's overview. */
export function headline(run) {
  const last = lastKnown(run.series.accuracy);
  const best = Math.max(...run.series.accuracy.filter((value) => value !== null), 0);
  const rounds = `round ${count(run.rounds_done)} of ${count(run.rounds_total)}`;
  const reached = last === null ? "" : `: accuracy ${percent(last)} after ${rounds}`;
  const isGuessing = last !== null && run.rounds_done >= ENOUGH_ROUNDS && last < (1 + BETTER) / run.classes.length;
  if (run.standing === "finished") {
    const title = `Finished${reached || `, ${rounds}`}`;
    if (isGuessing)
      return { tone: "warn", sign: "!", title: `${title}, no better than guessing`, detail: bestRound(run) };
    return { tone: "good", sign: "✓", title, detail: bestRound(run) };
  }
  if (run.standing === "stopped") {
    const title =
      run.rounds_done === 0 ? "Stopped before its first round was over" : `Stopped${reached || `: ${rounds} done`}`;
    return { tone: "bad", sign: "!", title, detail: `Because: ${run.ending}. coordinator start --resume goes on.` };
  }
  if (run.stalled_s !== null) {
    const title = `Stalled: no sign of life from the coordinator for ${duration(run.stalled_s)}`;
    return {
      tone: "bad",
      sign: "!",
      title,
      detail: `It hangs, its disk does, or it was killed. Known so far: ${rounds} done.`,
    };
  }
  if (run.rounds_done === 0) return beginning(run);
  if (last === null) return { tone: "info", sign: "…", title: `Running: ${rounds} done`, detail: remaining(run) };
  if (isGuessing) {
    const title = `Not learning: accuracy ${percent(last)} after ${rounds} is no better than guessing`;
    return { tone: "warn", sign: "!", title, detail: remaining(run) };
  }
  if (last < best - FALLEN) {
    const title = `Accuracy has fallen: ${percent(last)} after ${rounds}, the best was ${percent(best)}`;
    return { tone: "warn", sign: "!", title, detail: remaining(run) };
  }
  return { tone: "good", sign: "✓", title: `Healthy${reached}`, detail: remaining(run) };
}

function beginning(run) {
  const waits = run.live !== null && run.live.workers_connected < run.live.workers_total;
  const title = waits
    ? `Waiting for workers: ${count(run.live.workers_connected)} of ${count(run.live.workers_total)} connected`
    : "Running: the first round is under way";
  return { tone: "info", sign: "…", title, detail: now(run) || "It is starting." };
}

function remaining(run) {
  const left = run.left_s === null ? "" : `About ${duration(run.left_s)} left.`;
  return [now(run), left, bestRound(run)].filter(Boolean).join(" ");
}

function now(run) {
  return run.live?.phase ? `Round ${count(run.live.round)}: ${PHASES[run.live.phase] ?? run.live.phase}.` : "";
}

const bestRound = (run) =>
  run.best_round === null
    ? ""
    : `Best round by validation: ${count(run.best_round)} of ${plural(run.rounds_done, "round")}.`;

/** Return who was rejected in the last round, those rejected most often first: [{name, text}]. */
export function rejectedLately(run, verdicts) {
  if (!verdicts || verdicts.rounds.length === 0) return [];
  const counts = new Map(run.workers.map((each) => [each.name, each]));
  const found = [];
  verdicts.workers.forEach((name, index) => {
    if (!"rq".includes(verdicts.grid[index].at(-1))) return;
    const { selected, rejected: times } = counts.get(name) ?? { selected: 0, rejected: 1 }; // news of a moment later
    const sent = selected + times;
    found.push({
      name,
      times,
      sent,
      text: `rejected in ${times === sent ? "all" : `${times} of`} ${plural(sent, "round")}`,
    });
  });
  return found.sort(
    (one, other) =>
      other.times / other.sent - one.times / one.sent || other.times - one.times || byName(one.name, other.name),
  );
}

/** Return a sentence about them; a rule that takes few leaves out honest ones too, and so nobody is named. */
export function rejectedSentence(run, found) {
  if (run.takes_few && found.length > 0)
    return `${run.recipe} counts few updates a round: the ${count(found.length)} it left out may be honest.`;
  if (found.length === 0) return run.rounds_done ? "Nobody was rejected in the last round." : "";
  return `Rejected in the last round: ${listed(found.map((each) => each.name))}.`;
}

/** Return what the rule of this run withstands, in a sentence. */
export function tolerance(run) {
  if (run.byzantine === 0) return `${run.recipe}: no tolerance of malicious workers (f = 0).`;
  return `${run.recipe}: withstands up to ${plural(run.byzantine, "malicious worker")} (f = ${figure(run.byzantine)}).`;
}

/** Return the last number of a series that is known, or null. */
export function lastKnown(values) {
  return values.findLast((value) => value !== null) ?? null;
}
