"""A checkpoint as an author: its prompts, pairs and counterfactuals, and what it refuses."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from model.building import scatter_parameters
from nano_llm.checkpoint import Checkpoint, build_model
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Config
from nano_llm.data import scm
from nano_llm.data.scm_lexicon import TOPICS
from nano_llm.data.tokenizer import Tokenizer, words_of
from nano_llm.errors import RequestError
from nano_llm.generation.abduction import AbductedNoise
from nano_llm.generation.author import Author, Commission
from nano_llm.generation.events import EventKeys
from nano_llm.generation.noise import Noise
from nano_llm.generation.request import CounterfactualRequest, Pairing, Request, Wanted
from nano_llm.generation.sampling import Sampling
from nano_llm.generation.steering import ContrastBase, Steering, SteeringMode
from nano_llm.generation.writer import Draft, Finish
from nano_llm.model.language_model import LanguageModel

WINDOW = 32
CPU = torch.device("cpu")


def composed(*overrides: str) -> Config:
    return compose_config(["scale=tiny", "data=scm", f"data.window_length={WINDOW}", *overrides])


def words_tokenizer(config: Config) -> Tokenizer:
    prompts = [*vars(config.data.prompt).values(), "about", *TOPICS, "positive", "negative"]
    words = scm.review_law(config.data).vocabulary  # type: ignore[arg-type]
    return Tokenizer.of_words([*words, *(word for text in prompts for word in words_of(text))], 1024)


def opened(
    config: Config, tokenizer: Tokenizer, num_rows: int = 16, change: Callable[[LanguageModel], None] | None = None
) -> Author:
    model = build_model(config, tokenizer.vocab_size)
    scatter_parameters(model)
    with torch.no_grad():  # a tied readout of large embeddings would say one word all the time
        for trunk in dict.fromkeys(trunk for trunk, _ in model.passes):
            trunk.embedding.weight.mul_(0.4)
    if change is not None:
        change(model)
    return Author(Checkpoint(config, tokenizer, model.state_dict(), {}, None), CPU, num_rows)


@cache
def words_author(*overrides: str, num_rows: int = 16) -> Author:
    config = composed(*overrides)
    return opened(config, words_tokenizer(config), num_rows)


def with_equal_heads(model: LanguageModel) -> None:
    zero, one = model.passes[0][1].deltas  # type: ignore[misc]
    one.load_state_dict(zero.state_dict())


@cache
def equal_author() -> Author:
    config = composed("model=tarnet")
    return opened(config, words_tokenizer(config), change=with_equal_heads)


REFERENCE_TEXTS = ["a dull film. i slept", "a fine film! it is long", "so long, so dull"] * 3


@cache
def reference_author(*overrides: str) -> Author:
    config = composed(*overrides, "data.topic=hidden")
    samples = [
        f"<bos>{prompt} [REVIEW] {text} [/REVIEW]<eos>"
        for prompt in (
            "[SENTIMENT] negative [/SENTIMENT]",
            "[SENTIMENT] positive [/SENTIMENT]",
            "GENERATE an IMDB-like review:",
        )
        for text in REFERENCE_TEXTS
    ]
    return opened(config, Tokenizer.fit_reference(samples, 150, split_words=True))


TARNET, TAGS = ("model=tarnet",), ("model=vanilla",)
NATURAL, COMMAND = (*TAGS, "data.conditioning=natural"), (*TAGS, "data.conditioning=command")
TWO_SENTENCES = "the plot is dull. the acting is superb."


def review_of(author: Author) -> str:
    """A text of the closed vocabulary, or of the reference's."""
    if author.vocabulary.has_leading_space:
        return "a dull film. so long, it is fine!"
    allowed = [
        author.tokenizer.token(index)
        for index in np.flatnonzero(author.vocabulary.allowed_V)
        if index not in author.vocabulary.ends and author.tokenizer.token(index).isalpha()
    ]
    return " ".join([*allowed[10:20]]) + ". " + " ".join(allowed[30:35]) + "."


def write(author: Author, commissions: list[Commission]) -> list[Draft]:
    drafts = author.write(commissions)
    assert author.writer.num_free == author.writer.contexts.num_rows == author.writer.contexts.num_free
    assert [draft.order for draft in drafts] == [commission.order for commission in commissions]
    return drafts


def texts(author: Author, request: Request | CounterfactualRequest) -> list[tuple[list[int], str, Finish | None]]:
    commission = author.counterfactuals if isinstance(request, CounterfactualRequest) else author.commissions
    return [told(draft) for draft in write(author, commission(request))]  # type: ignore[operator]


def told(draft: Draft) -> tuple[list[int], str, Finish | None]:
    return [token.index for token in draft.tokens], draft.text, draft.finish


def of_topic(author: Author, text: str, label: int, **rules: Any) -> CounterfactualRequest:
    """A request that names a topic where the prompts do."""
    return CounterfactualRequest(text, label, topic=author.topics[0] if author.topics else None, **rules)


def refusal(author: Author, request: Request | CounterfactualRequest) -> str:
    commission = author.counterfactuals if isinstance(request, CounterfactualRequest) else author.commissions
    with pytest.raises(RequestError) as refused:
        commission(request)  # type: ignore[operator]
    return str(refused.value)


# ------------------------------------------------------------------------------------------------ prompts and outcomes


@pytest.mark.parametrize(
    ("overrides", "prompts"),
    [
        (TARNET, ["GENERATE an IMDB-like review: about drama [REVIEW]"] * 2),
        (TAGS, [f"[SENTIMENT] {side} [/SENTIMENT] about drama [REVIEW]" for side in ("negative", "positive")]),
        (NATURAL, [f"Create a {side} IMDB-like review about drama [REVIEW]" for side in ("NEGATIVE", "POSITIVE")]),
    ],
)
def test_both_outcomes_are_asked_for_as_the_model_was_trained(overrides: tuple[str, ...], prompts: list[str]) -> None:
    author = words_author(*overrides)
    assert author.has_outcomes
    commissions = author.commissions(Request())
    assert [commission.prompt for commission in commissions] == prompts
    assert [commission.outcome for commission in commissions] == [
        commission.order.outcome for commission in commissions
    ]
    assert [commission.outcome for commission in commissions] == [0, 1]
    assert [list(commission.order.prompt) for commission in commissions] == [
        author.tokenizer.encode_prompt(prompt) for prompt in prompts
    ]
    for wanted, outcome in ((Wanted.y0, 0), (Wanted.y1, 1)):
        assert author.commissions(Request(wanted=wanted)) == [commissions[outcome]]
    assert author.commissions(Request(wanted=Wanted.both)) == commissions


def test_a_model_that_is_told_no_sentiment_has_one_law() -> None:
    author = words_author(*COMMAND)
    assert not author.has_outcomes
    (commission,) = author.commissions(Request())
    assert (commission.outcome, commission.prompt) == (None, "GENERATE an IMDB-like review: about drama [REVIEW]")
    assert author.commissions(Request(wanted=Wanted.prompt)) == [commission]
    for wanted in (Wanted.y0, Wanted.y1, Wanted.both):
        words = f"its prompt names no sentiment: leave out --outcome {wanted}."
        assert words in refusal(author, Request(wanted=wanted))
    assert "model=tarnet" in refusal(author, of_topic(author, review_of(author), 0))


def test_topics_take_turns_unless_one_is_named() -> None:
    author = words_author(*TARNET)
    commissions = author.commissions(Request(num_texts=7))
    assert [commission.topic for commission in commissions] == [topic for topic in (*TOPICS, TOPICS[0]) for _ in "01"]
    assert [commission.index for commission in commissions] == [index for index in range(7) for _ in "01"]
    named = author.commissions(Request(num_texts=2, topic="horror"))
    assert {commission.topic for commission in named} == {"horror"}
    assert {commission.prompt for commission in named} == {"GENERATE an IMDB-like review: about horror [REVIEW]"}
    assert "topic='war': this model knows drama, comedy" in refusal(author, Request(topic="war"))
    assert "topic='war': this model knows" in refusal(author, CounterfactualRequest("the.", 0, topic="war"))


def test_a_model_whose_prompts_name_no_topic_is_given_none() -> None:
    author = words_author(*TARNET, "data.topic=hidden")
    (commission, _) = author.commissions(Request())
    assert (commission.topic, commission.prompt) == (None, "GENERATE an IMDB-like review: [REVIEW]")
    assert "the prompts of this model name no topic; leave it out" in refusal(author, Request(topic="drama"))


@pytest.mark.parametrize("prompt", ["about drama", " about drama \n", "about drama [REVIEW]"])
def test_a_prompt_of_ones_own_takes_the_place_of_the_models(prompt: str) -> None:
    both = words_author(*TARNET).commissions(Request(prompt=prompt))
    assert [commission.outcome for commission in both] == [0, 1]
    author = words_author(*TAGS)
    (commission,) = author.commissions(Request(prompt=prompt))
    for given in (*both, commission):
        assert given.prompt.split() == ["about", "drama", "[REVIEW]"]
        assert given.topic is None
        assert list(given.order.prompt) == author.tokenizer.encode_prompt("about drama [REVIEW]")
    assert commission.outcome is None
    assert author.commissions(Request(prompt=prompt, wanted=Wanted.prompt)) == [commission]
    assert "the prompt is yours: leave out --outcome y1." in refusal(author, Request(prompt=prompt, wanted=Wanted.y1))


def test_two_heads_are_not_chosen_by_a_prompt() -> None:
    assert "ask for y0, y1 or both" in refusal(words_author(*TARNET), Request(wanted=Wanted.prompt))
    assert "ask for y0, y1 or both" in refusal(words_author(*TAGS), Request(wanted=Wanted.prompt))


@pytest.mark.parametrize("overrides", [TAGS, NATURAL, COMMAND])
def test_what_compares_two_heads_is_refused_by_one(overrides: tuple[str, ...]) -> None:
    author = words_author(*overrides)
    assert "leave out --outcome mixture" in refusal(author, Request(wanted=Wanted.mixture))
    for mode in (SteeringMode.contrast, SteeringMode.cfg, SteeringMode.posterior):
        words = f"--steer {mode} compares two heads, and this model has one: leave it out"
        assert words in refusal(author, Request(steering=Steering(mode)))
        if author.has_outcomes:
            assert words in refusal(author, of_topic(author, review_of(author), 0, steering=Steering(mode)))
    assert author.commissions(Request(steering=Steering(plausibility=0.1)))


def test_the_mixture_is_one_text_of_no_outcome() -> None:
    author = words_author(*TARNET)
    (commission,) = author.commissions(Request(wanted=Wanted.mixture))
    assert (commission.outcome, commission.order.steering) == (None, Steering(SteeringMode.mixture))
    scaled = Steering(SteeringMode.mixture, posterior_scale=0.4)
    (commission,) = author.commissions(Request(wanted=Wanted.mixture, steering=scaled))
    assert commission.order.steering == scaled


# ------------------------------------------------------------------------------------------------ what has no token


def test_a_word_that_the_model_does_not_know_is_named() -> None:
    author = words_author(*TARNET)
    for request in (
        Request(prompt="about gizmos now"),
        Request(begin="the gizmos are"),
        CounterfactualRequest("the gizmos are dull.", 0, topic="drama"),
    ):
        assert "no token for 'gizmos': its vocabulary is closed" in refusal(author, request)
    assert "no token for 'é'" in refusal(reference_author(*TARNET), Request(begin="a é"))


@pytest.mark.parametrize("markup", ["[/REVIEW]", "<eos>", "[REVIEW]", "<pad>", "[SENTIMENT]"])
def test_markup_is_no_word_of_a_closed_vocabulary(markup: str) -> None:
    assert f"{markup} is markup" in refusal(words_author(*TARNET), Request(begin=f"the {markup} is"))


def test_markup_is_text_where_bytes_spell_it() -> None:
    config = composed(*TARNET)
    author = opened(config, Tokenizer.fit_bytes(["a dull film"] * 3, 270, split_words=True))
    begin = "a <unk> [/REVIEW] <eos> é\n"
    for draft in write(author, author.commissions(Request(prompt="a", begin=begin, num_tokens=80))):
        assert draft.text.startswith(begin)


@pytest.mark.parametrize("author", [words_author(*TARNET), reference_author(*TARNET)], ids=["markers", "no markers"])
def test_prompts_and_beginnings_may_be_given_as_tokens(author: Author) -> None:
    prompt = "GENERATE an IMDB-like review: about drama [REVIEW]"
    begin = review_of(author)
    ids = author.tokenizer.encode_prompt(prompt)[1:]
    (as_text, *_) = author.commissions(Request(prompt=prompt, begin=begin))
    (as_tokens, *_) = author.commissions(Request(prompt=tuple(ids), begin=as_text.order.begin))
    assert as_tokens.order == as_text.order
    assert as_tokens.prompt == author.tokenizer.decode(ids, keep_special=True)


@pytest.mark.parametrize("field", ["prompt", "begin"])
@pytest.mark.parametrize("token", [-1, 10**6])
def test_tokens_outside_the_vocabulary_are_refused(field: str, token: int) -> None:
    author = words_author(*TARNET)
    fields: dict[str, Any] = {field: (token,)}
    assert f"no token {token}: the model's vocabulary has 0 to {author.tokenizer.vocab_size - 1}" in refusal(
        author, Request(**fields)
    )


def test_tokens_of_markup_begin_no_review() -> None:
    author = words_author(*TARNET)
    assert "[/REVIEW] is markup" in refusal(author, Request(begin=author.tokenizer.end_ids[:1]))


def test_a_prompt_that_fills_the_window_is_refused_before_anything_is_written() -> None:
    author = words_author(*TARNET)
    words = f"at most {WINDOW - 2} tokens"
    assert words in refusal(author, Request(prompt="about " * WINDOW))
    assert author.commissions(Request(prompt="about " * (WINDOW - 4)))


def test_stop_strings_beside_an_end_that_is_text() -> None:
    stop = tuple(f"stop {number}" for number in range(16))
    for author in (words_author(*TARNET), reference_author(*TARNET)):
        assert author_can(author, Request(stop=stop, num_tokens=3))


def author_can(author: Author, request: Request) -> bool:
    return all(draft.finish is not None for draft in write(author, author.commissions(request)))


def test_a_review_of_markup_alone_is_empty() -> None:
    assert "Nothing is left of the review" in refusal(
        words_author(*TARNET), CounterfactualRequest("<br /> \u200b", 1, topic="drama")
    )


# ------------------------------------------------------------------------------------------------ pairs


AUTHORS = {
    "tarnet": lambda: words_author(*TARNET),
    "t_learner": lambda: words_author("model=t_learner"),
    "tags": lambda: words_author(*TAGS),
    "reference": lambda: reference_author(*TARNET),
    "reference, tags": lambda: reference_author(*TAGS),
}


@pytest.fixture(params=AUTHORS.values(), ids=AUTHORS.keys())
def author(request: pytest.FixtureRequest) -> Author:
    return request.param()  # type: ignore[no-any-return]


@pytest.mark.parametrize("pair", list(Pairing))
def test_each_text_of_a_pair_is_the_one_that_is_asked_for_alone(author: Author, pair: Pairing) -> None:
    request = Request(pair=pair, num_texts=3, num_tokens=40, seed=4)
    both = texts(author, request)
    assert texts(author, request) == both
    assert texts(author, replace(request, wanted=Wanted.y0)) == both[0::2]
    assert texts(author, replace(request, wanted=Wanted.y1)) == both[1::2]
    assert texts(author, replace(request, num_texts=1)) == both[:2]
    assert texts(author, replace(request, seed=5)) != both
    assert len({text for _, text, _ in both[0::2]}) == 3


def test_a_pair_shares_its_noise_only_if_it_is_coupled() -> None:
    coupled = texts(equal_author(), Request(num_texts=6, num_tokens=30, topic="drama"))
    assert coupled[0::2] == coupled[1::2]
    apart = texts(equal_author(), Request(num_texts=6, num_tokens=30, topic="drama", pair=Pairing.independent))
    assert all(zero != one for zero, one in zip(apart[0::2], apart[1::2], strict=True))


@pytest.mark.parametrize(
    "steering", [Steering(SteeringMode.contrast, base=ContrastBase.mixture), Steering(SteeringMode.posterior)]
)
def test_equal_heads_steer_nowhere(steering: Steering) -> None:
    request = Request(num_texts=4, num_tokens=30)
    assert texts(equal_author(), replace(request, steering=steering)) == texts(equal_author(), request)


def test_a_text_begins_as_it_is_asked_to(author: Author) -> None:
    begin = review_of(author)[:12].rpartition(" ")[0]
    for tokens, text, finish in texts(author, Request(begin=begin, num_texts=2, num_tokens=20)):
        assert text.startswith(begin)
        assert len(tokens) == 20 or finish is Finish.end
    for tokens, _, finish in texts(author, Request(begin=review_of(author), num_tokens=2)):
        assert (len(tokens), finish) == (2, Finish.length)
    for _, text, _ in texts(author, Request(begin=f"{begin} {begin}", stop=(begin,))):
        assert text.startswith(f"{begin} {begin}")


# ------------------------------------------------------------------------------------------------ counterfactuals


def replayed(author: Author, request: CounterfactualRequest) -> list[Draft]:
    """The review's own law with the noise that was abducted from it: the counterfactual of nothing."""
    told_by = Wanted.y1 if request.label else Wanted.y0
    (own,) = author.commissions(Request(wanted=told_by, topic=request.topic))
    orders = [
        replace(commission.order, outcome=request.label, prompt=own.order.prompt, begin=())
        for commission in author.counterfactuals(request)
    ]
    commissions = [Commission(order, index, request.label, own.topic, own.prompt) for index, order in enumerate(orders)]
    return write(author, commissions)


LAWS = {
    "plain": {},
    "cold": {"sampling": Sampling(temperature=0.6)},
    "hot, penalised": {"sampling": Sampling(temperature=1.7, repetition_penalty=1.4)},
    "by position": {"events": EventKeys.position},
}
STEERED = {
    "contrast": {"steering": Steering(SteeringMode.contrast, strength=0.3)},
    "posterior": {"steering": Steering(SteeringMode.posterior, strength=2), "seed": 8},
}


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("rules", LAWS.values(), ids=LAWS.keys())
def test_the_abducted_noise_writes_the_review_again(author: Author, label: int, rules: dict[str, object]) -> None:
    short = review_of(author)
    for text in (short, " ".join([short] * 5)):  # the second is longer than the window
        request = of_topic(author, text, label, num_draws=3, **rules)  # type: ignore[arg-type]
        for draft in replayed(author, request):
            assert (draft.text, draft.finish) == (text, Finish.end)
    assert len(author.tokenizer.encode(text)) > WINDOW


@pytest.mark.parametrize("rules", STEERED.values(), ids=STEERED.keys())
@pytest.mark.parametrize("label", [0, 1])
def test_under_steering_too_the_abducted_noise_writes_the_review_again(label: int, rules: dict[str, object]) -> None:
    author = words_author(*TARNET)
    text = " ".join([review_of(author)] * 4)
    for draft in replayed(author, of_topic(author, text, label, num_draws=2, **rules)):  # type: ignore[arg-type]
        assert (draft.text, draft.finish) == (text, Finish.end)


@pytest.mark.parametrize("rules", [*LAWS.values(), *STEERED.values()], ids=[*LAWS.keys(), *STEERED.keys()])
def test_under_equal_heads_the_counterfactual_is_the_review(rules: dict[str, object]) -> None:
    author = equal_author()
    text = " ".join([review_of(author)] * 4)
    for label in (0, 1):
        request = of_topic(author, text, label, num_draws=2, **rules)  # type: ignore[arg-type]
        assert [found[1:] for found in texts(author, request)] == [(text, Finish.end)] * 2


def test_a_review_that_is_kept_whole_is_the_counterfactual(author: Author) -> None:
    text = review_of(author)
    num_tokens = len(author.tokenizer.encode(f" {text}" if author.vocabulary.has_leading_space else text))
    for keep_prefix in (num_tokens, num_tokens + 1, 10**9):
        request = of_topic(author, text, 0, num_draws=2, keep_prefix=keep_prefix)
        assert [found[1:] for found in texts(author, request)] == [(text, Finish.end)] * 2
    kept = of_topic(author, text, 0, num_draws=4, keep_prefix=num_tokens - 1)
    own = author.counterfactuals(kept)[0].order.begin
    assert len(own) == num_tokens - 1
    assert all(found[0][: num_tokens - 1] == list(own) for found in texts(author, kept))
    assert len({found[1] for found in texts(author, replace(kept, similarity=0))}) > 1


@pytest.mark.parametrize("events", list(EventKeys))
def test_without_similarity_a_counterfactual_is_the_intervention_with_the_same_noise(
    author: Author, events: EventKeys
) -> None:
    topic = "horror" if author.topics else None
    request = CounterfactualRequest(
        review_of(author), 0, num_draws=3, similarity=0, num_tokens=30, seed=6, topic=topic, events=events
    )
    plain = Request(wanted=Wanted.y1, num_texts=3, num_tokens=30, seed=6, topic=topic, events=events)
    found, expected = (write(author, each) for each in (author.counterfactuals(request), author.commissions(plain)))
    assert [draft.tokens for draft in found] == [replace_top(draft) for draft in expected]
    assert [draft.finish for draft in found] == [draft.finish for draft in expected]
    hindsight = texts(author, replace(request, similarity=1))
    assert hindsight != [told(draft) for draft in expected]


def replace_top(draft: Draft) -> list[object]:
    return [replace(token, top=()) for token in draft.tokens]


def test_several_noises_could_have_written_a_review(author: Author) -> None:
    request = of_topic(author, review_of(author), 1, num_draws=6)
    commissions = author.counterfactuals(request)
    assert [(commission.index, commission.outcome, commission.order.outcome) for commission in commissions] == [
        (draw, 0, 0) for draw in range(6)
    ]
    found = [told(draft) for draft in write(author, commissions)]
    assert len({text for _, text, _ in found}) > 1
    assert texts(author, request) == found
    assert texts(author, replace(request, num_draws=2)) == found[:2]
    assert texts(author, replace(request, seed=1)) != found


def test_a_counterfactual_is_as_long_as_it_may_be() -> None:
    author = words_author(*TARNET)
    text = review_of(author)
    num_tokens = len(author.tokenizer.encode(text))
    assert {order.order.num_tokens for order in author.counterfactuals(of_topic(author, text, 1))} == {
        2 * num_tokens + 32
    }
    request = of_topic(author, text, 1, num_draws=3, num_tokens=4, keep_prefix=6)
    assert [(len(found[0]), found[2]) for found in texts(author, request)] == [(4, Finish.length)] * 3


def test_the_noise_is_that_of_the_label() -> None:
    """What is abducted under one label does not write the review under the other prompt or head."""
    for author in (words_author(*TARNET), words_author(*TAGS)):
        text = review_of(author)
        for label in (0, 1):
            found = texts(author, of_topic(author, text, label, num_draws=4))
            assert any(text != counterfactual for _, counterfactual, _ in found)


def test_a_review_that_the_law_rules_out_is_refused_with_the_token() -> None:
    author = words_author(*TARNET)
    for sampling in (Sampling(temperature=0), Sampling(top_k=1)):
        words = refusal(author, of_topic(author, review_of(author), 0, sampling=sampling))
        assert re.search(r"Token \d+ of the text .* has probability 0", words)


def test_a_review_is_read_as_training_would_clean_it() -> None:
    author = words_author(*TARNET)
    text = review_of(author)
    messy = text.replace(" ", "<br /> \n", 2) + "\u200b "
    assert texts(author, of_topic(author, messy, 0, num_draws=2)) == texts(
        author, of_topic(author, text, 0, num_draws=2)
    )


def test_abduction_leaves_no_noise_where_similarity_is_nothing() -> None:
    author = words_author(*TARNET)
    request = of_topic(author, review_of(author), 0, num_draws=1, similarity=0, seed=2)
    (commission,) = author.counterfactuals(request)
    assert commission.order.noise == AbductedNoise(Noise.of(2, 0), {}) or (
        isinstance(commission.order.noise, AbductedNoise) and not commission.order.noise.abducted
    )


# ------------------------------------------------------------------------------------------------ writing


def test_more_texts_than_rows_come_back_in_their_order() -> None:
    request = Request(num_texts=9, num_tokens=25)
    narrow = words_author(*TARNET, num_rows=2)
    assert texts(narrow, request) == texts(words_author(*TARNET), request)


def test_a_commission_that_is_given_twice_is_written_once_and_told_twice() -> None:
    author = words_author(*TARNET)
    (commission,) = author.commissions(Request(wanted=Wanted.y0, num_tokens=5))
    once, again = author.write([commission, commission])
    assert told(once) == told(again)
    assert author.write([]) == []
