// What the server says: answers to questions, and news as they come; a connection that breaks is made again.

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;

/** Return the JSON document at `path`; throws where there is none. */
export async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", credentials: "same-origin" });
  if (!answer.ok) throw new Error(await reasonOf(answer));
  return answer.json();
}

async function reasonOf(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `${answer.url} answers ${answer.status}`;
  }
}

/**
 * Call `news(overview)` for each event, `gone(why)` where the server finds no run any more, `linked(is there)` when
 * the connection comes or goes.
 */
export function listen({ news, gone, linked }) {
  let wait = FIRST_WAIT_MS;
  const connect = () => {
    const source = new EventSource("/events");
    source.onopen = () => {
      wait = FIRST_WAIT_MS;
      linked(true);
    };
    source.addEventListener("run", (event) => {
      performance.mark("fednet:news");
      news(JSON.parse(event.data));
    });
    source.addEventListener("gone", (event) => gone(JSON.parse(event.data).error));
    source.onerror = () => {
      source.close(); // the browser's own attempts end for good at some answers, ours do not
      linked(false);
      setTimeout(connect, wait);
      wait = Math.min(LONGEST_WAIT_MS, 2 * wait);
    };
  };
  connect();
}
