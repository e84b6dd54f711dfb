/** The page: a form, a request, and the texts as they come. Text enters by textContent only. */

import { STRENGTHS, boundStrength, curlOf, fragmentOf, requestOf, restore, settingsOf } from './settings.js';
import { ServerError, getJson, postForEvents } from './stream.js';
import { Column, Panel, SENTIMENTS, SharedBeginning, counted, element, showChanges, tintOf } from './writing.js';

const TICKS = [0, 0.01, 0.05, 0.1, 0.2, 0.4, Math.LN2]; // divergences that the legend names, in nats
const KEY = 'nano-llm-api-key';
const LABELS = { neg: 0, pos: 1 };

const at = (id) => document.getElementById(id);
const form = at('ask');
const panel = new Panel(at('panel'));
let model = null; // facts of the server's model
let modelId = null;
let defaults = {};
let running = null; // AbortController of the request in progress
let shown = null; // the Result on the page

/** One request and what came of it. */
class Result {
  constructor(request) {
    this.request = request;
    this.columns = [];
    this.frame = 0;
    this.told = null; // the last event
  }

  start({ columns, source, ...rest }) {
    this.started = rest;
    this.source = source;
    const isOfOnePrompt = columns.every(({ prompt }) => prompt === columns[0].prompt);
    this.columns = columns.map(({ outcome, prompt }) => {
      const name = source ? `counterfactual, ${SENTIMENTS[outcome]}` : SENTIMENTS[outcome];
      return new Column(at('column'), outcome, name, isOfOnePrompt ? '' : prompt);
    });
    this.shared = this.columns.length === 2 ? new SharedBeginning(...this.columns) : null;
    for (const column of this.columns) column.root.classList.add('growing');
    const all = source ? [columnOf(source), ...this.columns] : this.columns;
    at('columns').replaceChildren(...all.map((column) => column.root));
    at('shown-prompt').hidden = !isOfOnePrompt;
    at('shown-prompt').textContent = columns[0].prompt;
    at('changes').hidden = true;
    at('result').hidden = false;
    const isOutOfSight = at('columns').getBoundingClientRect().top > window.innerHeight - 100;
    if (isOutOfSight) at('status').scrollIntoView();
  }

  step({ columns }) {
    columns.forEach((tokens, place) => tokens?.forEach((token) => this.columns[place].add(token)));
    this.shared?.extend();
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  flush() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    for (const column of this.columns) column.flush();
  }

  end(told) {
    this.told = told;
    this.flush();
    told.columns.forEach((facts, place) => this.columns[place].finish(facts));
    if (told.changes) {
      showChanges(at('changes-words'), told.changes);
      at('changes').hidden = told.changes.every(({ kind }) => kind === 'same');
    }
    say(this.source ? inOneLine(told.changes) : whereParted(told.first_divergence));
  }

  /** Take leave of the stream, however it ended. */
  close() {
    this.flush();
    for (const column of this.columns) {
      column.root.classList.remove('growing');
      if (!this.told) column.breakOff();
    }
  }

  get mode() {
    return this.request.text === undefined ? 'pair' : 'review';
  }

  get json() {
    const columns = this.columns.map((column, place) => ({
      outcome: Number(column.root.dataset.outcome),
      text: column.text,
      ...this.told?.columns[place],
      tokens: column.tokens,
    }));
    const { first_divergence, usage, changes } = this.told ?? {};
    return { request: this.request, ...this.started, source: this.source, columns, first_divergence, usage, changes };
  }
}

/** Return the column of a review that was given. */
function columnOf({ text, label }) {
  const outcome = LABELS[label];
  const column = new Column(at('column'), outcome, `review, ${SENTIMENTS[outcome]}`, '');
  column.words.textContent = text;
  column.notes.textContent = counted(numWords(text), 'word');
  return column;
}

function whereParted(place) {
  return place === null ? 'Done: the texts are the same.' : `Done: the texts part at token ${place + 1}.`;
}

function numWords(text) {
  return text.split(/\s+/).filter(Boolean).length;
}

function inOneLine(changes) {
  const numOf = (kind) =>
    changes.filter((change) => change.kind === kind).reduce((sum, { text }) => sum + numWords(text), 0);
  const [removed, added] = [numOf('removed'), numOf('added')];
  if (removed + added === 0) return 'Done: nothing changed.';
  return `Done: ${counted(removed, 'word')} taken out, ${counted(added, 'word')} put in.`;
}

async function write() {
  running?.abort();
  const controller = new AbortController();
  running = controller;
  if (!isLocked() || form.elements.seed.value === '') drawSeed();
  rememberSettings();
  complain(seedProblem());
  panel.hide();
  if (seedProblem()) return setRunning(false);
  const result = new Result(requestOf(settingsOf(form)));
  setRunning(true);
  say('Writing…');
  try {
    for await (const { name, data } of postForEvents('v1/counterfactual', result.request, key(), controller.signal)) {
      controller.signal.throwIfAborted(); // what had arrived already
      if (name === 'error') throw new ServerError(data.error.message, data.error);
      if (name === 'start') shown = result;
      if (name === 'start' && data.model !== modelId) readModelAgain();
      if (['start', 'step', 'end'].includes(name)) result[name](data);
    }
    if (!result.told) throw new ServerError('The stream ended before the text was finished. Try again.');
  } catch (error) {
    if (running !== controller) return; // another request has taken the page
    if (error.name === 'AbortError') {
      if (!result.told) say('Stopped.');
    } else if (error instanceof ServerError) {
      complain(error);
      if (error.status !== 401) readModelAgain();
    } else {
      complain(new Error('Something went wrong in this page. Reload it, and try again.'));
      throw error;
    }
  } finally {
    result.close();
    if (running === controller) setRunning(false);
  }
}

function setRunning(is) {
  if (!is) running = null;
  const stop = at('stop');
  if (!is && document.activeElement === stop) at('write').focus();
  stop.disabled = !is;
  at('copy-json').disabled = is || shown === null;
  at('columns').setAttribute('aria-busy', String(is));
}

function say(text) {
  at('status').textContent = text;
}

/** Show an error, and at which field it is; null takes the last one away. */
function complain(error) {
  const alert = at('alert');
  alert.hidden = error === null;
  alert.textContent = error?.message ?? '';
  for (const control of form.querySelectorAll('[aria-invalid]')) control.removeAttribute('aria-invalid');
  if (error === null) return;
  say('');
  const name = error.param?.split('.').at(-1);
  form.querySelector(`[name="${CSS.escape(name ?? '')}"]`)?.setAttribute('aria-invalid', 'true');
  if (error.status === 401) askForKey();
}

function key() {
  return sessionStorage.getItem(KEY);
}

function askForKey() {
  at('key-form').hidden = false;
  at('key').focus();
}

/** Return what is wrong with the seed, null if nothing is: numbers here have no more digits. */
function seedProblem() {
  const { seed } = form.elements;
  if (seed.checkValidity()) return null;
  return new ServerError(`Seed: give a whole number from 0 to ${seed.max}.`, { param: 'seed' });
}

const isLocked = () => at('lock').getAttribute('aria-pressed') === 'true';

function setLocked(is) {
  at('lock').setAttribute('aria-pressed', String(is));
}

function drawSeed() {
  form.elements.seed.value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
}

function linkTo(settings) {
  return `${location.href.split('#')[0]}#${fragmentOf(settings, defaults)}`;
}

/** Keep the settings in the page's own address; a seed that is not locked is of one press of the button. */
function rememberSettings() {
  const { seed, ...others } = settingsOf(form);
  history.replaceState(null, '', linkTo(isLocked() ? { ...others, seed } : others));
}

/** Show what the settings say: the fields of the mode, the numbers of the sliders, what the model cannot do. */
function showSettings() {
  const { mode, steer } = settingsOf(form);
  const { topic, prompt } = form.elements;
  for (const part of form.querySelectorAll('[data-mode]')) part.hidden = part.dataset.mode !== mode;
  for (const value of form.querySelectorAll('[data-of]')) value.textContent = form.elements[value.dataset.of].value;
  at('strength-field').hidden = !(steer in STRENGTHS);
  topic.disabled = mode === 'pair' && prompt.value.trim() !== '';
  prompt.placeholder = model.prompt.replace(` about ${model.topics[0]} `, ` about ${topic.value} `);
  form.elements.max_tokens.placeholder = mode === 'pair' ? model.limits.default_tokens : 'twice the review';
  const why = whyNot(mode);
  at('unsupported').hidden = why === '';
  at('unsupported').textContent = why;
  at('write').disabled = why !== '';
  at('result').hidden = shown?.mode !== mode;
}

/** Return why the model cannot do what a mode asks for; nothing if it can. */
function whyNot(mode) {
  if (model.num_heads === 2) return '';
  if (!model.has_outcomes)
    return (
      'This model has one head, and its prompt names no sentiment: it knows no outcomes, so there are none to set ' +
      'side by side. Serve one that was trained with model=tarnet.'
    );
  if (mode === 'review') return '';
  return (
    'This model has one head, so it has no two outcomes to write at once. The counterfactual of a review works; for ' +
    'both outcomes, serve one that was trained with model=tarnet.'
  );
}

function showModel({ id, nano_llm: facts }) {
  model = facts;
  modelId = id;
  form.reset();
  const shownFacts = { model: id, heads: facts.num_heads, checkpoint: facts.checkpoint.slice(0, 12) };
  if (facts.censored) shownFacts['explicit words'] = 'redacted';
  at('facts').replaceChildren(
    ...Object.entries(shownFacts).map(([name, value]) => {
      const row = element('div');
      row.append(element('dt', '', name), element('dd', '', value));
      return row;
    }),
  );
  at('topic').replaceChildren(...facts.topics.map((topic) => element('option', '', topic)));
  at('topic-field').hidden = facts.topics.length === 0;
  at('max_tokens').max = facts.limits.max_tokens;
  const isPaired = facts.num_heads === 2;
  at('steer-field').hidden = !isPaired;
  form.elements.steer.disabled = !isPaired; // what is disabled is neither sent nor in a link
  at('legend').hidden = !isPaired;
  if (!isPaired && facts.has_outcomes) form.elements.mode.value = 'review';
  form.hidden = false;
  defaults = settingsOf(form);
  restoreSettings();
}

/** Set the form to the link that the page was opened with. Nothing is written before it is asked for. */
function restoreSettings() {
  const fragment = location.hash.slice(1);
  restore(form, fragment, defaults);
  const hasSeed = new URLSearchParams(fragment).has('seed');
  setLocked(hasSeed);
  if (!hasSeed) drawSeed();
  showSettings();
}

async function load() {
  try {
    const { data } = await getJson('v1/models', key());
    complain(null);
    showModel(data[0]);
    say('');
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    complain(error);
  }
}

/** Show what is served now, if it is another model than the page knows; the settings stay. */
async function readModelAgain() {
  const { data } = await getJson('v1/models', key()).catch(() => ({ data: [] })); // an error has been told already
  const [card] = data;
  if (card && (card.id !== modelId || card.nano_llm.checkpoint !== model.checkpoint)) showModel(card);
}

async function copy(text) {
  const byHand = at('by-hand');
  byHand.hidden = true;
  try {
    await navigator.clipboard.writeText(text); // there is no clipboard on plain http of another machine
    say('Copied.');
  } catch {
    byHand.hidden = false;
    at('by-hand-text').value = text;
    at('by-hand-text').select();
  }
}

function moveFocus(event) {
  const spans = [...event.target.closest('.words').querySelectorAll('[data-place]')];
  const [from, last] = [spans.indexOf(event.target), spans.length - 1];
  const to = { ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: last }[event.key];
  if (to === undefined || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  spans[Math.max(0, Math.min(last, to))].focus();
}

/** Show the panel of a token, if it has one, else that of the token with the focus, else none. */
function pointAt(target) {
  const span = [target, document.activeElement].map((node) => node?.closest('[data-place]')).find(Boolean);
  const column = span && shown.columns.find(({ words }) => words.contains(span));
  if (column) panel.show(span, column.tokens[span.dataset.place]);
  else panel.hide();
}

function listen() {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    write();
  });
  form.addEventListener('input', showSettings);
  form.addEventListener('change', rememberSettings);
  form.elements.steer.addEventListener('input', () => boundStrength(form));
  at('stop').addEventListener('click', () => running?.abort());
  at('dice').addEventListener('click', () => {
    drawSeed();
    rememberSettings();
  });
  at('lock').addEventListener('click', () => {
    setLocked(!isLocked());
    rememberSettings();
  });
  form.elements.seed.addEventListener('input', () => setLocked(true)); // a seed that was typed is meant
  at('copy-link').addEventListener('click', () => copy(linkTo(settingsOf(form))));
  at('copy-curl').addEventListener('click', () => {
    complain(seedProblem());
    if (!seedProblem()) copy(curlOf(requestOf(settingsOf(form)), key() !== null));
  });
  at('copy-json').addEventListener('click', () => copy(JSON.stringify(shown.json, null, 2)));
  at('key-form').addEventListener('submit', (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, at('key').value.trim());
    at('key-form').hidden = true;
    if (model === null) load();
    else write();
  });
  addEventListener('hashchange', restoreSettings);
  addEventListener('resize', () => panel.place());
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && running) running.abort();
    else if (event.key === 'Escape') document.activeElement?.closest('[data-place]')?.blur();
    else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !form.hidden) {
      event.preventDefault(); // a field or a button would do the same once more
      if (!at('write').disabled) write();
    }
  });
  const columns = at('columns');
  columns.addEventListener('keydown', (event) => event.target.matches('[data-place]') && moveFocus(event));
  columns.addEventListener('pointerover', (event) => pointAt(event.target));
  columns.addEventListener('pointerleave', () => pointAt(null));
  columns.addEventListener('focusout', () => panel.hide());
  columns.addEventListener('focusin', (event) => {
    for (const span of event.target.closest('.words')?.querySelectorAll('[tabindex="0"]') ?? []) span.tabIndex = -1;
    event.target.tabIndex = 0; // where Tab comes back to
    pointAt(event.target);
  });
}

for (const nats of TICKS) {
  const tick = element('span', '', String(Number(nats.toPrecision(2))));
  tick.style.left = tintOf(nats);
  at('ticks').append(tick);
}
listen();
load();
