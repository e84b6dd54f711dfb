/** What the server answers: JSON, and server-sent events over fetch, as EventSource can only GET. */

export class ServerError extends Error {
  /** A refusal in the server's own words; `param` names the field that it is about. */
  constructor(message, { status = 0, param = null } = {}) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

export async function getJson(path, key) {
  return (await answerTo(path, { headers: headersOf(key) })).json();
}

/** Yield the events of a POST as {name, data}. Leaving the loop or aborting the signal ends the request. */
export async function* postForEvents(path, body, key, signal) {
  const headers = { ...headersOf(key), 'Content-Type': 'application/json', Accept: 'text/event-stream' };
  const answer = await answerTo(path, { method: 'POST', headers, body: JSON.stringify(body), signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const brokenOff = 'The connection broke off before the text was finished. Try again.';
  let held = '';
  try {
    for (;;) {
      const { value, done } = await orServerError(reader.read(), brokenOff);
      if (done) return;
      const blocks = (held + value).split(/\r?\n\r?\n/);
      held = blocks.pop();
      yield* blocks.map(eventOf).filter((event) => event !== null);
    }
  } finally {
    reader.cancel().catch(() => {}); // what was aborted is cancelled already
  }
}

function headersOf(key) {
  // Headers are bytes, one a character; the server reads them as UTF-8.
  return key ? { Authorization: `Bearer ${String.fromCharCode(...new TextEncoder().encode(key))}` } : {};
}

async function answerTo(path, options) {
  const silent = 'The server does not answer. See whether it still runs, and try again.';
  const answer = await orServerError(fetch(path, options), silent);
  if (answer.ok) return answer;
  const { error = {} } = await answer.json().catch(() => ({}));
  const { message = `The server answered with status ${answer.status} and gave no reason.`, param } = error;
  const seconds = answer.headers.get('Retry-After');
  const remedy = seconds === null ? '' : ` Try again in ${seconds} s.`;
  throw new ServerError(message + remedy, { status: answer.status, param });
}

/** Await what the network does; its own errors are worded for developers, and each browser has other words. */
async function orServerError(promise, message) {
  try {
    return await promise;
  } catch (error) {
    throw error.name === 'AbortError' ? error : new ServerError(message);
  }
}

/** Return the event that some lines spell; null for a comment, which only keeps the connection open. */
function eventOf(block) {
  const fields = { event: [], data: [] };
  for (const line of block.split(/\r?\n/)) {
    const [name, ...value] = line.split(':'); // no pattern: its `.` stops at U+2028, which JSON may hold
    fields[name]?.push(value.join(':').replace(/^ /, ''));
  }
  return fields.data.length ? { name: fields.event[0], data: JSON.parse(fields.data.join('\n')) } : null;
}
