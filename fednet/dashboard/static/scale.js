// From data to pixels: linear and logarithmic scales with round ticks. No document here.

/** Return {at(value) -> px, ticks: [value]} for values from `low` to `high` on `from` to `to` pixels. */
export function linear(low, high, from, to, most = 5) {
  if (high === low) high = low + 1;
  const step = stepOf((high - low) / most);
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1)
    ticks.push(index * step);
  return { at: (value) => from + ((value - low) / (high - low)) * (to - from), ticks };
}

/** The same on a logarithmic scale, with ticks at powers of ten; `low` is above 0. */
export function logarithmic(low, high, from, to) {
  const first = Math.floor(Math.log10(low));
  const last = Math.max(first + 1, Math.ceil(Math.log10(high)));
  const every = Math.ceil((last - first) / 5);
  const ticks = [];
  for (let power = first; power <= last; power += every) ticks.push(10 ** power);
  return {
    at: (value) => from + ((Math.log10(Math.max(value, 10 ** first)) - first) / (last - first)) * (to - from),
    ticks,
  };
}

/** Return the end of an axis that starts at 0: the next round number. */
export function topOf(value) {
  if (!(value > 0)) return 1;
  const step = stepOf(value / 4);
  return Math.ceil(value / step - 1e-9) * step;
}

function stepOf(rough) {
  const size = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].find((factor) => factor * size >= rough * (1 - 1e-9)) * size;
}

const MARKS = {
  circle: (x, y, r) => `M${x - r},${y}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0Z`,
  square: (x, y, r) => `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}Z`,
  triangle: (x, y, r) => `M${x},${y - 1.2 * r}L${x + 1.1 * r},${y + r}H${x - 1.1 * r}Z`,
  diamond: (x, y, r) => `M${x},${y - 1.3 * r}L${x + 1.3 * r},${y}L${x},${y + 1.3 * r}L${x - 1.3 * r},${y}Z`,
  cross: (x, y, r) => `M${x - r},${y - r}L${x + r},${y + r}M${x + r},${y - r}L${x - r},${y + r}`,
};

/** Return an SVG path of a mark around a point. */
export const mark = (shape, x, y, r) => MARKS[shape](x, y, r);
