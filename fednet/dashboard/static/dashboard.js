// Puts the page together: asks the server, hands each part what it shows, follows the rounds.

import { LineChart, StackChart } from "./chart.js";
import { Detail } from "./detail.js";
import { byId, el, facts, say } from "./dom.js";
import { ask, listen } from "./feed.js";
import { byName, count, duration, figure, hundredths, percent, readable, when } from "./format.js";
import { VerdictGrid } from "./grid.js";
import { headline, lastKnown, rejectedLately, rejectedSentence, tolerance } from "./headline.js";
import { Scores, UpdateMap } from "./krum.js";
import { DistanceMap, showConfusion } from "./matrix.js";
import { showAudit, showClassMix, showEvents, showPrivacy, showSettings } from "./panels.js";
import { VERDICTS, letterOf, longer } from "./verdicts.js";
import { WorkerTable } from "./workers.js";

const MANY = 30; // workers; of more, those that are rejected most come first
const SILENT_MS = 20000; // a running run says something each second
const NO_ROUND = "Nothing yet: the first round is not over.";
const KEPT_ROUNDS = 20;
const FAILURE_MS = 10000; // long enough to read why a question was not answered
const MOST_MEASURES = 2000; // a page may be open for weeks
const CLASS_SHAPES = ["circle", "square", "triangle", "diamond"];
const PHASES = [
  ["train", "training"],
  ["transfer", "transfer"],
  ["aggregate", "aggregation"],
  ["evaluate", "evaluation"],
  ["commit", "commit"],
];

let run = null; // the last overview
let drawn = null; // how many rounds what is drawn of them shows
let verdicts = null; // of all rounds, put together from answers of /api/verdicts
let shown = null; // the round that is shown, an answer of /api/rounds/N
let follows = true; // whether a new round is shown at once
const recorded = new Map(); // what showRecord has shown, by the element that shows it
let heard = Date.now(); // when the server last said something
let lost = null; // why what is shown may be old: the connection is lost, or the run is gone
let failure = { why: "", until: 0 }; // of the reader's last question that was not answered
let wanted = null; // the round that was asked for last, to be shown
let question = null; // the worker and round that were asked about last
const rounds = new Map(); // answers of /api/rounds/N

const detail = new Detail();
const grid = new VerdictGrid(byId("verdicts"), (worker, round) => explain(worker, round));
const workers = new WorkerTable(byId("workers"), (worker) => shown && explain(worker, verdicts.rounds.at(-1)));
const scores = new Scores(byId("scores"), (worker) => explain(worker, shown.round));
const map = new UpdateMap(byId("map"), (worker) => explain(worker, shown.round));
const distances = new DistanceMap(byId("distances"), (worker) => explain(worker, shown.round));
let charts = null;

function chartsOf(classes) {
  const recall = classes.map((name, index) => ({
    key: name,
    label: readable(name),
    style: `c${index % 8}`,
    shape: CLASS_SHAPES[index % 4],
  }));
  const lines = (id, options) => new LineChart(byId(id), { pick: show, ...options });
  const stack = (id, options) => new StackChart(byId(id), { pick: show, ...options });
  return {
    accuracy: lines("accuracy", {
      label: "Accuracy and macro F1",
      unit: "% of the images",
      range: [0, 1],
      format: percent,
      tick: hundredths,
      height: 300,
      series: [
        { key: "accuracy", label: "test accuracy", style: "c0", shape: "circle" },
        { key: "macro_f1", label: "test macro F1", style: "c1", shape: "square" },
        { key: "validation_accuracy", label: "validation accuracy", style: "c2", shape: "triangle" },
      ],
    }),
    loss: lines("loss", {
      label: "Loss",
      unit: "cross-entropy, nats",
      series: [{ key: "loss", label: "test loss", style: "c0", shape: "circle" }],
    }),
    recall: lines("recall", {
      label: "Recall of each class",
      unit: "% of its images",
      range: [0, 1],
      format: percent,
      tick: hundredths,
      series: recall,
    }),
    counts: stack("counts", {
      label: "Updates by verdict",
      unit: "workers",
      format: count,
      series: [
        { key: "selected", label: "selected", style: "v-selected" },
        { key: "rejected", label: "rejected", style: "v-rejected" },
        { key: "absent", label: "absent", style: "v-absent" },
      ],
    }),
    seconds: stack("seconds", {
      label: "Seconds by phase",
      unit: "seconds",
      format: duration,
      series: PHASES.map(([key, label], index) => ({ key, label, style: `c${index}` })),
    }),
  };
}

/** Show an overview, and what follows from it. */
async function update(next) {
  if (run !== null && next.run !== run.run) {
    location.reload(); // another run in its place: nothing of this one is true of it
    return;
  }
  run = next;
  charts ??= chartsOf(run.classes);
  if (drawn !== run.rounds_done) {
    const last = run.series.round.at(-1);
    const round = follows && last !== undefined ? roundOf(last) : null; // asked for at the same time
    const known = verdicts !== null && verdicts.rounds.length <= run.rounds_done ? verdicts.rounds.length : 0;
    const [more] = await Promise.all([ask(`/api/verdicts?after=${known}`), round]);
    verdicts = known > 0 ? longer(verdicts, more) : more;
    showSeries();
    await follow();
    drawn = run.rounds_done;
  }
  showHeadline();
  showLists();
  showRecord();
  requestAnimationFrame(() => setTimeout(painted));
}

/** Note how long it took from the news to the picture, or to the first one, for whoever measures the page. */
function painted() {
  if (performance.getEntriesByName("fednet:news").length > 0) performance.measure("fednet:update", "fednet:news");
  else performance.mark("fednet:shown");
  performance.clearMarks("fednet:news");
  if (performance.getEntriesByName("fednet:update").length > MOST_MEASURES) performance.clearMeasures("fednet:update");
  document.body.dataset.rounds = run.rounds_done;
}

function showSeries() {
  const { round, ...series } = run.series;
  for (const name of ["accuracy", "loss", "counts"]) charts[name].show(round, series);
  charts.recall.show(round, series.recall);
  charts.seconds.show(round, series.seconds);
}

function showHeadline() {
  const found = rejectedLately(run, verdicts);
  const { tone, sign, title, detail: more } = headline(run);
  byId("headline").className = `headline ${tone}`;
  say(byId("sign"), sign);
  say(byId("title"), title);
  say(byId("more"), more);
  say(byId("rejected"), rejectedSentence(run, found));
  say(byId("run-name"), run.name);
  document.title = `${sign} ${run.rounds_done}/${run.rounds_total} ${run.name}`;
  const done = byId("done");
  done.max = run.rounds_total;
  done.value = run.rounds_done;
  byId("culprits").replaceChildren(...(run.takes_few ? [] : found.slice(0, 4).map(culprit)));
  say(byId("tolerance"), tolerance(run));
  byId("tiles").replaceChildren(...tiles(found));
}

function culprit(each) {
  const button = el(
    "button",
    { type: "button" },
    el("span", { class: "cell v-rejected", "aria-hidden": "true" }, "×"),
    el("b", {}, each.name),
    ` ${each.text}`,
  );
  button.addEventListener("click", () => explain(each.name, verdicts.rounds.at(-1)));
  return el("li", {}, button);
}

function tiles(found) {
  const { accuracy, macro_f1: f1, loss } = run.series;
  return [
    tile("Accuracy", percent(lastKnown(accuracy)), change(accuracy)),
    tile("Macro F1", percent(lastKnown(f1)), "unseen test set"),
    tile("Loss", figure(lastKnown(loss)), "cross-entropy, nats"),
    tile(
      "Rounds",
      count(run.rounds_done),
      run.left_s === null
        ? `of ${count(run.rounds_total)}, ${run.standing}`
        : `of ${count(run.rounds_total)}, about ${duration(run.left_s)} left`,
    ),
    run.live
      ? tile("Workers", count(run.live.workers_connected), `connected, of ${count(run.live.workers_total)}`)
      : tile("Workers", count(run.workers.length), "took part"),
    tile("Rejected", verdicts?.rounds.length ? count(found.length) : "–", "in the last round"),
  ];
}

const tile = (name, value, note) =>
  el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, value, el("small", {}, note)));

function change(values) {
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return "unseen test set";
  const points = 100 * (known.at(-1) - known[0]);
  const first = run.series.round[values.indexOf(known[0])];
  return `${points < 0 ? "−" : "+"}${Math.abs(points).toFixed(1)} since round ${first}`;
}

function showLists() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const isWanted = (name) => name.toLowerCase().includes(wanted);
  workers.show(
    run.workers.filter((each) => isWanted(each.name)),
    wanted !== "",
  );
  say(
    byId("worker-count"),
    wanted
      ? `${count(workers.workers.length)} of ${count(run.workers.length)} workers`
      : `${count(run.workers.length)} workers`,
  );
}

/** Show what seldom changes, where it has changed. */
function showRecord() {
  const spent = run.workers.map((each) => each.epsilon);
  renew("class-mix", run.class_mix, (holder) => showClassMix(holder, run.class_mix, run.classes));
  renew("settings", [run.settings, run.software], (holder) => showSettings(holder, run));
  renew("privacy", [run.privacy, spent], (holder) => showPrivacy(holder, run));
  renew("audit", run.audit, (holder) => showAudit(holder, run));
  renew("events", run.events, (holder) => showEvents(holder, run.events));
}

function renew(id, told, draw) {
  const text = JSON.stringify(told);
  if (text === recorded.get(id)) return;
  recorded.set(id, text);
  draw(byId(id));
}

function showGrid() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const order = verdicts.workers
    .map((_, index) => index)
    .filter((index) => verdicts.workers[index].toLowerCase().includes(wanted));
  const counts = new Map(run.workers.map((each) => [each.name, each.rejected]));
  const rejected = verdicts.workers.map((name) => counts.get(name) ?? 0);
  const isMany =
    byId("order").value === "rejected" || (byId("order").value === "auto" && verdicts.workers.length > MANY);
  order.sort(
    (one, other) =>
      (isMany && rejected[other] - rejected[one]) || byName(verdicts.workers[one], verdicts.workers[other]),
  );
  grid.show(
    verdicts.rounds,
    order.map((index) => verdicts.workers[index]),
    order.map((index) => verdicts.grid[index]),
    follows ? verdicts.rounds.at(-1) : shown?.round,
  );
}

/** Show the last round if the reader did not choose one. */
async function follow() {
  showGrid();
  const last = verdicts.rounds.at(-1);
  byId("round").max = verdicts.rounds.length;
  byId("round").disabled = last === undefined;
  if (last === undefined) showNoRound();
  else if (follows || shown === null) await showRound(last);
}

/** Show one round; any but the last stays when others come. */
async function showRound(number) {
  wanted = number;
  const found = await roundOf(number);
  if (number !== wanted) return; // another was asked for meanwhile
  shown = found;
  follows = number === verdicts.rounds.at(-1);
  byId("round").value = verdicts.rounds.indexOf(number) + 1;
  byId("round").setAttribute("aria-valuetext", `round ${number}`);
  say(byId("round-name"), `Round ${number}${follows ? ", the latest" : ""}`);
  grid.mark(number);
  scores.show(shown);
  map.show(shown);
  showDistances();
  showConfusionOf();
  showRoundFacts();
}

async function roundOf(number) {
  if (!rounds.has(number)) {
    rounds.set(number, await ask(`/api/rounds/${number}`));
    if (rounds.size > KEPT_ROUNDS) rounds.delete(rounds.keys().next().value);
  }
  return rounds.get(number);
}

function showNoRound() {
  say(byId("round-name"), "No round yet");
  for (const part of [scores, map, distances]) part.showNothing(NO_ROUND);
  byId("confusion").replaceChildren(el("p", { class: "empty" }, NO_ROUND));
}

function showDistances() {
  if (shown.distances === null) {
    const many = shown.distances_left_out
      ? `: too many to tell apart (${count(shown.distances_left_out)} updates)`
      : "";
    distances.showNothing(
      `The distances of this round are not shown${many}. The map and the scores are made from them.`,
    );
    return;
  }
  const signs = new Map(shown.updates.map((each) => [each.worker, VERDICTS[letterOf(each)].sign]));
  distances.show(
    shown.scored,
    shown.scored.map((name) => signs.get(name) ?? ""),
    shown.distances,
  );
}

function showConfusionOf() {
  const part = document.querySelector("input[name=part]:checked").value;
  showConfusion(byId("confusion"), shown.confusion[part], run.classes);
}

function showRoundFacts() {
  const test = shown.test ?? {};
  byId("round-facts").replaceChildren(
    facts([
      ["accuracy", percent(test.accuracy)],
      ["macro F1", percent(test.macro_f1)],
      ["macro AUC", figure(test.macro_auc)],
      ["loss", figure(test.loss)],
      ["took", duration(shown.seconds?.round)],
      ["f in force", shown.byzantine === undefined ? null : figure(shown.byzantine)],
      ["model (SHA-256)", shown.model_sha256 ? el("code", {}, shown.model_sha256.slice(0, 16)) : null],
      ["note", shown.note],
      ["refused", shown.refused ? String(shown.refused) : null],
    ]),
  );
}

/** News could not be shown: the page is old until there are others. */
function failed(error) {
  lost = `${error.message}.`;
  showLink();
}

/** The reader asked for something, and got no answer: what is shown is as true as before. */
function unanswered(error) {
  failure = { why: `${error.message}.`, until: Date.now() + FAILURE_MS };
  showLink();
}

function show(number) {
  showRound(number).catch(unanswered);
}

function explain(worker, number) {
  const asked = { worker, number };
  question = asked;
  roundOf(number)
    .then((round) => question === asked && detail.show(worker, round))
    .catch(unanswered);
}

/** Say whether what is on the page is of this moment. */
function showLink() {
  const silence = Date.now() - heard;
  const isSilent = run?.standing === "running" && run.stalled_s === null && silence > SILENT_MS;
  const [kind, word] =
    lost !== null
      ? ["lost", "not connected"]
      : isSilent
        ? ["silent", "silent"]
        : ["on", run?.standing === "running" ? "live" : "connected"];
  byId("link").className = `link ${kind}`;
  say(byId("link-text"), word);
  const failing = Date.now() < failure.until ? failure.why : "";
  const note = kind === "on" ? failing : whyOld(silence);
  byId("lost").hidden = note === "";
  say(byId("lost-text"), note);
}

function whyOld(silence) {
  if (run === null) return `${lost ?? ""} Trying again …`;
  const known = `What you see is of ${when(new Date(heard).toISOString())}.`;
  if (lost === null) return `Nothing was heard of the run for ${duration(silence / 1000)}. ${known}`;
  if (run.standing === "finished")
    return "The run is over, and so is its page: cli.py dashboard --run-dir shows it again.";
  return `${lost} ${known} Trying again …`;
}

function listenToReader() {
  byId("filter").addEventListener("input", () => {
    if (run === null || verdicts === null) return;
    showLists();
    showGrid();
  });
  byId("order").addEventListener("change", () => verdicts && showGrid());
  byId("round").addEventListener("input", () => show(verdicts.rounds[byId("round").value - 1]));
  byId("latest").addEventListener("click", () => verdicts?.rounds.length && show(verdicts.rounds.at(-1)));
  for (const [id, step] of [
    ["earlier", -1],
    ["later", 1],
  ]) {
    byId(id).addEventListener("click", () => {
      const number = shown && verdicts.rounds[verdicts.rounds.indexOf(shown.round) + step];
      if (number !== null && number !== undefined) show(number);
    });
  }
  for (const part of document.querySelectorAll("input[name=part]"))
    part.addEventListener("change", () => shown && showConfusionOf());
}

/** One overview after the other; of those that came meanwhile only the last. */
function inTurn(work) {
  let [isBusy, waiting] = [false, null];
  return async (next) => {
    waiting = next;
    if (isBusy) return;
    isBusy = true;
    try {
      while (waiting !== null) {
        const current = waiting;
        waiting = null;
        await work(current);
      }
    } catch (error) {
      failed(error);
    } finally {
      isBusy = false;
    }
  };
}

const news = inTurn(update);
listenToReader();
setInterval(showLink, 1000);
await ask("/api/run").then(news, failed);
showLink();
listen({
  news: (next) => {
    heard = Date.now();
    lost = null;
    news(next);
    showLink();
  },
  gone: (why) => {
    lost = `${why}.`;
    showLink();
  },
  linked: (isThere) => {
    lost = isThere ? null : "The connection to the dashboard is lost.";
    if (isThere) heard = Date.now();
    showLink();
  },
});
