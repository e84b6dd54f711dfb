import pytest

from nano_llm.errors import RequestError
from nano_llm.serving.key import checked_key


@pytest.mark.parametrize("key", ["abc", " abc", "abc\t", "a b", "clé-Å", "à"])
def test_a_key_has_no_spaces_around_it(key: str) -> None:
    assert checked_key(key) == key.strip(" \t")


@pytest.mark.parametrize("key", ["", " ", "\t "])
def test_a_key_is_not_empty(key: str) -> None:
    with pytest.raises(RequestError, match="NANO_LLM_API_KEY is empty"):
        checked_key(key, "NANO_LLM_API_KEY")


@pytest.mark.parametrize("key", ["abc\n", "\x1babc", "ab\rc", "abc\udcff", "abc\u2028", "abc\xa0"])
def test_a_key_can_be_printed_and_is_not(key: str) -> None:
    with pytest.raises(RequestError, match="A key has a character that cannot be printed") as refused:
        checked_key(key)
    assert "abc" not in str(refused.value)
