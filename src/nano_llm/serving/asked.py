"""What a request asks for, in the terms of `nano_llm.generation`: one commission a choice of its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nano_llm.data.clean import clean
from nano_llm.generation.author import Author, Commission
from nano_llm.generation.request import CounterfactualRequest, Request, Wanted
from nano_llm.serving.fields import (
    blaming,
    events_of,
    num_new_of,
    pairing_of,
    sampling_of,
    seed_of,
    short,
    steering_of,
    stops_of,
    within,
)
from nano_llm.serving.limits import Limits
from nano_llm.serving.opening import Opening, opening_of_instruction
from nano_llm.serving.problem import invalid, too_long, unsupported
from nano_llm.serving.prompts import check_window, opening_of_messages, openings_of_prompt
from nano_llm.serving.requests import (
    ChatRequest,
    CompletionRequest,
    CounterfactualBody,
    Extension,
    GenerateRequest,
    Knobs,
    Outcome,
    Steer,
    Texts,
)

DEFAULT_TOP = 5
"""Likeliest tokens of each head that are told of a pair."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a kind of request calls the fields that the model may refuse."""

    outcome: str
    prompt: str = "prompt"
    topic: str = "topic"
    steer: str = "steer"


@dataclass(frozen=True, slots=True)
class Asked:
    """The texts of a request: for each opening its samples, for each sample its outcomes."""

    commissions: tuple[Commission, ...]
    openings: tuple[Opening, ...]
    num_outcomes: int
    """Choices of a sample."""
    seed: int
    steer: Steer | None = None

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens that the model reads before it writes, once for each opening."""
        first = self.commissions[:: len(self.commissions) // len(self.openings)]
        return sum(len(commission.order.prompt) + len(commission.order.begin) for commission in first)

    def opening_of(self, choice: int) -> Opening:
        """Return how a choice opens."""
        return self.openings[choice * len(self.openings) // len(self.commissions)]


def completion_asked(body: CompletionRequest, author: Author, limits: Limits) -> Asked:
    """Return what a request for completions asks for.

    Raises:
        Problem: It cannot be had here.
    """
    openings = openings_of_prompt(body.prompt, author, limits)
    num_new = num_new_of(body.max_tokens, limits, "max_tokens", least=0)
    if num_new == 0 and not (body.echo and all(opening.begin for opening in openings)):
        raise invalid(
            "max_tokens: 0 new tokens are taken only with echo and a prompt that has tokens of the review, to be told "
            "of those. Give 1 or more.",
            "max_tokens",
        )
    top = within("logprobs", body.logprobs or 0, limits.max_logprobs)
    asked = _texts_asked(body, openings, author, limits, num_new, top, "prompt")
    with_begin = bool(body.echo)
    _check_told(asked, _num_told(body.nano_llm, author, None if body.logprobs is None else top), limits, with_begin)
    return asked


def chat_asked(body: ChatRequest, author: Author, limits: Limits) -> Asked:
    """Return what a chat asks for; raises as `completion_asked`."""
    given = {body.max_tokens, body.max_completion_tokens} - {None}
    if len(given) > 1:
        raise invalid("max_tokens and max_completion_tokens mean the same: give one of them.", "max_tokens")
    num_new = num_new_of(next(iter(given), None), limits, "max_completion_tokens")
    if body.top_logprobs and not body.logprobs:
        raise invalid("top_logprobs are told with logprobs: give `logprobs: true` too.", "top_logprobs")
    top = within("top_logprobs", body.top_logprobs or 0, limits.max_logprobs)
    opening = opening_of_messages(body.messages, limits)
    asked = _texts_asked(body, [opening], author, limits, num_new, top, "messages")
    _check_told(asked, _num_told(body.nano_llm, author, top if body.logprobs else None), limits, with_begin=False)
    return asked


def generate_asked(body: GenerateRequest, author: Author, limits: Limits) -> Asked:
    """Return what a request of the reference's form asks for; raises as `completion_asked`."""
    body.refuse_unsupported()
    if body.both_reviews and body.head_id is not None:
        raise invalid("head_id is of one review: leave it out, or both_reviews.", "head_id")
    opening = opening_of_instruction(short("prompt", body.prompt or "", limits.max_prompt_chars))
    check_window(opening, author, "prompt")
    num_new = num_new_of(body.max_tokens, limits, "max_tokens")
    outcome: Outcome | None = "both" if body.both_reviews else body.head_id
    knobs = Knobs(
        temperature=0 if body.method == "greedy" else body.temperature,
        top_k=None if body.method == "top_p" else body.top_k,
        top_p=None if body.method == "top_k" else body.top_p,
        repetition_penalty=body.repetition_penalty,
    )
    request = Request(
        seed=seed_of(body.seed),
        stop=stops_of(body.stop_sequence or None, limits, "stop_sequence"),
        stop_newline=not body.no_stop_newline,
        sampling=sampling_of(knobs),
    )
    names = Names("both_reviews" if body.both_reviews else "head_id")
    return _asked([opening], request, outcome, names, author, limits, num_new)


def pair_asked(body: CounterfactualBody, author: Author, limits: Limits) -> Asked:
    """Return what a request for both outcomes of a prompt asks for; raises as `completion_asked`."""
    for name, value in (("label", body.label), ("keep_prefix", body.keep_prefix), ("similarity", body.similarity)):
        if value is not None:
            raise invalid(f"{name} is of a review: give its text too, or leave {name} out.", name)
    opening = opening_of_instruction(short("prompt", body.prompt or "", limits.max_prompt_chars))
    begin = short("begin", body.begin or "", limits.max_prompt_chars)
    if begin and opening.begin:
        raise invalid("prompt has text behind [REVIEW], where begin stands: give one of them.", "begin")
    opening = replace(opening, begin=begin or opening.begin)
    check_window(opening, author, "prompt")
    num_new = num_new_of(body.max_tokens, limits, "max_tokens")
    _check_topic(body.topic, [opening], "topic")
    request = Request(
        pair=pairing_of(body.pair),
        seed=seed_of(body.seed),
        topic=body.topic,
        sampling=sampling_of(body),
        steering=steering_of(body.steer, "steer"),
        events=events_of(body.events),
        num_top=top_asked(body),
    )
    names = Names("prompt", prompt="begin" if begin and opening.prompt is None else "prompt")
    asked = _asked([opening], request, "both", names, author, limits, num_new, body.steer)
    _check_told(asked, 1 + 2 * top_asked(body), limits, with_begin=True)
    return asked


def top_asked(body: CounterfactualBody) -> int:
    """Return how many of the likeliest tokens of each head are told."""
    return DEFAULT_TOP if body.top is None else body.top


def review_asked(body: CounterfactualBody, author: Author, limits: Limits) -> CounterfactualRequest:
    """Return what a request for the counterfactual of a review asks for; raises as `completion_asked`."""
    for name, value in (("prompt", body.prompt), ("begin", body.begin), ("pair", body.pair)):
        if value is not None:
            raise invalid(f"{name} is of a pair from a prompt: leave it out, or text.", name)
    if body.label is None:
        raise invalid("label: give the sentiment of the review, 'neg' or 'pos'.", "label")
    if not author.has_outcomes:
        raise unsupported("This model has one outcome, so no review has another one. Serve one with two.", "text")
    _check_steer(body.steer, author, "steer")
    if body.topic is None and author.topics:
        raise invalid(f"topic: give what the review is about, {', '.join(author.topics)}.", "topic")
    text = short("text", body.text or "", limits.max_review_chars)
    num_tokens = len(author.tokenizer.encode(clean(text)))
    num_kept = min(body.keep_prefix or 0, num_tokens)
    if body.max_tokens is None:
        num_new = min(2 * num_tokens + 32 - num_kept, limits.max_tokens)
    else:
        num_new = num_new_of(body.max_tokens, limits, "max_tokens")
    with blaming("text", {"keep_prefix": "keep_prefix"}):
        return CounterfactualRequest(
            text=text,
            label=int(body.label == "pos"),
            topic=body.topic,
            num_draws=1,
            keep_prefix=body.keep_prefix or 0,
            similarity=1.0 if body.similarity is None else body.similarity,
            num_tokens=num_kept + num_new,
            seed=seed_of(body.seed),
            sampling=sampling_of(body),
            steering=steering_of(body.steer, "steer"),
            events=events_of(body.events),
            num_top=top_asked(body),
        )


# ------------------------------------------------------------------------------- of all kinds of texts


def _texts_asked(
    body: Texts, openings: Sequence[Opening], author: Author, limits: Limits, num_new: int, num_top: int, prompt: str
) -> Asked:
    body.refuse_unsupported()
    if body.stream_options is not None:
        body.stream_options.refuse_unsupported()
        if not body.stream:
            raise invalid(
                "stream_options are of a stream: give `stream: true` too, or leave them out.", "stream_options"
            )
    extension = body.nano_llm or Extension()
    if body.both_reviews and extension.outcome not in (None, "both"):
        raise invalid(
            f"nano_llm.outcome={extension.outcome!r} does not go with both_reviews: leave one of them out.",
            "nano_llm.outcome",
        )
    outcome: Outcome | None = "both" if body.both_reviews else extension.outcome
    _check_extension(extension, outcome, author)
    _check_topic(extension.topic, openings, "nano_llm.topic")
    num_samples = body.n or 1
    num_texts = len(openings) * num_samples * (2 if outcome == "both" else 1)
    if num_texts > limits.max_texts:
        raise invalid(
            f"The request asks for {num_texts} texts (prompts x n x outcomes); at most {limits.max_texts} are written "
            "for one request. Ask for fewer, or several times.",
            "n",
        )
    request = Request(
        pair=pairing_of(extension.pair),
        num_texts=num_samples,
        seed=seed_of(body.seed),
        topic=extension.topic,
        stop=stops_of(body.stop, limits, "stop"),
        sampling=sampling_of(body),
        steering=steering_of(extension.steer, "nano_llm.steer"),
        events=events_of(extension.events),
        num_top=max(num_top, extension.top or 0),
    )
    names = Names(
        "both_reviews" if body.both_reviews else "nano_llm.outcome", prompt, "nano_llm.topic", "nano_llm.steer"
    )
    return _asked(openings, request, outcome, names, author, limits, num_new, extension.steer)


def _asked(
    openings: Sequence[Opening],
    request: Request,
    outcome: Outcome | None,
    names: Names,
    author: Author,
    limits: Limits,
    num_new: int,
    steer: Steer | None = None,
) -> Asked:
    """Return the texts of openings.

    Args:
        openings: One or more.
        request: What else is wanted of each.
        outcome: Whose reviews.
        names: Of the fields.
        author: Who writes.
        limits: Of requests.
        num_new: Most tokens behind those that a text begins with.
        steer: How it is steered, to be told again.
    """
    commissions: list[Commission] = []
    for opening in openings:
        wanted = _wanted(outcome, opening, author, names.outcome)
        with blaming(names.prompt, {"topic": names.topic, "plausibility": names.steer}):
            whole = replace(request, wanted=wanted, prompt=opening.prompt, begin=opening.begin)
            commissioned = author.commissions(whole)
        num_begin = len(commissioned[0].order.begin)
        if num_begin > limits.max_begin_tokens:
            raise too_long(
                f"{names.prompt}: the review begins with {num_begin} tokens; at most {limits.max_begin_tokens} are "
                "read. Give fewer.",
                names.prompt,
            )
        commissions += [_with_new_tokens(commission, num_new) for commission in commissioned]
    return Asked(tuple(commissions), tuple(openings), 2 if outcome == "both" else 1, request.seed, steer)


def _with_new_tokens(commission: Commission, num_new: int) -> Commission:
    order = commission.order
    return replace(commission, order=replace(order, num_tokens=len(order.begin) + num_new))


def _num_told(extension: Extension | None, author: Author, num_logprobs: int | None) -> int:
    """Return the numbers told of each token: its own, and those of the likeliest."""
    of_trace = 1 + author.num_heads * (extension.top or 0) if extension is not None and extension.trace else 0
    return of_trace + (0 if num_logprobs is None else 1 + num_logprobs)


def _check_told(asked: Asked, num_told: int, limits: Limits, with_begin: bool) -> None:
    """Check how much is told of the tokens of all texts, by the numbers told of each."""
    orders = [commission.order for commission in asked.commissions]
    num_tokens = sum(order.num_tokens - (0 if with_begin else len(order.begin)) for order in orders)
    if num_tokens * num_told > limits.max_told:
        raise invalid(
            f"The request asks for up to {num_told} log-probabilities of each of {num_tokens} tokens, over all texts; "
            f"at most {limits.max_told} are told at once. Ask for fewer of them, for fewer tokens or texts, or several "
            "times.",
            "max_tokens",
        )


def _wanted(outcome: Outcome | None, opening: Opening, author: Author, where: str) -> Wanted:
    if author.num_heads == 2:
        wanted = {0: Wanted.y0, 1: Wanted.y1, "both": Wanted.both, "mixture": Wanted.mixture, None: Wanted.mixture}
        return wanted[outcome]
    names_outcome = author.has_outcomes and opening.prompt is None
    match outcome:
        case None:
            return Wanted.y1 if names_outcome else Wanted.prompt
        case 0 | 1:
            if names_outcome:
                return (Wanted.y0, Wanted.y1)[outcome]
            why = "the prompt is yours" if author.has_outcomes else "its prompt names no sentiment"
            raise unsupported(
                f"{where}: this model has one head, which is told the outcome by its prompt, and {why}. Leave it out.",
                where,
            )
        case "both" | "mixture":
            instead = "ask for outcome 0 and 1 one after the other" if names_outcome else "leave it out"
            raise unsupported(
                f'{where}: this model has one head, and "{outcome}" needs two; {instead}, or serve a model with two '
                "(model=tarnet).",
                where,
            )


def _check_extension(extension: Extension, outcome: Outcome | None, author: Author) -> None:
    if extension.pair is not None:
        if author.num_heads == 1:
            raise unsupported("nano_llm.pair is of two heads, and this model has one: leave it out.", "nano_llm.pair")
        if outcome != "both":
            raise invalid('nano_llm.pair is of two texts: ask for outcome "both", or leave it out.', "nano_llm.pair")
    if extension.top and not extension.trace:
        raise invalid("nano_llm.top is told in the trace: give `trace: true` too.", "nano_llm.top")
    steer = extension.steer
    _check_steer(steer, author, "nano_llm.steer")
    if steer is not None and steer.mode != "plain" and outcome in (None, "mixture") and author.num_heads == 2:
        raise invalid(
            f"nano_llm.steer: {steer.mode} steers to an outcome, and the mixture is of none. Ask for outcome 0, 1 or "
            '"both".',
            "nano_llm.steer",
        )


def _check_steer(steer: Steer | None, author: Author, where: str) -> None:
    if steer is not None and steer.mode != "plain" and author.num_heads == 1:
        raise unsupported(
            f"{where}: {steer.mode} compares two heads, and this model has one. Leave it out, or serve a model with "
            "two (model=tarnet).",
            where,
        )


def _check_topic(topic: str | None, openings: Sequence[Opening], where: str) -> None:
    if topic is not None and any(opening.prompt is not None for opening in openings):
        raise invalid(f"{where}: a prompt of your own names its topic itself. Give one of them.", where)
