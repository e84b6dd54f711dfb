"""Written texts as one self-contained HTML page, each token tinted by how much the heads differ on it.

The tint grows with the square root of the Jensen-Shannon divergence: a distance between laws (Endres and Schindelin
2003), which has room for the small divergences that most tokens have. Colours are mixed in OKLab, where equal steps
look equally large. The page's content policy lets nothing be fetched and no script run but its own, known by its hash.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby, takewhile
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

TICKS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, math.log(2))
"""Divergences that the legend names, in nats."""

OUTCOMES = {"y0": "Y0, negative", "y1": "Y1, positive", "mixture": "mixture of both outcomes"}
ENDS = {
    "end": "ended by the model",
    "stop": "ended at a stop string",
    "length": "cut at the number of tokens asked for",
}

# Tab goes from text to text and arrows from token to token, or a long text would be a thousand stops.
SCRIPT = """
for (const words of document.querySelectorAll('.words')) {
  const tokens = [...words.querySelectorAll('.token')];
  tokens.slice(1).forEach(token => { token.tabIndex = -1; });
  words.addEventListener('keydown', event => {
    if (event.key === 'Escape') return event.target.blur();
    const last = tokens.length - 1, at = tokens.indexOf(event.target);
    const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last}[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    tokens[Math.max(0, Math.min(last, to))].focus();
  });
}
"""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    is_shared: bool
    is_redacted: bool
    tint: str | None
    """Percent of the scale, None where nothing is to be told."""
    divergence: str
    probabilities: list[tuple[str, str]]
    """Whose, and how much."""
    likeliest: list[tuple[str, list[tuple[str, str]]]]
    """Of whom, and each token with its probability."""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    prompt: str
    tokens: list[_Token]
    rest: str
    """Text that belongs to no token."""
    notes: list[str]


@dataclass(frozen=True, slots=True)
class _Group:
    """Texts of one index, side by side."""

    heading: str
    shared: str
    """How they begin."""
    prompt: str
    """If it is that of all of them."""
    columns: list[_Column]


def render_texts(title: str, facts: Mapping[str, object], texts: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of some texts.

    Args:
        title: Heading of the page.
        facts: What the texts were written with: label -> value.
        texts: As ``nano-llm generate --json`` prints them. Those of one index stand side by side, Y0 first.
            Probabilities are natural logarithms, None or -inf for 0; divergences are nats, None of a model with one
            head.
    """
    ordered = sorted(texts, key=lambda text: (text["index"], text["outcome"] is None, text["outcome"] or ""))
    groups = [_group(list(members)) for _, members in groupby(ordered, key=lambda text: text["index"])]
    tokens = [token for group in groups for column in group.columns for token in column.tokens]
    return _template().render(
        title=title,
        facts=facts,
        groups=groups,
        is_tinted=any(token.tint is not None for token in tokens),
        is_untinted=any(token.tint is None and not token.is_redacted for token in tokens),
        is_told=any(token.probabilities for token in tokens),
        ticks=[(tint(nats), f"{nats:.2g}") for nats in TICKS],
        script=Markup(SCRIPT),
        script_hash=base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(__package__).joinpath("text_page.html.j2").read_text(encoding="utf-8"))


def tint(divergence: float) -> str:
    """Return where on the scale a divergence in nats stands, in percent: 0 for 0, 100 for ln 2."""
    return f"{100 * math.sqrt(min(max(divergence / math.log(2), 0.0), 1.0)):.1f}"


def _group(texts: Sequence[Mapping[str, Any]]) -> _Group:
    num_shared = _num_shared([text["tokens"] for text in texts]) if len(texts) > 1 else 0
    prompts = {text["prompt"] for text in texts}
    topic = texts[0]["topic"]
    columns = [_column(text, num_shared, "" if len(prompts) == 1 else text["prompt"]) for text in texts]
    return _Group(
        heading=f"Text {texts[0]['index']}" + (f": {topic}" if topic else ""),
        shared=_how_shared(texts, num_shared) if len(texts) > 1 else "",
        prompt=texts[0]["prompt"] if len(prompts) == 1 else "",
        columns=columns,
    )


def _num_shared(tokens: Sequence[Sequence[Mapping[str, Any]]]) -> int:
    """Return how many tokens all texts begin with."""
    alike = takewhile(lambda row: len(set(row)) == 1, zip(*([t["text"] for t in row] for row in tokens), strict=False))
    return sum(1 for _ in alike)


def _how_shared(texts: Sequence[Mapping[str, Any]], num_shared: int) -> str:
    if len({text["text"] for text in texts}) == 1:
        return "The texts are the same."
    if num_shared == 0:
        return "The texts differ from the first token on."
    return f"The texts begin with the same {_counted(num_shared, 'token')}, in grey."


def _column(text: Mapping[str, Any], num_shared: int, prompt: str) -> _Column:
    tokens = [_token(token, index < num_shared) for index, token in enumerate(text["tokens"])]
    spelled = "".join([token.text for token in tokens])
    outcome = text["outcome"]
    return _Column(
        name=OUTCOMES.get(outcome, outcome) if outcome else "as the prompt asks",
        prompt=prompt,
        tokens=tokens,
        rest=text["text"][len(spelled) :] if text["text"].startswith(spelled) else "",
        notes=_notes(text),
    )


def _notes(text: Mapping[str, Any]) -> list[str]:
    """Return what is to be said below a text."""
    num_shown = sum(not token.get("redacted") for token in text["tokens"])
    notes = [_counted(num_shown, "token"), ENDS.get(text["finish"], text["finish"])]
    if text["num_redacted"]:
        notes.append(f"{_counted(text['num_redacted'], 'word')} redacted")
    told = [token for token in text["tokens"] if token.get("divergence") is not None]
    if told:
        mean = sum(token["divergence"] for token in told) / len(told)
        most = max(told, key=lambda token: token["divergence"])
        notes.append(
            f"divergence {mean:.3f} nats a token, the largest {most['divergence']:.3f} at “{_spelled(most['text'])}”"
        )
    return notes


def _token(token: Mapping[str, Any], is_shared: bool) -> _Token:
    divergence = token.get("divergence")
    log_p = token.get("log_p", [])
    names = [f"Y{head}" for head in range(len(log_p))] if len(log_p) > 1 else ["probability"]
    return _Token(
        text=token["text"],
        is_shared=is_shared,
        is_redacted=bool(token.get("redacted")),
        tint=None if divergence is None else tint(divergence),
        divergence="" if divergence is None else f"{divergence:.4f}",
        probabilities=[(name, _probability(value)) for name, value in zip(names, log_p, strict=False)],
        likeliest=[
            (name if len(log_p) > 1 else "", [(_spelled(text), _probability(value)) for text, value in row])
            for name, row in zip(names, token.get("top") or (), strict=False)
        ],
    )


def _probability(log_p: float | None) -> str:
    """Spell a probability that is given by its natural logarithm; None stands for that of 0."""
    probability = 0.0 if log_p is None else math.exp(log_p)
    return f"{probability:.3f}" if probability >= 0.001 or probability == 0 else f"{probability:.0e}"


def _spelled(text: str) -> str:
    """Return a token with its white space as signs."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
