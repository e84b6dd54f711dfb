import math

import pytest

from nano_llm.data.tokenizer import Tokenizer
from nano_llm.generation.writer import Finish, Token
from nano_llm.serving.choice import News, Shown
from nano_llm.serving.spelling import Spelling
from nano_llm.serving.told import LEAST, chat_logprobs, completion_logprobs, first_divergence, reason, trace, usage

TOKENIZER = Tokenizer.of_words(["the", "film", "dull"], 100)
SPELLING = Spelling(TOKENIZER, censored=True)
THE, FILM, DULL = TOKENIZER.encode("the film dull")
TOP = ((DULL, -0.5), (FILM, -1.0))


def shown(index: int, text: str, offset: int, *, log_p: float = -2.0, is_redacted: bool = False) -> Shown:
    token = Token(index, text, (log_p, -3.0), 0.25, log_p, 1.5, (TOP, TOP), TOP)
    return Shown(token, text, offset, is_redacted, offset == 0)


TAIL = Shown(None, "\ufffd", 8, False, False)
NEWS = News("the film\ufffd", [shown(THE, "the", 0), shown(FILM, " film", 3), TAIL])


def test_a_completion_tells_its_tokens_and_others_in_their_place() -> None:
    told = completion_logprobs(NEWS, 1, SPELLING)
    assert told.tokens == ["the", " film"]
    assert told.token_logprobs == [-2.0, -2.0]
    assert told.top_logprobs == [{"dull": -0.5, "the": -2.0}, {" dull": -0.5, " film": -2.0}]
    assert told.text_offset == [0, 3]
    assert completion_logprobs(NEWS, 0, SPELLING).top_logprobs == [{"the": -2.0}, {" film": -2.0}]


def test_nothing_is_told_of_prompts_ends_and_redacted_words() -> None:
    news = News("", [shown(DULL, "[redacted]", 4, is_redacted=True)], prompt=[("be", 0)])
    told = completion_logprobs(news, 2, SPELLING, end_offset=14)
    assert told.tokens == ["be", "[redacted]", ""]
    assert told.text_offset == [0, 4, 14]
    assert told.token_logprobs == told.top_logprobs == [None, None, None]
    assert chat_logprobs(news, 2, SPELLING).content == []
    assert trace(news.shown, 2, SPELLING)[0].model_dump(exclude_unset=True) == {"text": "[redacted]", "redacted": True}


def test_a_chat_tells_its_tokens_and_others_in_their_place() -> None:
    first, second = chat_logprobs(NEWS, 1, SPELLING).content
    assert (first.token, first.logprob, first.bytes) == ("the", -2.0, [*b"the"])
    assert (second.token, second.bytes) == (" film", [*b" film"])
    assert [(likely.token, likely.logprob) for likely in second.top_logprobs] == [(" dull", -0.5)]
    assert chat_logprobs(NEWS, 0, SPELLING).content[0].top_logprobs == []


def test_a_trace_tells_what_the_heads_said() -> None:
    first, _, tail = (token.model_dump(exclude_unset=True) for token in trace(NEWS.shown, 1, SPELLING))
    assert first == {
        "text": "the",
        "token_id": THE,
        "logprob": -2.0,
        "p": [math.exp(-2), math.exp(-3)],
        "js": 0.25,
        "entropy": 1.5,
        "top": [[{"text": "dull", "logprob": -0.5}]] * 2,
    }
    assert tail == {"text": "\ufffd"}
    assert "top" not in trace(NEWS.shown, 0, SPELLING)[0].model_dump(exclude_unset=True)


def test_what_is_impossible_has_a_number_too() -> None:
    news = News("the", [shown(THE, "the", 0, log_p=-math.inf)])
    assert completion_logprobs(news, 0, SPELLING).token_logprobs == [LEAST]


@pytest.mark.parametrize(
    ("tokens", "others", "place"), [([], [], None), ([1], [1], None), ([1, 2], [1, 3], 1), ([1], [1, 2], 1)]
)
def test_the_first_divergence_of_texts(tokens: list[int], others: list[int], place: int | None) -> None:
    assert first_divergence(tokens, others) == place


def test_usage_and_reasons() -> None:
    assert usage(3, 4).total_tokens == 7
    assert [reason(finish) for finish in (Finish.end, Finish.stop, Finish.length)] == ["stop", "stop", "length"]
