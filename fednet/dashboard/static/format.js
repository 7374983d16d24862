// Numbers, times and names as people read them; "–" stands for what is not known.

export const NOTHING = "–";
const digits3 = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat("en");
const moment = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

const isMissing = (value) => value === null || value === undefined || Number.isNaN(value);

/** Three significant digits. */
export function figure(value) {
  if (isMissing(value)) return NOTHING;
  const size = Math.abs(value);
  if (size === 0) return "0"; // never "-0"
  return size < 1e-3 || size >= 1e7 ? value.toExponential(2) : digits3.format(value);
}

export const count = (value) => (isMissing(value) ? NOTHING : whole.format(value));
export const percent = (share) => (isMissing(share) ? NOTHING : `${(100 * share).toFixed(1)}\u00a0%`);

/** A share as the percents of an axis that says so. */
export const hundredths = (share) => figure(100 * share);

export function duration(seconds) {
  if (isMissing(seconds)) return NOTHING;
  if (seconds < 10) return `${figure(seconds)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${figure(seconds / 3600)} h`;
  return `${figure(seconds / 86400)} days`;
}

export function bytes(value) {
  if (isMissing(value)) return NOTHING;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (value >= 1000 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${figure(value)} ${units[step]}`;
}

export const when = (iso) => (iso ? moment.format(new Date(iso)) : NOTHING);
export const date = (iso) => (iso ? day.format(new Date(iso)) : NOTHING);

/** How long ago that was, at the moment `now` (ms). */
export function ago(iso, now) {
  return iso ? `${duration(Math.max(0, Math.round((now - new Date(iso)) / 1000)))} ago` : NOTHING;
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
export const readable = (name) => name.replaceAll("_", " ");

/** Names as in a sentence: the first `most`, then how many more. */
export function listed(names, most = 3) {
  if (names.length <= most) return names.join(", ");
  return `${names.slice(0, most).join(", ")} and ${count(names.length - most)} more`;
}

const keys = new Map(); // by name: a thousand of them are sorted each second

function keyOf(name) {
  if (!keys.has(name))
    keys.set(
      name,
      name.toLowerCase().replaceAll(/\d+/g, (number) => number.padStart(15, "0")),
    );
  return keys.get(name);
}

/** client2 before client10. */
export function byName(one, other) {
  const [first, second] = [keyOf(one), keyOf(other)];
  return first === second ? 0 : first < second ? -1 : 1;
}
