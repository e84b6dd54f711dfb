/** The settings of the form: as a request, as the fragment of a link, as a command. All values are strings. */

export const STRENGTHS = {
  contrast: { initial: '0.5', most: '3' },
  cfg: { initial: '1.5', most: '6' },
  posterior: { initial: '4', most: '16' },
};

/** Return whether a text is steered; the form of a model with one head has no such control. */
const isSteered = ({ steer }) => steer in STRENGTHS;

export function settingsOf(form) {
  return Object.fromEntries(new FormData(form));
}

/** Return the body of POST /v1/counterfactual. */
export function requestOf(settings) {
  const request = { seed: Number(settings.seed), temperature: Number(settings.temperature), top: 5 };
  if (settings.max_tokens) request.max_tokens = Number(settings.max_tokens);
  if (isSteered(settings)) request.steer = { mode: settings.steer, strength: Number(settings.strength) };
  if (settings.mode === 'review') {
    Object.assign(request, { text: settings.text, label: settings.label, similarity: Number(settings.similarity) });
  } else {
    request.pair = settings.pair;
    if (settings.prompt.trim()) request.prompt = settings.prompt;
    if (settings.begin) request.begin = settings.begin;
  }
  // A prompt of one's own names its topic itself.
  if (settings.topic && request.prompt === undefined) request.topic = settings.topic;
  return request;
}

/**
 * Return what stands behind # in a link: the seed, if there is one, and all that differs from the defaults.
 * Which mode is the default depends on the model, so that the counterfactual of a review is always named.
 */
export function fragmentOf({ strength, ...settings }, defaults) {
  const isNamed = (name, value) => name === 'seed' || value !== defaults[name] || (name === 'mode' && value === 'review');
  const changed = Object.entries(settings).filter(([name, value]) => isNamed(name, value));
  if (isSteered(settings)) changed.push(['strength', strength]);
  return new URLSearchParams(changed).toString();
}

/** Set the form to a link's settings. What the link does not name, or names wrongly, is as by default. */
export function restore(form, fragment, defaults) {
  const given = new URLSearchParams(fragment);
  for (const [name, value] of Object.entries(defaults)) {
    const control = form.elements[name];
    control.value = value;
    if (!given.has(name)) continue;
    control.value = given.get(name); // of radio buttons, what none of them has changes nothing
    const isUnknown = control instanceof HTMLSelectElement && control.selectedIndex < 0;
    const isNoNumber = control.type === 'range' && Number.isNaN(Number(given.get(name)));
    if (isUnknown || isNoNumber) control.value = value;
  }
  boundStrength(form);
  if (given.has('strength')) form.elements.strength.value = given.get('strength');
}

/** Fit the strength's slider to the mode of steering, and set it to what the mode has by default. */
export function boundStrength(form) {
  const { strength, steer } = form.elements;
  const { initial, most } = STRENGTHS[steer.value] ?? STRENGTHS.contrast;
  strength.max = most;
  strength.value = initial;
}

/** Return the command that sends a request. A key is named, never spelled. */
export function curlOf(request, hasKey) {
  const key = hasKey ? ' -H "Authorization: Bearer $NANO_LLM_API_KEY"' : '';
  const body = JSON.stringify(request).replaceAll("'", "'\\''");
  const url = new URL('v1/counterfactual', document.baseURI);
  return `curl -N '${url.origin}${url.pathname}' -H 'Content-Type: application/json'${key} -d '${body}'`;
}
