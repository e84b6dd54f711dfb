/** Texts in the making: a column each, a span for each token, and a panel with the figures of one token. */

export const SENTIMENTS = ['negative', 'positive']; // of outcomes 0 and 1
const ENDS = { stop: 'ended by the model', length: 'cut at the most tokens allowed' };

/** Return where on the scale a divergence in nats stands, in percent: a square root, as small ones are most. */
export function tintOf(nats) {
  return `${(100 * Math.sqrt(Math.min(Math.max(nats / Math.LN2, 0), 1))).toFixed(1)}%`;
}

export function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

export function counted(number, noun) {
  return `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
}

/** A text and what stands around it. Text is appended, never drawn again. */
export class Column {
  constructor(template, outcome, name, prompt) {
    this.root = template.content.cloneNode(true).firstElementChild;
    this.words = this.root.querySelector('.words');
    this.ribbon = this.root.querySelector('.ribbon');
    this.notes = this.root.querySelector('.notes');
    this.tokens = [];
    this.spans = [];
    this.waiting = []; // spans and bars that are not yet on the page
    this.root.dataset.outcome = outcome;
    this.root.querySelector('.outcome').textContent = `Y${outcome}`;
    this.root.querySelector('.heading').textContent = name;
    this.root.querySelector('.prompt').textContent = prompt;
  }

  /** Take a token, as the server told it. Of one that was redacted or held back, nothing is told but its text. */
  add(token) {
    const span = element('span', token.redacted ? 'token redacted' : 'token', token.text);
    if (token.p) {
      span.dataset.place = this.tokens.length;
      span.tabIndex = this.tokens.some((earlier) => earlier.p) ? -1 : 0; // Tab goes from text to text
    }
    const bar = element('i');
    for (const tinted of [span, bar]) tinted.style.setProperty('--tint', tintOf(token.js ?? 0));
    this.tokens.push(token);
    this.spans.push(span);
    this.waiting.push([span, bar]);
  }

  flush() {
    this.words.append(...this.waiting.map(([span]) => span));
    if (this.tokens.some((token) => token.js !== undefined)) this.ribbon.append(...this.waiting.map(([, bar]) => bar));
    this.waiting = [];
  }

  finish({ finish_reason: reason, num_tokens: number, num_redacted: numRedacted }) {
    const notes = [counted(number, 'token'), ENDS[reason] ?? reason];
    if (numRedacted) notes.push(`${counted(numRedacted, 'word')} redacted`);
    const told = this.tokens.filter((token) => token.js !== undefined);
    if (told.length) {
      const mean = told.reduce((sum, token) => sum + token.js, 0) / told.length;
      const most = told.reduce((best, token) => (token.js > best.js ? token : best));
      const largest = `the largest ${most.js.toFixed(3)} at “${spelled(most.text)}”`;
      notes.push(`divergence ${mean.toFixed(3)} nats a token, ${largest}`);
    }
    this.notes.textContent = number ? notes.join('; ') : '(no text)';
  }

  /** Say that the text was never finished. */
  breakOff() {
    this.notes.textContent = 'stopped before its end';
  }

  get text() {
    return this.tokens.map((token) => token.text).join('');
  }
}

/** Grey the tokens that two texts begin with, up to the first that was redacted: it may be another word in each. */
export class SharedBeginning {
  constructor(a, b) {
    this.columns = [a, b];
    this.length = 0;
    this.isOver = false;
  }

  extend() {
    const [a, b] = this.columns;
    while (!this.isOver && this.length < Math.min(a.tokens.length, b.tokens.length)) {
      const [one, other] = [a.tokens[this.length], b.tokens[this.length]];
      this.isOver = one.token_id !== other.token_id || one.text !== other.text || Boolean(one.redacted);
      if (this.isOver) return;
      for (const column of this.columns) column.spans[this.length].classList.add('shared');
      this.length += 1;
    }
  }
}

/** The figures of the token that is pointed at or focused, below it or, where there is no room, above. */
export class Panel {
  constructor(root) {
    this.root = root;
    this.span = null;
  }

  show(span, token) {
    this.hide();
    const title = element('p', 'figures');
    title.append(element('q', '', spelled(token.text)));
    if (token.js !== undefined) title.append(figure('divergence', `${token.js.toFixed(4)} nats`));
    if (token.entropy !== undefined) title.append(figure('entropy', `${token.entropy.toFixed(2)} nats`));
    const row = element('div', 'heads');
    row.append(...token.p.map((p, head) => headOf(token, p, head)));
    this.root.replaceChildren(title, row);
    this.root.hidden = false;
    this.span = span;
    span.setAttribute('aria-describedby', this.root.id);
    this.place();
  }

  hide() {
    this.root.hidden = true;
    this.span?.removeAttribute('aria-describedby');
    this.span = null;
  }

  place() {
    if (!this.span) return;
    const { span } = this;
    const text = span.closest('.words').getBoundingClientRect();
    const lines = span.getClientRects();
    const [first, last] = [lines[0], lines[lines.length - 1]];
    const { style } = this.root;
    style.width = `${text.width}px`;
    style.left = `${text.left + window.scrollX}px`;
    const height = this.root.offsetHeight;
    const isAbove = last.bottom + height + 6 > window.innerHeight && first.top > height + 6;
    style.top = `${(isAbove ? first.top - height - 6 : last.bottom + 6) + window.scrollY}px`;
  }
}

function headOf(token, p, head) {
  const isOfTwo = token.p.length > 1;
  const root = element('div', 'head');
  root.dataset.outcome = isOfTwo ? head : '';
  root.append(figure(isOfTwo ? `Y${head} ${SENTIMENTS[head]}` : 'probability', probability(p)));
  const likeliest = element('ol');
  for (const { text, logprob } of token.top?.[head] ?? []) {
    const share = logprob === null ? 0 : Math.exp(logprob);
    const item = element('li', text === token.text ? 'same' : '');
    item.style.setProperty('--share', `${(100 * share).toFixed(1)}%`);
    item.append(element('q', '', spelled(text)), element('span', '', probability(share)));
    likeliest.append(item);
  }
  root.append(likeliest);
  return root;
}

function figure(name, value) {
  const root = element('span', 'figure', `${name} `);
  root.append(element('b', '', value));
  return root;
}

function probability(p) {
  return p >= 0.001 || p === 0 ? p.toFixed(3) : p.toExponential(0);
}

/** Return a token with its white space as signs. */
function spelled(text) {
  return text.replaceAll(' ', '␣').replaceAll('\n', '⏎').replaceAll('\t', '⇥');
}

/** Show a review and its counterfactual as one text, in which the changes are marked. */
export function showChanges(words, changes) {
  const tags = { same: 'span', removed: 'del', added: 'ins' };
  words.replaceChildren(...changes.map(({ kind, text }) => element(tags[kind], '', text)));
}
