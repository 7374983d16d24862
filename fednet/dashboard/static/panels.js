// The quiet parts of the page: class mix, privacy, the chain's head, settings and events.

import { el, facts, svg } from "./dom.js";
import { byName, count, figure, plural, readable, when } from "./format.js";

const MOST_SITES = 60; // bars that somebody scrolls through

/** Show how many scans of each class the sites say they hold out. */
export function showClassMix(holder, mix, classes) {
  const sites = Object.keys(mix).sort(byName);
  if (sites.length === 0) {
    holder.replaceChildren(el("p", { class: "empty" }, "No site shares it (worker join --share-evaluation)."));
    return;
  }
  const legend = el(
    "ul",
    { class: "legend" },
    classes.map((name, index) =>
      el(
        "li",
        {},
        svg(
          "svg",
          { class: `sample c${index % 8}`, width: 14, height: 12, "aria-hidden": "true" },
          svg("path", { class: "bar", d: "M1,1h12v10h-12Z" }),
        ),
        readable(name),
      ),
    ),
  );
  const rows = sites.slice(0, MOST_SITES).map((site) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, site),
      el("td", { class: "mix" }, mixBar(mix[site])),
      mix[site].map((value) => el("td", { class: "number" }, count(value))),
    ),
  );
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "Site"),
    el("td", {}),
    classes.map((name) => el("th", { scope: "col", class: "number" }, readable(name))),
  );
  const rest =
    sites.length > MOST_SITES
      ? el("p", { class: "caption" }, `and ${plural(sites.length - MOST_SITES, "site")} more`)
      : null;
  const table = el(
    "table",
    { class: "plain" },
    el("caption", {}, "Held-out scans by class, as sites say"),
    el("thead", {}, head),
    el("tbody", {}, rows),
  );
  holder.replaceChildren(
    legend,
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Class mix by site" }, table),
    ...(rest ? [rest] : []),
  );
}

function mixBar(counts) {
  const all = counts.reduce((sum, value) => sum + value, 0) || 1;
  let from = 0;
  const parts = counts.map((value, index) => {
    const part = svg("rect", {
      class: `c${index % 8} bar`,
      x: 160 * from,
      y: 0,
      width: (160 * value) / all,
      height: 16,
    });
    from += value / all;
    return part;
  });
  return svg("svg", { width: 160, height: 16, "aria-hidden": "true" }, parts);
}

/** Show what client-level privacy has spent, or that sites keep their own, or that there is none. */
export function showPrivacy(holder, run) {
  const spent = run.privacy;
  const own = run.workers.filter((each) => each.epsilon !== null);
  if (spent === null && own.length === 0) {
    holder.replaceChildren(
      el("p", {}, "No differential privacy in this run: updates are shared as they are, within TLS."),
    );
    return;
  }
  const limit = run.settings.client_privacy?.epsilon;
  const central = spent && [
    ["ε spent", limit ? `${figure(spent.epsilon)} of ${figure(limit)}` : figure(spent.epsilon)],
    ["δ", figure(spent.delta)],
    ["rounds charged", count(spent.rounds)],
    ["ε with another round", figure(spent.epsilon_of_another)],
    ["clip", figure(spent.clip)],
    ["noise", figure(spent.noise)],
    ["protects against", spent.adjacency],
  ];
  const sites = own.length && [
    ["sites with their own DP-SGD", count(own.length)],
    ["largest ε among them", figure(Math.max(...own.map((each) => each.epsilon)))],
  ];
  holder.replaceChildren(facts([...(central || []), ...(sites || [])]));
}

/** Show the end of the signed chain, and how to verify it. */
export function showAudit(holder, run) {
  if (run.audit === null) {
    holder.replaceChildren(el("p", { class: "empty" }, "This run keeps no signed record."));
    return;
  }
  holder.replaceChildren(
    facts([
      ["last signed round", count(run.audit.round)],
      ["head (SHA-256)", el("code", {}, run.audit.head)],
      ["verify it", el("code", {}, `python cli.py runs verify ${run.name}`)],
    ]),
  );
}

/** Show what was asked for. */
export function showSettings(holder, run) {
  const pairs = [
    ["run", run.run],
    ["begun", when(run.begun)],
    ["software", run.software],
    ["rule", run.recipe],
    ["classes", run.classes.map(readable).join(", ")],
  ];
  const nested = Object.entries(run.settings).filter(([name]) => name !== "classes");
  for (const [name, value] of nested) {
    if (Array.isArray(value)) pairs.push([readable(name), value.join(", ") || "none"]);
    else if (value !== null && typeof value === "object") {
      for (const [part, each] of Object.entries(value))
        pairs.push([`${readable(name)}: ${readable(part)}`, told(each)]);
    } else pairs.push([readable(name), told(value)]);
  }
  holder.replaceChildren(facts(pairs));
}

const told = (value) => (typeof value === "boolean" ? (value ? "yes" : "no") : value === "" ? "none" : String(value));

/** Show what happened, newest first. */
export function showEvents(holder, events) {
  if (events.length === 0) {
    holder.replaceChildren(el("p", { class: "empty" }, "Nothing yet."));
    return;
  }
  const items = events.map((each) =>
    el("li", {}, el("time", { datetime: each.at }, when(each.at)), el("b", {}, each.what), el("span", {}, each.detail)),
  );
  holder.replaceChildren(el("ol", { class: "events" }, items));
}
