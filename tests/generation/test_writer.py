"""Texts that are written: their law, their independence of all other texts, their rows, windows and ends."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from generation.recomputing import Recomputing
from model.building import build, composed, scatter_parameters, small_scale
from nano_llm.data.arrays import FloatArray
from nano_llm.data.samples import Samples
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.data.windows import Windows
from nano_llm.errors import RequestError
from nano_llm.generation.events import EventKeys
from nano_llm.generation.noise import Noise
from nano_llm.generation.sampling import Sampling
from nano_llm.generation.steering import Steering, SteeringMode
from nano_llm.generation.vocabulary import Vocabulary
from nano_llm.generation.writer import Draft, Finish, Order, Writer, divergence, entropy, likeliest
from nano_llm.model.language_model import LanguageModel

WORDS = Tokenizer.of_words(["dull", "fine"], 10)
DULL, FINE = 8, 9
CLOSE, EOS = WORDS.end_ids
PROMPT = tuple(WORDS.encode_prompt("[SENTIMENT] [/SENTIMENT] [REVIEW]"))

MANY = Tokenizer.of_words([".", *(f"w{index}" for index in range(120))], 200)
"""So many words that a random law ends a text but rarely."""
FIRST_WORD, STOP = MANY.encode("w0")[0], MANY.encode(".")[0]
WINDOW = 24
ARCHITECTURES = ("vanilla", "interblock", "tarnet", "s_plus", "t_learner")


class Chain(nn.Module):
    """A Markov chain for each outcome: the next token depends on the last one alone."""

    def __init__(self, num_outcomes: int, vocab_size: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits_VKV = torch.randn(vocab_size, num_outcomes, vocab_size, generator=generator)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        return self.logits_VKV[tokens_BT]


class Script(nn.Module):
    """Says the tokens of a list in turn after the prompt, whatever was written; keeps what it was shown."""

    def __init__(self, tokens: list[int], vocab_size: int) -> None:
        super().__init__()
        self.tokens, self.vocab_size = tokens, vocab_size
        self.seen: list[list[int]] = []

    def forward(self, tokens_BT: Tensor) -> Tensor:
        self.seen.append(tokens_BT[0].tolist())
        logits_BTKV = torch.zeros(*tokens_BT.shape, 1, self.vocab_size)
        logits_BTKV[..., self.tokens[min(len(self.seen), len(self.tokens)) - 1]] = 1e4
        return logits_BTKV


@cache
def random_model(name: str) -> LanguageModel:
    model = build(composed(f"model={name}").model, small_scale(2), vocab_size=MANY.vocab_size, max_positions=WINDOW)
    scatter_parameters(model)
    return model.eval()


@cache
def equal_heads() -> LanguageModel:
    model = build(composed("model=tarnet").model, small_scale(2), vocab_size=MANY.vocab_size, max_positions=WINDOW)
    scatter_parameters(model)
    zero, one = model.passes[0][1].deltas  # type: ignore[misc]
    one.load_state_dict(zero.state_dict())
    return model.eval()


def writer_of(model: LanguageModel, num_rows: int = 4) -> Writer:
    return Writer(model, Vocabulary(MANY), WINDOW, num_rows)


def order_of(seed: int, outcome: int = 1, num_prompt: int = 3, **changes: object) -> Order:
    prompt = (MANY.bos_id, *range(FIRST_WORD, FIRST_WORD + num_prompt), 6)
    fields = {"prompt": prompt, "outcome": outcome, "noise": Noise.of(0, seed), "num_tokens": 60, **changes}
    return Order(**fields)  # type: ignore[arg-type]


def pair_of(seed: int, **changes: object) -> list[Order]:
    return [order_of(seed, outcome, **changes) for outcome in (0, 1)]


def write(writer: Writer, orders: list[Order]) -> list[Draft]:
    finished: dict[int, Draft] = {}
    for stepped in writer.run(orders):
        for draft in stepped:
            if draft.finish is not None:
                assert id(draft.order) not in finished, "told twice"
                finished[id(draft.order)] = draft
    assert num_open(writer) == 0
    return [finished[id(order)] for order in orders]


def num_open(writer: Writer) -> int:
    return writer.contexts.num_rows - writer.contexts.num_free


def ids(draft: Draft) -> list[int]:
    return [token.index for token in draft.tokens]


def outcome_of(draft: Draft) -> tuple[list[int], str, Finish | None]:
    return ids(draft), draft.text, draft.finish


def read(tokenizer: Tokenizer, module: nn.Module, **changes: object) -> Draft:
    """Let a module write one text after a prompt of one token."""
    window_length = int(changes.pop("window_length", 64))  # type: ignore[call-overload]
    writer = Writer(Recomputing(module, 1), Vocabulary(tokenizer), window_length, 1)
    fields = {"prompt": (tokenizer.bos_id,), "outcome": 0, "noise": Noise.of(0), "num_tokens": 50, **changes}
    (draft,) = write(writer, [Order(**fields)])  # type: ignore[arg-type]
    return draft


# ------------------------------------------------------------------------------------------------ an independent path


def recomputed(model: LanguageModel, order: Order) -> tuple[list[int], bool]:
    """Write one text in a plain loop that reads the whole window for each token; heads or their mixture."""
    review: list[int] = []
    start, sentence, place = 0, 0, 0
    evidence_K = np.zeros(2)
    room = WINDOW - len(order.prompt)
    while len(review) < order.num_tokens:
        window = torch.tensor([[*order.prompt, *review[start:]]])
        with torch.inference_mode():
            log_p_KV = model(window)[0, -1].double().log_softmax(-1).numpy()
        if order.steering.mode is SteeringMode.mixture:
            weight_K = np.exp(evidence_K) / np.exp(evidence_K).sum()
            score_V = np.log(weight_K @ np.exp(log_p_KV))
        else:
            score_V = log_p_KV[order.outcome if len(log_p_KV) == 2 else 0]
        score_V = score_V.copy()
        score_V[[0, 1, 3, 4, 5, 6]] = -np.inf
        if order.sampling.temperature > 0:
            event = (0, len(review)) if order.events is EventKeys.position else (sentence, place)
            score_V = score_V / order.sampling.temperature + order.noise.gumbel_V(event, len(score_V))
        token = int(score_V.argmax())
        if token in MANY.end_ids:
            return review, True
        evidence_K += log_p_KV[:, token] if len(log_p_KV) == 2 else 0
        sentence, place = (sentence + 1, 0) if token == STOP else (sentence, place + 1)
        review.append(token)
        if len(review) - start == room:
            start += room // 2
    return review, False


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_cached_text_is_that_of_a_plain_loop_that_reads_all_anew(name: str, temperature: float) -> None:
    model = random_model(name)
    sampling = Sampling(temperature=temperature)
    orders = [
        order_of(seed, seed % 2, 1 + 3 * seed, sampling=sampling, events=list(EventKeys)[seed % 2]) for seed in range(5)
    ]
    drafts = write(writer_of(model), orders)
    for order, draft in zip(orders, drafts, strict=True):
        assert (ids(draft), draft.finish is Finish.end) == recomputed(model, order)
    assert max(len(draft.tokens) for draft in drafts) > 2 * WINDOW


@pytest.mark.parametrize("name", ["tarnet", "s_plus", "t_learner"])
def test_the_mixture_is_the_heads_weighted_by_their_posterior(name: str) -> None:
    model = random_model(name)
    orders = [order_of(seed, steering=Steering(SteeringMode.mixture)) for seed in range(4)]
    texts = [(ids(draft), draft.finish is Finish.end) for draft in write(writer_of(model), orders)]
    assert texts == [recomputed(model, order) for order in orders]
    for outcome in (0, 1):
        plain = [replace(order, steering=Steering(), outcome=outcome) for order in orders]
        assert texts != [(ids(draft), draft.finish is Finish.end) for draft in write(writer_of(model), plain)]


# ------------------------------------------------------------------------------------------------ independence


def many_orders() -> list[Order]:
    rules = [Steering(), Steering(SteeringMode.posterior), Steering(SteeringMode.mixture)]
    return [
        order_of(
            seed // 2,
            seed % 2,
            1 + seed % 7,
            sampling=Sampling(temperature=(0.5, 1.0, 0.0)[seed % 3], top_k=(0, 20)[seed % 2]),
            steering=rules[seed % 3],
            num_tokens=5 + 2 * seed,
            begin=(FIRST_WORD,) * (seed % 4),
        )
        for seed in range(32)
    ]


@pytest.mark.parametrize("name", ["tarnet", "t_learner"])
def test_a_text_alone_is_the_text_among_31_others(name: str) -> None:
    model, orders = random_model(name), many_orders()
    together = write(writer_of(model, 32), orders)
    assert len({tuple(ids(draft)) for draft in together}) > 20
    alone = writer_of(model, 1)
    for order, among in zip(orders, together, strict=True):
        (draft,) = write(alone, [order])
        assert outcome_of(draft) == outcome_of(among)
        told, told_among = ([token.log_p for token in each.tokens] for each in (draft, among))
        np.testing.assert_allclose(told, told_among, rtol=0, atol=1e-4)


@pytest.mark.parametrize("num_rows", [1, 2, 5, 31])
def test_more_orders_than_rows_are_written_in_turn(num_rows: int) -> None:
    model, orders = random_model("tarnet"), many_orders()
    expected = [outcome_of(draft) for draft in write(writer_of(model, 32), orders)]
    writer = writer_of(model, num_rows)
    most = 0
    finished: dict[int, Draft] = {}
    for stepped in writer.run(orders):
        most = max(most, num_open(writer))
        finished |= {id(draft.order): draft for draft in stepped if draft.finish is not None}
    assert most <= num_rows
    assert [outcome_of(finished[id(order)]) for order in orders] == expected


def test_texts_that_begin_and_end_at_different_times_do_not_disturb_each_other() -> None:
    """As a server has it: orders come while others are under way, and some are given up."""
    model, orders = random_model("tarnet"), many_orders()
    expected = {
        id(order): outcome_of(draft) for order, draft in zip(orders, write(writer_of(model, 32), orders), strict=True)
    }
    writer = writer_of(model, 6)
    waiting, begun, cancelled = list(orders), [], []
    for step in range(400):
        if waiting and writer.num_free and step % 2 == 0:
            begun += writer.begin([waiting.pop(0) for _ in range(min(2, writer.num_free, len(waiting)))])
        writer.step()
        open_ = [draft for draft in begun if draft.finish is None and draft not in cancelled]
        assert num_open(writer) <= len(open_)
        if step % 10 == 3 and open_:
            cancelled.append(open_[step % len(open_)])
            writer.cancel(cancelled[-1])
    finished = [draft for draft in begun if draft not in cancelled]
    assert len(begun) == 32
    assert len(cancelled) > 3
    assert len(finished) > 15
    assert {id(draft.order): outcome_of(draft) for draft in finished} == {
        id(draft.order): expected[id(draft.order)] for draft in finished
    }
    assert num_open(writer) == 0
    assert writer.num_free == 6


@pytest.mark.parametrize("is_given_up", [False, True])
def test_what_is_begun_in_parts_disturbs_nobody_and_is_what_is_begun_at_once(is_given_up: bool) -> None:
    model = random_model("tarnet")
    begin = tuple(MANY.encode(" ".join(f"w{index % 120}" for index in range(300))))
    long = pair_of(1, begin=begin, num_tokens=320)
    bystanders = [order_of(seed) for seed in (5, 6)]
    expected = [outcome_of(draft) for order in (*long, *bystanders) for draft in write(writer_of(model), [order])]
    writer, begun = writer_of(model), []
    drafts, parts = writer.begin(bystanders), writer.beginning(long)
    for num_parts in range(1, 100):
        try:
            next(parts)
        except StopIteration as end:
            begun = end.value
            break
        assert writer.num_free == 2 - sum(draft.finish is None for draft in drafts)
        writer.step()
        if is_given_up and num_parts == 4:
            parts.close()
            break
    assert num_parts >= 4
    assert len(begun) == (0 if is_given_up else 2)
    while any(draft.finish is None for draft in (*begun, *drafts)):
        writer.step()
    assert [outcome_of(draft) for draft in (*begun, *drafts)] == expected[2 - len(begun) :]
    assert (num_open(writer), writer.num_free) == (0, 4)


def test_the_same_order_twice_is_the_same_text_and_other_noise_another() -> None:
    writer = writer_of(random_model("tarnet"))
    once, again, other = write(writer, [order_of(1), order_of(1), order_of(2)])
    assert outcome_of(once) == outcome_of(again)
    assert ids(once) != ids(other)
    (later,) = write(writer, [order_of(1)])
    assert outcome_of(later) == outcome_of(once)


def test_one_outcome_ignores_which_is_asked_for() -> None:
    zero, one = write(writer_of(random_model("vanilla")), pair_of(0))
    assert outcome_of(zero) == outcome_of(one)


# ------------------------------------------------------------------------------------------------ pairs and their rows


def test_a_coupled_pair_of_equal_heads_is_one_text_in_one_row() -> None:
    writer = writer_of(equal_heads())
    for seed in range(5):
        drafts = writer.begin(pair_of(seed))
        while any(draft.finish is None for draft in drafts):
            assert num_open(writer) == 1
            writer.step()
        assert outcome_of(drafts[0]) == outcome_of(drafts[1])
        assert num_open(writer) == 0


def test_a_coupled_pair_is_one_row_while_it_agrees_and_two_from_then_on() -> None:
    model = random_model("tarnet")
    writer = writer_of(model)
    parted_later = 0
    for seed in range(8):
        zero, one = writer.begin(pair_of(seed))
        while zero.finish is None or one.finish is None:
            still_open = [draft for draft in (zero, one) if draft.finish is None]
            agree = ids(zero) == ids(one)
            assert num_open(writer) == (1 if agree else len(still_open))
            parted_later += agree and len(zero.tokens) > 0
            writer.step()
        assert (ids(zero), zero.finish is Finish.end) == recomputed(model, zero.order)
        assert (ids(one), one.finish is Finish.end) == recomputed(model, one.order)
    assert parted_later > 1


def test_a_coupled_pair_agrees_more_than_an_independent_one() -> None:
    writer = writer_of(random_model("tarnet"), 32)
    coupled = write(writer, [order for seed in range(16) for order in pair_of(seed)])
    apart = write(writer, [replace(order_of(0, k), noise=Noise.of(0, seed, k)) for seed in range(16) for k in (0, 1)])

    def num_equal(drafts: list[Draft]) -> int:
        return sum(ids(drafts[i])[:1] == ids(drafts[i + 1])[:1] for i in range(0, len(drafts), 2))

    assert num_equal(coupled) > num_equal(apart)
    assert all(ids(apart[i]) != ids(apart[i + 1]) for i in range(0, len(apart), 2))


def test_equal_texts_under_different_prompts_never_share_a_row() -> None:
    """The pair of a model that is told the outcome by its prompt: equal noise, equal tokens so far, two prompts."""
    model = random_model("vanilla")
    writer = writer_of(model)
    orders = [order_of(3, outcome, 2 + outcome) for outcome in (0, 1)]
    drafts = writer.begin(orders)
    assert num_open(writer) == 2
    while any(draft.finish is None for draft in drafts):
        writer.step()
    for order, draft in zip(orders, drafts, strict=True):
        assert (ids(draft), draft.finish is Finish.end) == recomputed(model, order)


def test_a_text_goes_on_when_the_one_that_shares_its_row_is_given_up() -> None:
    writer = writer_of(equal_heads())
    (expected,) = write(writer, [order_of(0)])
    for gone in (0, 1):
        drafts = writer.begin(pair_of(0))
        writer.step()
        writer.cancel(drafts[gone])
        writer.cancel(drafts[gone])  # a second time does nothing
        assert num_open(writer) == 1
        assert writer.num_free == 3
        while drafts[1 - gone].finish is None:
            writer.step()
        assert outcome_of(drafts[1 - gone]) == outcome_of(expected)
        assert len(drafts[gone].tokens) == 1
        assert num_open(writer) == 0


def test_a_text_goes_on_when_the_one_that_shares_its_row_has_ended() -> None:
    writer = writer_of(equal_heads())
    (expected,) = write(writer, [order_of(0)])
    short, long = write(writer, [order_of(0, num_tokens=4), order_of(0)])
    assert ids(short) == ids(expected)[:4]
    assert outcome_of(long) == outcome_of(expected)


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_a_run_that_is_left_gives_its_rows_back_and_no_others() -> None:
    writer = writer_of(random_model("tarnet"))
    (bystander,) = writer.begin([order_of(9)])
    run = writer.run([order_of(seed) for seed in range(5)])
    for _ in range(6):
        next(run)
    assert num_open(writer) == 4
    run.close()
    assert (num_open(writer), writer.num_free) == (1, 3)
    while bystander.finish is None:
        writer.step()
    (expected,) = write(writer, [order_of(9)])
    assert outcome_of(bystander) == outcome_of(expected)


def test_a_prompt_that_does_not_fit_begins_nothing_and_ends_a_run() -> None:
    writer = writer_of(random_model("tarnet"), 2)
    long = order_of(0, num_prompt=WINDOW)
    with pytest.raises(RequestError, match=f"has {WINDOW + 2} tokens.*at most {WINDOW - 2}"):
        writer.begin([order_of(0), long])
    assert (num_open(writer), writer.num_free) == (0, 2)
    with pytest.raises(RequestError, match="at most"):
        list(writer.run([order_of(0, num_tokens=3), order_of(1), long]))
    assert (num_open(writer), writer.num_free) == (0, 2)
    assert writer.begin([]) == []
    assert list(writer.run([])) == []
    assert writer.step() == []


class Interrupted(nn.Module):
    """A chain that is interrupted at one of its calls."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.chain, self.calls_left = Chain(2, 10), call

    def forward(self, tokens_BT: Tensor) -> Tensor:
        self.calls_left -= 1
        if self.calls_left == 0:
            raise KeyboardInterrupt
        logits_BTKV: Tensor = self.chain(tokens_BT)
        return logits_BTKV


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_an_interrupted_run_leaves_nothing_behind(call: int) -> None:
    """Whether the model was reading prompts, beginnings or the tokens of texts."""
    writer = Writer(Recomputing(Interrupted(call), 2), Vocabulary(WORDS), 32, 4)
    orders = [Order(PROMPT, seed % 2, Noise.of(seed), 30, begin=(DULL, FINE)[: seed % 3]) for seed in range(6)]
    with pytest.raises(KeyboardInterrupt):
        list(writer.run(orders))
    assert (num_open(writer), writer.num_free) == (0, 4)
    sound = Writer(Recomputing(Chain(2, 10), 2), Vocabulary(WORDS), 32, 4)
    assert [outcome_of(draft) for draft in write(writer, orders)] == [
        outcome_of(draft) for draft in write(sound, orders)
    ]


@pytest.mark.parametrize("call", [1, 2])
def test_texts_whose_beginning_is_interrupted_hold_no_rows(call: int) -> None:
    """Whether the model was reading windows, or those before them of a text that begins with more."""
    writer = Writer(Recomputing(Interrupted(call), 2), Vocabulary(WORDS), 32, 2)
    with pytest.raises(KeyboardInterrupt):
        writer.begin([Order(PROMPT, 0, Noise.of(0), 90, begin=(DULL,) * 40), Order(PROMPT, 1, Noise.of(0), 30)])
    assert (num_open(writer), writer.num_free) == (0, 2)


def test_a_step_that_fails_gives_up_its_texts() -> None:
    """They would go on from a token that the model has not read."""
    writer = Writer(Recomputing(Interrupted(2), 2), Vocabulary(WORDS), 32, 2)
    writer.begin([Order(PROMPT, k, Noise.of(0), 30) for k in (0, 1)])
    with pytest.raises(KeyboardInterrupt):
        writer.step()
    assert (num_open(writer), writer.num_free, writer.step()) == (0, 2, [])


# ------------------------------------------------------------------------------------------------ beginnings and ends


@pytest.mark.parametrize("num_begin", [1, 7, WINDOW, 3 * WINDOW])
def test_a_text_goes_on_behind_what_it_begins_with(num_begin: int) -> None:
    """Begun with the first half of a text that was written with the same noise, it is that text."""
    model = random_model("tarnet")
    writer = writer_of(model)
    whole = next(
        draft
        for seed in range(200)
        for draft in write(writer, [order_of(seed, num_tokens=90)])
        if len(draft.tokens) > num_begin
    )
    order = replace(whole.order, begin=tuple(ids(whole)[:num_begin]))
    begun, again = writer.begin([order, order])
    assert num_open(writer) == 1
    assert ids(begun) == ids(whole)[:num_begin]
    assert begun.text == MANY.decode(ids(begun))
    while begun.finish is None:
        writer.step()
    assert outcome_of(begun) == outcome_of(again) == outcome_of(whole)
    np.testing.assert_allclose(
        [token.log_p for token in begun.tokens], [token.log_p for token in whole.tokens], rtol=0, atol=1e-4
    )
    assert begun.law.llr == pytest.approx(whole.law.llr, abs=1e-3)
    assert begun.clock == whole.clock


def test_equal_prompts_with_different_beginnings_are_different_texts() -> None:
    writer = writer_of(random_model("tarnet"))
    begins = [(), (FIRST_WORD,), (FIRST_WORD, STOP), (FIRST_WORD + 1,)]
    orders = [order_of(0, begin=begin) for begin in begins]
    together = [outcome_of(draft) for draft in write(writer, orders)]
    assert together == [outcome_of(write(writer, [order])[0]) for order in orders]
    assert [tuple(tokens[: len(begin)]) for (tokens, _, _), begin in zip(together, begins, strict=True)] == begins


@pytest.mark.parametrize("num_tokens", [1, 3, 4])
def test_a_beginning_that_is_too_long_is_cut(num_tokens: int) -> None:
    writer = writer_of(random_model("tarnet"))
    words = MANY.encode("w1 w2 . w3")
    drafts = writer.begin([order_of(0, begin=tuple(words), num_tokens=num_tokens)])
    assert outcome_of(drafts[0]) == (words[:num_tokens], MANY.decode(words[:num_tokens]), Finish.length)
    assert (num_open(writer), writer.num_free) == (0, 4)
    assert writer.step() == []


def test_a_beginning_that_holds_its_own_end_is_over_at_once() -> None:
    writer = writer_of(random_model("tarnet"))
    words = tuple(MANY.encode("w1 w2 . w3"))
    orders = [
        order_of(0, begin=(*words, MANY.end_ids[0], *words)),
        order_of(0, begin=words, num_tokens=len(words)),
    ]
    ended, cut = write(writer, orders)
    assert outcome_of(ended) == (list(words), "w1 w2. w3", Finish.end)
    assert outcome_of(cut) == (list(words), "w1 w2. w3", Finish.length)


def test_a_stop_string_ends_a_text_only_where_it_is_written() -> None:
    words = tuple(MANY.encode("w1 w2 . w3"))
    stopped, other = write(
        writer_of(random_model("tarnet")), [order_of(0, begin=words, stop=("w",)), order_of(0, begin=words)]
    )
    assert other.text[len("w1 w2. w3 ")] == "w"
    assert (stopped.text, stopped.finish) == ("w1 w2. w3 ", Finish.stop)


@pytest.mark.parametrize("end", [CLOSE, EOS])
def test_either_end_marker_ends_a_text_and_is_no_part_of_it(end: int) -> None:
    draft = read(WORDS, Script([DULL, FINE, end], 10))
    assert outcome_of(draft) == ([DULL, FINE], "dull fine", Finish.end)


def test_a_text_of_the_length_asked_for_is_cut_even_if_it_would_have_ended() -> None:
    draft = read(WORDS, Script([DULL, FINE, CLOSE], 10), num_tokens=2)
    assert outcome_of(draft) == ([DULL, FINE], "dull fine", Finish.length)


def test_an_empty_text_is_a_text() -> None:
    assert outcome_of(read(WORDS, Script([EOS], 10))) == ([], "", Finish.end)


def test_a_stop_string_ends_a_text_and_is_no_part_of_it() -> None:
    draft = read(WORDS, Script([DULL, FINE, DULL, FINE], 10), stop=("fine dull",))
    assert (draft.text, draft.finish, len(draft.tokens)) == ("dull ", Finish.stop, 3)
    assert [token.text for token in draft.tokens] == ["dull", " ", ""]  # "fine" could begin it


@pytest.mark.parametrize("stop_newline", [False, True])
def test_a_newline_ends_a_text_if_it_is_asked_to(stop_newline: bool) -> None:
    tokenizer = Tokenizer.fit_bytes(["a"], 264, split_words=True)
    tokens = tokenizer.encode("a\nb")
    draft = read(tokenizer, Script([*tokens, tokenizer.end_ids[0]], tokenizer.vocab_size), stop_newline=stop_newline)
    assert (draft.text, draft.finish) == (("a", Finish.stop) if stop_newline else ("a\nb", Finish.end))


def test_half_a_character_is_shown_once_it_is_whole_or_over() -> None:
    tokenizer = Tokenizer.fit_bytes(["a"], 264, split_words=True)
    first, second = tokenizer.encode("é")
    whole = read(tokenizer, Script([first, second, tokenizer.eos_id], tokenizer.vocab_size))
    assert [token.text for token in whole.tokens] == ["", "é"]
    cut = read(tokenizer, Script([first, second], tokenizer.vocab_size), num_tokens=1)
    assert ([token.text for token in cut.tokens], cut.text) == ([""], "\ufffd")


def test_markup_is_never_written() -> None:
    """A law that wants markup only: what is left of it is even."""
    chain = Chain(1, 10)
    chain.logits_VKV.zero_()[..., [token for token in range(8) if token not in WORDS.end_ids]] = 1e4
    writer = Writer(Recomputing(chain, 1), Vocabulary(WORDS), 32, 50)
    drafts = write(writer, [Order(PROMPT, 0, Noise.of(0, index), 30) for index in range(100)])
    assert {token for draft in drafts for token in ids(draft)} == {DULL, FINE}
    assert {draft.finish for draft in drafts} == {Finish.end}


# ------------------------------------------------------------------------------------------------ reference markup

REFERENCE = Tokenizer.fit_reference(["<bos>[REVIEW] a dull [x] film [/REVIEW]<eos>"] * 4, 60, split_words=True)


def reference_text(text: str, *, num_tokens: int = 40, **changes: object) -> Draft:
    tokens = [*REFERENCE.encode(text), REFERENCE.eos_id]
    return read(REFERENCE, Script(tokens, REFERENCE.vocab_size), num_tokens=num_tokens, **changes)


@pytest.mark.parametrize("close", [" [/REVIEW]", " [/REVIEW] film", "[/REVIEW]", ""])
def test_the_references_markers_are_no_part_of_the_text(close: str) -> None:
    draft = reference_text(f" a dull [x] film{close}")
    assert (draft.text, draft.finish) == ("a dull [x] film", Finish.end)
    assert "".join(token.text for token in draft.tokens) == draft.text


def test_the_references_text_begins_behind_the_space() -> None:
    assert reference_text(" a").text == "a"
    assert reference_text("a dull").text == "a dull"
    assert reference_text("  a").text == "a"
    assert reference_text(" [/REVIEW]").text == ""
    assert reference_text(" ", num_tokens=1).text == ""  # held back as a beginning of the marker
    cut = reference_text(" [/RE", num_tokens=len(REFERENCE.encode(" [/RE")))
    assert (cut.text, cut.finish) == ("[/RE", Finish.length)


def test_a_stop_string_of_the_user_beside_the_references_marker() -> None:
    draft = reference_text(" a dull film [/REVIEW]", stop=("film",))
    assert (draft.text, draft.finish) == ("a dull ", Finish.stop)
    draft = reference_text(" a dull film", begin=tuple(REFERENCE.encode(" a [/REVIEW] film")))
    assert (draft.text, draft.finish) == ("a", Finish.end)


# ------------------------------------------------------------------------------------------------ law and windows


def law_of_texts(chain: Chain, outcome: int, temperature: float, num_tokens: int) -> dict[tuple[int, ...], float]:
    """Every (tokens, -1 if it ended before it was cut) with its probability."""
    allowed = [DULL, FINE, CLOSE, EOS]
    logits_VV = chain.logits_VKV[:, outcome].double() / temperature
    step = {last: dict(zip(allowed, logits_VV[last, allowed].softmax(0).tolist(), strict=True)) for last in range(10)}
    law: dict[tuple[int, ...], float] = {}
    for length in range(num_tokens + 1):
        for text in product((DULL, FINE), repeat=length):
            history = [PROMPT[-1], *text]
            reached = float(np.prod([step[last][token] for last, token in zip(history, text, strict=False)]))
            ended = step[history[-1]][CLOSE] + step[history[-1]][EOS]
            if length == num_tokens:
                law[text] = reached
            else:
                law[(*text, -1)] = reached * ended
    return law


def fits(law: dict[tuple[int, ...], float], found: Iterable[tuple[int, ...]]) -> float:
    counts = Counter(found)
    num = sum(counts.values())
    assert set(counts) <= set(law)
    common = [key for key, share in law.items() if share * num >= 5]
    observed, expected = [counts[key] for key in common], [law[key] * num for key in common]
    observed, expected = [*observed, num - sum(observed)], [*expected, num - sum(expected) + 1e-9]
    if expected[-1] < 1:
        observed, expected = observed[:-1], expected[:-1]
    return float(stats.chisquare(observed, np.array(expected) * sum(observed) / sum(expected)).pvalue)


@pytest.mark.parametrize(
    ("num_outcomes", "outcome", "temperature", "events"),
    [(1, 0, 1.0, EventKeys.event), (2, 0, 1.0, EventKeys.position), (2, 1, 0.6, EventKeys.event)],
)
def test_texts_follow_the_law_of_their_outcome(
    num_outcomes: int, outcome: int, temperature: float, events: EventKeys
) -> None:
    chain = Chain(num_outcomes, 10)
    law = law_of_texts(chain, outcome, temperature, num_tokens=3)
    assert sum(law.values()) == pytest.approx(1)
    writer = Writer(Recomputing(chain, num_outcomes), Vocabulary(WORDS), 32, 300)
    sampling = Sampling(temperature=temperature)
    orders = [Order(PROMPT, outcome, Noise.of(5, index), 3, events=events, sampling=sampling) for index in range(4000)]
    drafts = write(writer, orders)
    found = [(*ids(draft), -1) if draft.finish is Finish.end else tuple(ids(draft)) for draft in drafts]
    assert fits(law, found) > 0.001


@pytest.mark.parametrize("temperature", [0.0, 1e-6])
def test_no_temperature_takes_the_likeliest_token(temperature: float) -> None:
    chain = Chain(2, 10, seed=4)
    allowed = [DULL, FINE, CLOSE, EOS]
    last, expected = PROMPT[-1], []
    while len(expected) < 8 and last not in WORDS.end_ids:
        last = allowed[int(chain.logits_VKV[last, 1, allowed].argmax())]
        expected.append(last)
    writer = Writer(Recomputing(chain, 2), Vocabulary(WORDS), 32, 3)
    orders = [Order(PROMPT, 1, Noise.of(seed), 8, sampling=Sampling(temperature=temperature)) for seed in range(3)]
    for draft in write(writer, orders):
        assert ids(draft) == [token for token in expected if token not in WORDS.end_ids]


@pytest.mark.parametrize("window_length", [6, 7, 16, 23])
def test_past_the_window_a_text_goes_on_in_the_contexts_that_evaluation_scores_with(window_length: int) -> None:
    tokenizer = Tokenizer.fit_bytes([" a dull film"] * 3, 275, split_words=True)
    prompt = tokenizer.encode_prompt("x [REVIEW]")
    review = tokenizer.encode(" a dull film" * 9 + "z" * 20)
    script = Script([*review, tokenizer.end_ids[0]], tokenizer.vocab_size)
    draft = read(tokenizer, script, prompt=tuple(prompt), window_length=window_length, num_tokens=100)
    assert ids(draft) == review

    body = [*review, *tokenizer.end_ids]
    samples = Samples(
        tokens_N=np.array([*prompt, *body]),
        offset_R1=np.array([0, len(prompt) + len(body)]),
        prompt_length_R=np.array([len(prompt)]),
        treatment_R=np.array([0]),
        propensity_R=np.array([0.5], np.float32),
    )
    windows = Windows.covering(samples, window_length, tokenizer.pad_id, num_views=2)
    assert len(windows) > 2
    scored = [
        windows.tokens_WL[row, :target].tolist()
        for row in range(len(windows))
        for target in range(max(windows.first_target_W[row], len(prompt)), windows.length_W[row])
    ]
    assert script.seen == scored[:-1]  # <eos> after [/REVIEW] is scored, not written


# ------------------------------------------------------------------------------------------------ what is told


@pytest.mark.parametrize("name", ["vanilla", "tarnet", "t_learner"])
def test_what_is_told_of_tokens_is_what_the_heads_say_before_all_rules(name: str) -> None:
    model = random_model(name)
    writer = writer_of(model)
    steering = Steering() if name == "vanilla" else Steering(SteeringMode.posterior, strength=3)
    sampling = Sampling(temperature=0.8, top_k=30, repetition_penalty=1.2)
    order = order_of(2, begin=tuple(MANY.encode("w5 w6")), num_top=3, steering=steering, sampling=sampling)
    (draft,) = write(writer, [order])
    assert len(draft.tokens) > 5
    laws_TKV = writer.contexts.laws(order.prompt, ids(draft))
    for token, log_p_KV in zip(draft.tokens, laws_TKV, strict=True):
        np.testing.assert_allclose(token.log_p, log_p_KV[:, token.index], atol=1e-4)
        assert len(token.top) == model.num_outcomes
        for top, log_p_V in zip(token.top, log_p_KV, strict=True):
            assert [index for index, _ in top] == np.argsort(-log_p_V)[:3].tolist()
            np.testing.assert_allclose([nats for _, nats in top], np.sort(log_p_V)[::-1][:3], atol=1e-4)
        if model.num_outcomes == 1:
            assert token.divergence is None
        else:
            p, q = np.exp(log_p_KV)
            expected = (stats.entropy(p, (p + q) / 2) + stats.entropy(q, (p + q) / 2)) / 2
            assert token.divergence == pytest.approx(expected, abs=1e-4)
        own_V = log_p_KV[order.outcome if model.num_outcomes == 2 else 0]
        assert token.log_p_own == pytest.approx(own_V[token.index], abs=1e-4)
        assert token.entropy == pytest.approx(stats.entropy(np.exp(own_V)), abs=1e-4)
        assert [index for index, _ in token.top_own] == np.argsort(-own_V)[:3].tolist()
    if model.num_outcomes == 2:
        assert draft.law.llr == pytest.approx(sum(token.log_p[1] - token.log_p[0] for token in draft.tokens))
    assert draft.law.seen == set(ids(draft))
    (silent,) = write(writer, [replace(order, num_top=0)])
    assert {token.top for token in silent.tokens} == {token.top_own for token in silent.tokens} == {()}


def test_of_the_mixture_the_marginal_law_is_told() -> None:
    """Its tokens' log-probabilities sum to the mean likelihood of the text under the two heads."""
    writer = writer_of(random_model("tarnet"))
    order = order_of(1, begin=tuple(MANY.encode("w5 w6")), num_top=2, steering=Steering(SteeringMode.mixture))
    (draft,) = write(writer, [order])
    assert len(draft.tokens) > 5
    log_p_K = np.array([token.log_p for token in draft.tokens]).sum(0)
    log_p = sum(token.log_p_own for token in draft.tokens)
    assert log_p == pytest.approx(np.logaddexp(*log_p_K) - np.log(2))
    for token in draft.tokens:
        assert all(nats >= token.log_p_own or index == token.index for index, nats in token.top_own[:1])


def test_the_entropy_of_a_law_counts_what_may_happen() -> None:
    assert entropy(law_of(0.25, 0.25, 0.25, 0.25)) == pytest.approx(np.log(4))
    assert entropy(law_of(1.0, 0.0)) == 0


def law_of(*shares: float) -> FloatArray:
    with np.errstate(divide="ignore"):
        law: FloatArray = np.log(np.array(shares))
    return law


def test_the_divergence_of_two_laws_lies_between_nothing_and_one_bit() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        log_p_V = np.log(generator.dirichlet(np.full(50, 0.05)).clip(1e-300))
        assert divergence(np.stack([log_p_V, log_p_V])) == pytest.approx(0, abs=1e-15)
        assert divergence(np.stack([log_p_V, log_p_V])) >= 0
    assert divergence(np.stack([law_of(0.5, 0.5, 0, 0), law_of(0, 0, 0.5, 0.5)])) == pytest.approx(np.log(2))
    assert divergence(np.stack([law_of(0.5, 0.5, 0), law_of(0.25, 0.75, 0)])) == pytest.approx(
        (stats.entropy([0.5, 0.5], [0.375, 0.625]) + stats.entropy([0.25, 0.75], [0.375, 0.625])) / 2
    )


def test_of_equally_likely_tokens_the_lowest_are_told() -> None:
    law_V = law_of(0.2, 0.3, 0.2, 0.3)
    assert [index for index, _ in likeliest(law_V, 3)] == [1, 3, 0]
    assert len(likeliest(law_V, 9)) == 4
