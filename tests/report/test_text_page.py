"""The page of written texts, as a browser's parser reads it."""

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_llm.report.text_page import TICKS, render_texts, tint

EVIL = "<script>alert(1)</script>\"'&amp;{{ 7 * 7 }}<!--"


class Page(HTMLParser):
    """Elements of a page, and the text of its columns without what is shown on demand."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tokens: list[dict[str, str | None]] = []
        self.columns: list[str] = []
        self.tips: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        names = (attributes.get("class") or "").split()
        if tag in ("meta", "br", "link", "img"):
            return
        self.open.append(names[0] if names else tag)
        if "token" in names:
            self.tokens.append(attributes)
        if "words" in names:
            self.columns.append("")
        if "tip" in names:
            self.tips.append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "tip" in self.open:
            self.tips[-1] += data
        elif "words" in self.open:
            self.columns[-1] += data
        elif "script" in self.open:
            self.scripts[-1] += data

    @property
    def tints(self) -> list[float]:
        return [float(re.fullmatch(r"--tint:([\d.]+)%", token["style"] or "").group(1)) for token in self.tokens]  # type: ignore[union-attr]

    def classes(self, index: int) -> list[str]:
        return (self.tokens[index]["class"] or "").split()


def token(text: str, divergence: float | None = 0.1, **fields: Any) -> dict[str, Any]:
    return {"text": text, "log_p": [-1.0, -2.0], "divergence": divergence, "top": []} | fields


def text_of(tokens: Sequence[str | dict[str, Any]], outcome: str | None = "y0", **fields: Any) -> dict[str, Any]:
    made = [token(each) if isinstance(each, str) else each for each in tokens]
    text = "".join(each["text"] for each in made)
    plain = {"index": 0, "topic": None, "prompt": "[REVIEW]", "finish": "end", "num_redacted": 0}
    return plain | {"outcome": outcome, "text": text, "tokens": made} | fields


def page_of(*texts: dict[str, Any]) -> Page:
    return Page(render_texts("Texts", {"seed": 0}, texts))


@given(st.lists(st.text(alphabet="ab <>&\"'{}%#\n\t-!;é😀", max_size=6), max_size=8))
def test_every_token_is_visible_text_in_order(tokens: list[str]) -> None:
    page = page_of(text_of(tokens))
    assert page.columns == (["".join(tokens)] if tokens else [])
    assert len(page.tokens) == len(tokens)


def test_long_texts_are_whole() -> None:
    texts = [text_of([f" {outcome}{i}" for i in range(2000)], outcome) for outcome in ("y0", "y1")]
    page = page_of(*texts)
    assert page.columns == [text["text"] for text in texts]
    assert len(page.tokens) == 4000


def test_markup_in_every_field_is_text() -> None:
    hostile = text_of(
        [token(EVIL, top=[[[EVIL, -1.0]], [[EVIL, -1.0]]])], EVIL, topic=EVIL, prompt=EVIL, finish=EVIL
    )  # fmt: skip
    html = render_texts(EVIL, {EVIL: EVIL}, [hostile])
    plain = Page(render_texts("t", {"a": "b"}, [text_of([token("x", top=[[["y", -1.0]]] * 2)], topic="drama")]))
    page = Page(html)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert page.scripts == plain.scripts
    assert page.columns == [EVIL]
    assert page.open == []


def test_nothing_is_fetched_and_only_our_script_may_run() -> None:
    html = render_texts("Texts", {"seed": 0}, [text_of(["a", "b"]), text_of(["a"], "y1")])
    page = Page(html)
    assert not re.search(r"//\w|url\(|@import|javascript:", html)
    assert not [name for _, attributes in page.elements for name in attributes if name in ("src", "href", "action")]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    (script,) = page.scripts
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{known}';" in policy


@given(st.lists(st.floats(0, math.log(2)), min_size=2, max_size=20))
def test_tints_grow_with_the_divergence(divergences: list[float]) -> None:
    tints = page_of(text_of([token("x", each) for each in sorted(divergences)])).tints
    assert tints == sorted(tints)
    assert all(0 <= each <= 100 for each in tints)


def test_tints_end_where_the_scale_ends_and_are_told_apart_between() -> None:
    assert (tint(0.0), tint(math.log(2) / 4), tint(math.log(2)), tint(math.log(2) + 1e-9)) == (
        "0.0", "50.0", "100.0", "100.0",
    )  # fmt: skip
    assert len({tint(i / 100) for i in range(70)}) == 70


def test_the_legend_stands_where_the_tints_do() -> None:
    html = render_texts("Texts", {}, [text_of([token("x", nats) for nats in TICKS])])
    ticks = re.findall(r'<span style="left:([\d.]+)%">([\d.]+)</span>', html)
    assert [float(place) for place, _ in ticks] == Page(html).tints
    assert [float(nats) for _, nats in ticks] == pytest.approx(TICKS, abs=0.005)


def test_texts_of_an_index_stand_side_by_side_y0_first() -> None:
    texts = [
        text_of(["b1"], "y1", index=10), text_of(["a1"], "y1", index=2), text_of(["a0"], "y0", index=2),
        text_of(["b0"], "y0", index=10),
    ]  # fmt: skip
    html = render_texts("Texts", {}, texts)
    assert Page(html).columns == ["a0", "a1", "b0", "b1"]
    assert re.findall(r"<h[23]>(.*?)</h[23]>", html) == [
        "Text 2", "Y0, negative", "Y1, positive", "Text 10", "Y0, negative", "Y1, positive",
    ]  # fmt: skip


@given(*[st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=5)] * 2)
def test_the_common_beginning_is_grey_until_the_first_difference(left: list[str], right: list[str]) -> None:
    page = page_of(text_of(left), text_of(right, "y1"))
    shared = ["shared" in page.classes(index) for index in range(len(left) + len(right))]
    expected = [left[: i + 1] == right[: i + 1] for i in range(len(left))]
    assert shared == expected + [left[: i + 1] == right[: i + 1] for i in range(len(right))]


def test_how_texts_begin_is_also_told_in_words() -> None:
    def told(left: list[str], right: list[str]) -> str:
        return render_texts("Texts", {}, [text_of(left), text_of(right, "y1")])

    assert "begin with the same 2 tokens" in told(["a", "b", "c"], ["a", "b", "d"])
    assert "begin with the same 1 token," in told(["a", "b"], ["a"])
    assert "differ from the first token" in told(["a"], ["b"])
    assert "are the same" in told(["a"], ["a"])
    assert "shared" not in page_of(text_of(["a"])).classes(0)


def test_figures_of_a_token_are_text_that_the_keyboard_reaches() -> None:
    top = [[[" dull", math.log(0.5)], ["\n", math.log(0.25)]], [[" fine", math.log(0.75)]]]
    page = page_of(text_of([token(" dull", 0.1234, log_p=[math.log(0.5), math.log(2e-5)], top=top)]))
    (tip,) = page.tips
    assert " ".join(tip.split()) == (
        "Y0 0.500 Y1 2e-05 divergence 0.1234 nats "
        "likeliest under Y0: ␣dull 0.500, ⏎ 0.250 likeliest under Y1: ␣fine 0.750"
    )
    assert page.tokens[0]["tabindex"] == "0"


def test_impossible_tokens_have_probability_zero() -> None:
    (tip,) = page_of(text_of([token("x", log_p=[-math.inf, None])])).tips
    assert tip.startswith("Y0 0.000 Y1 0.000 ")


def test_one_head_has_no_tint_and_says_so() -> None:
    one = token("x", None, log_p=[math.log(0.5)], top=[[["y", math.log(0.25)]]])
    html = render_texts("Texts", {}, [text_of([one], None)])
    page = Page(html)
    assert page.tokens == [{"class": "token", "tabindex": "0"}]
    assert [" ".join(tip.split()) for tip in page.tips] == ["probability 0.500 likeliest: y 0.250"]
    assert "model with one head" in html
    assert 'class="legend"' not in html
    two = render_texts("Texts", {}, [text_of(["x"])])
    assert "model with one head" not in two
    assert 'class="legend"' in two


def test_redacted_words_are_shown_as_such_without_figures() -> None:
    html = render_texts(
        "Texts", {}, [text_of(["a ", {"text": "[redacted]", "redacted": True}, " b"], num_redacted=1)]
    )  # fmt: skip
    page = Page(html)
    assert page.columns == ["a [redacted] b"]
    assert page.tokens[1] == {"class": "token redacted"}
    assert len(page.tips) == 2
    assert "2 tokens; ended by the model; 1 word redacted; divergence 0.100 nats" in html
    assert "model with one head" not in html


def test_text_after_the_last_token_is_shown_too() -> None:
    assert page_of(text_of(["a", " b"], text="a b \ufffd")).columns == ["a b \ufffd"]


def test_a_token_without_characters_of_its_own_can_be_seen() -> None:
    page = page_of(text_of(["a", "", "é"]))
    assert ["empty" in page.classes(index) for index in range(3)] == [False, True, False]


def test_empty_texts_are_told() -> None:
    html = render_texts("Texts", {}, [text_of([]), text_of(["x"], "y1")])
    assert html.count("(no text)") == 1
    assert "0 tokens; ended by the model" in html
    assert "No texts." in render_texts("Texts", {}, [])


def test_a_prompt_stands_above_all_texts_that_have_it() -> None:
    def prompts(first: str, second: str) -> list[str]:
        html = render_texts("Texts", {}, [text_of(["a"], prompt=first), text_of(["b"], "y1", prompt=second)])
        return re.findall(r'<p class="prompt">(.*?)</p>', html)

    assert prompts("[P]", "[P]") == ["[P]"]
    assert prompts("[N]", "[P]") == ["[N]", "[P]"]


def test_the_largest_divergence_of_a_text_is_told_in_words() -> None:
    html = render_texts("Texts", {}, [text_of([token("a", 0.1), token(" b", 0.4), token("c", 0.1)])])
    assert "3 tokens; ended by the model; divergence 0.200 nats a token, the largest 0.400 at “␣b”" in html
