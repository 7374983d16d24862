// Elements made from data: what comes from a run goes in as text or as an attribute, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return an HTML element; `attributes` with value null, undefined or false are left out. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Return an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Set a node's text, and touch nothing where it says that already. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Return a list of terms and what they are, from [term, description] pairs; a description may be a node. */
export function facts(pairs) {
  const rows = pairs
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value)));
  return el("dl", { class: "facts" }, rows);
}

/**
 * Return {top, left, width, height} of what is seen of a box that scrolls, kept up to date; `changed` is called, once a
 * frame, when it is another part. Asking the box each time would lay the whole page out.
 */
export function viewOf(box, changed) {
  const view = { top: 0, left: 0, width: 0, height: 0 };
  let frame = null;
  const look = (found) => {
    Object.assign(view, found);
    frame ??= requestAnimationFrame(() => {
      frame = null;
      changed();
    });
  };
  box.addEventListener("scroll", () => look({ top: box.scrollTop, left: box.scrollLeft }), { passive: true });
  new ResizeObserver(() => look({ width: box.clientWidth, height: box.clientHeight })).observe(box);
  return view;
}

/** Call `draw(width)` whenever the node has another width: asking it for one would lay the whole page out each time. */
export function whenResized(node, draw) {
  let width = 0;
  new ResizeObserver(([entry]) => {
    const found = Math.floor(entry.contentRect.width);
    if (found === width) return;
    width = found;
    draw(width);
  }).observe(node);
}
