// One thing of many is looked at: the pointer or the arrow keys choose it, a click or Enter picks it.

/**
 * Listen on `node`, a focusable element of role slider. `length()` things are there; `nearest(event)` gives the index
 * under the pointer or null; `look(index)` shows one, null none; `pick(index)` opens one; keys begin at `start()`.
 */
export function pointing(node, { length, nearest, look, pick, start }) {
  let looked = null;
  const lookAt = (index) => {
    looked = index;
    if (length() > 0) look(index);
  };
  node.addEventListener("pointermove", (event) => length() > 0 && lookAt(nearest(event)));
  node.addEventListener("pointerleave", () => lookAt(null));
  node.addEventListener("blur", () => lookAt(null));
  node.addEventListener("click", (event) => {
    const index = length() > 0 ? nearest(event) : null;
    if (index !== null) pick(index);
  });
  node.addEventListener("keydown", (event) => {
    const last = length() - 1;
    const from = Math.min(last, looked ?? start());
    const moves = {
      ArrowLeft: from - 1,
      ArrowDown: from - 1,
      ArrowRight: from + 1,
      ArrowUp: from + 1,
      Home: 0,
      End: last,
    };
    if (last < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in moves)
      lookAt(looked === null && event.key.startsWith("Arrow") ? from : Math.min(last, Math.max(0, moves[event.key])));
    else if (event.key === "Enter") pick(from);
    else return;
    event.preventDefault();
  });
}
