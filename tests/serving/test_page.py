"""The page in a headless browser, against the real server and an untrained model.

The browser is Chromium: `NANO_LLM_CHROMIUM`, or /usr/bin/chromium. Without one, only its source is tested.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect, sync_playwright

from nano_llm.generation.author import Author
from nano_llm.generation.request import Request
from nano_llm.serving.engine import Engine
from nano_llm.serving.limits import Limits
from serving.authors import Gate, gated, open_author
from serving.servers import listening, open_byte_author, served

CHROMIUM = os.environ.get("NANO_LLM_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 30.0
HOSTILE = "<script>window.executed = 1</script><img src=x onerror='window.executed = 1'>"

needs_browser = pytest.mark.skipif(
    not Path(CHROMIUM).exists(),
    reason=f"There is no Chromium at {CHROMIUM}: install one (apt-get install chromium, or playwright install "
    "chromium), and name it in NANO_LLM_CHROMIUM.",
)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    url: str
    author: Author
    engine: Engine


@contextmanager
def serving(author: Author, keys: tuple[str, ...] = ()) -> Iterator[Server]:
    with served(author, limits=Limits()) as service, listening(service, keys=keys) as url:
        yield Server(f"{url}/", author, service.engine)


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(open_author("model=tarnet")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=1000 * SECONDS)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def open_tab(browser: Browser, **context: Any) -> Iterator[Page]:
    """Open a tab. No script of its pages may fail, no policy be violated, and no other site be called."""
    wrong: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        is_refusal = message.text.startswith("Failed to load resource") and "/v1/" in message.location["url"]
        if message.type in ("error", "warning") and not is_refusal:
            wrong.append(message.text)

    with browser.new_context(**context) as opened:
        tab = opened.new_page()
        tab.set_default_timeout(1000 * SECONDS)
        urls: list[str] = []
        tab.on("console", hear)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: urls.append(request.url))
        yield tab
        assert wrong == []
        assert {urlsplit(url).netloc for url in urls} == {urlsplit(tab.url).netloc}


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Page]:
    with open_tab(browser) as opened:
        yield opened


def visit(tab: Page, server: Server, **settings: object) -> None:
    fragment = "&".join([f"{name}={value}" for name, value in settings.items()])
    tab.goto("about:blank")  # another fragment alone opens no page anew
    tab.goto(f"{server.url}#{fragment}")
    expect(tab.locator("#ask")).to_be_visible()


def write(tab: Page) -> dict[str, Any]:
    """Press the button and wait for the texts; returns what was asked for."""
    with tab.expect_request("**/v1/counterfactual") as asked:
        tab.get_by_role("button", name="Write").click()
    finish(tab)
    body: dict[str, Any] = asked.value.post_data_json
    return body


def finish(tab: Page) -> None:
    expect(tab.locator("#status:text('Done'), #alert:visible")).to_be_visible()
    expect(tab.locator("#alert")).to_be_hidden()


def words(tab: Page, outcome: int) -> Locator:
    return tab.locator(f"#columns [data-outcome='{outcome}'] .words")


@needs_browser
def test_both_outcomes_are_written_side_by_side(tab: Page, server: Server) -> None:
    visit(tab, server, seed=3, max_tokens=30)
    expect(tab.locator("#facts")).to_contain_text("tiny")
    asked = write(tab)
    assert asked == {"seed": 3, "temperature": 1, "top": 5, "max_tokens": 30, "pair": "coupled"}
    commissions = server.author.commissions(Request(seed=3, num_tokens=30))
    drafts = server.author.write(commissions)
    for outcome, draft in enumerate(drafts):
        expect(words(tab, outcome)).to_have_text(draft.text)
        assert words(tab, outcome).locator(".token").count() == len([token for token in draft.tokens if token.text])
    expect(tab.locator(".ribbon i").first).to_be_attached()


@needs_browser
def test_tokens_are_tinted_by_divergence_and_tell_their_figures(tab: Page, server: Server) -> None:
    visit(tab, server, seed=3, max_tokens=30)
    write(tab)
    tints = (
        words(tab, 0)
        .locator(".token")
        .evaluate_all("spans => spans.map(span => parseFloat(span.style.getPropertyValue('--tint')))")
    )
    assert 0 < max(tints) <= 100
    most = words(tab, 0).locator(".token").nth(tints.index(max(tints)))
    most.hover()
    panel = tab.get_by_role("tooltip")
    expect(panel).to_contain_text("divergence")
    expect(panel).to_contain_text("Y0 negative")
    expect(panel).to_contain_text("Y1 positive")
    expect(panel.locator("li")).to_have_count(10)


@needs_browser
def test_what_the_texts_begin_with_alike_is_grey(tab: Page, server: Server) -> None:
    seed, num_shared = next(
        (seed, num_shared) for seed in range(100) if 0 < (num_shared := _num_shared(server.author, seed)) < 20
    )
    visit(tab, server, seed=seed, max_tokens=20)
    write(tab)
    for outcome in (0, 1):
        expect(words(tab, outcome).locator(".shared")).to_have_count(num_shared)
    expect(tab.get_by_role("status")).to_contain_text(f"part at token {num_shared + 1}")


def _num_shared(author: Author, seed: int) -> int:
    a, b = author.write(author.commissions(Request(seed=seed, num_tokens=20)))
    pairs = zip(a.tokens, b.tokens, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one.index != other.index), 20)


@contextmanager
def held(server: Server) -> Iterator[Gate]:
    until(lambda: server.engine.num_running == 0)
    with gated(server.author) as gate:
        yield gate


@needs_browser
@pytest.mark.parametrize("how", ["button", "key"])
def test_stop_ends_the_request(tab: Page, server: Server, how: str) -> None:
    visit(tab, server, seed=3, max_tokens=1000)
    with held(server) as gate:
        gate.let(5)
        tab.get_by_role("button", name="Write").click()
        expect(words(tab, 0).locator(".token").first).to_be_attached()
        if how == "button":
            tab.get_by_role("button", name="Stop").click()
        else:
            tab.keyboard.press("Escape")
        expect(tab.get_by_role("status")).to_have_text("Stopped.")
        expect(tab.locator("#columns .notes").first).to_have_text("stopped before its end")
        expect(tab.get_by_role("button", name="Stop")).to_be_disabled()
    until(lambda: server.engine.num_running == 0)
    assert words(tab, 0).locator(".token").count() <= 5


@needs_browser
def test_writing_again_takes_the_place_of_what_is_being_written(tab: Page, server: Server) -> None:
    visit(tab, server, seed=3, max_tokens=1000)
    with held(server) as gate:
        gate.let(5)
        tab.get_by_role("button", name="Write").click()
        expect(words(tab, 0).locator(".token").first).to_be_attached()
        tab.get_by_label("Most tokens").fill("8")
        tab.get_by_role("button", name="Write").click()
    finish(tab)
    until(lambda: server.engine.num_running == 0)
    drafts = server.author.write(server.author.commissions(Request(seed=3, num_tokens=8)))
    for outcome, draft in enumerate(drafts):
        assert 0 < len(draft.tokens) <= 8
        expect(words(tab, outcome)).to_have_text(draft.text)


@needs_browser
def test_settings_change_what_is_asked_for(tab: Page, server: Server) -> None:
    visit(tab, server, seed=3, max_tokens=4)
    assert "steer" not in write(tab)
    expect(tab.get_by_label("Strength")).to_be_hidden()
    tab.get_by_label("Steering").select_option("cfg")
    assert write(tab)["steer"] == {"mode": "cfg", "strength": 1.5}
    tab.get_by_label("Strength").fill("2.5")
    tab.get_by_label("Temperature").fill("0.5")
    tab.get_by_label("Noise", exact=True).select_option("independent")
    tab.get_by_label("Both reviews begin with").fill("the plot")
    asked = write(tab)
    assert asked["steer"] == {"mode": "cfg", "strength": 2.5}
    assert (asked["temperature"], asked["pair"], asked["begin"]) == (0.5, "independent", "the plot")


@needs_browser
def test_a_topic_is_chosen_unless_the_prompt_names_it(browser: Browser) -> None:
    with serving(open_byte_author("model=tarnet", "data.topic=observed")) as server, open_tab(browser) as tab:
        visit(tab, server, seed=3, max_tokens=4)
        assert write(tab)["topic"] == server.author.topics[0]
        tab.get_by_label("Topic").select_option("horror")
        expect(tab.get_by_label("Prompt")).to_have_attribute("placeholder", re.compile("about horror"))
        assert write(tab)["topic"] == "horror"
        tab.get_by_label("Prompt").fill("A review of a film:")
        expect(tab.get_by_label("Topic")).to_be_disabled()
        asked = write(tab)
        assert asked["prompt"] == "A review of a film:"
        assert "topic" not in asked
        tab.get_by_label("Prompt").fill("")
        expect(tab.get_by_label("Prompt")).to_have_attribute("placeholder", re.compile("about horror"))


@needs_browser
def test_a_seed_is_drawn_each_time_unless_it_is_locked(tab: Page, server: Server) -> None:
    visit(tab, server, max_tokens=4)
    assert write(tab)["seed"] != write(tab)["seed"]
    tab.get_by_role("button", name="Keep this seed").click()
    assert write(tab)["seed"] == write(tab)["seed"]
    before = tab.get_by_label("Seed", exact=True).input_value()
    tab.reload()
    expect(tab.get_by_role("button", name="Keep this seed")).to_have_attribute("aria-pressed", "true")
    expect(tab.get_by_label("Seed", exact=True)).to_have_value(before)
    tab.get_by_role("button", name="Draw another seed").click()
    expect(tab.get_by_label("Seed", exact=True)).not_to_have_value(before)


@needs_browser
def test_a_page_that_is_loaded_again_locks_no_seed_of_its_own(browser: Browser, server: Server) -> None:
    with open_tab(browser, permissions=["clipboard-read", "clipboard-write"]) as tab:
        visit(tab, server, max_tokens=4)
        seed = write(tab)["seed"]
        assert parse_qs(urlsplit(_copy(tab, "Copy link")).fragment)["seed"] == [str(seed)]
        tab.reload()
        expect(tab.locator("#ask")).to_be_visible()
        expect(tab.get_by_role("button", name="Keep this seed")).to_have_attribute("aria-pressed", "false")
        expect(tab.get_by_label("Most tokens")).to_have_value("4")


@needs_browser
def test_the_counterfactual_of_a_review_is_written_and_compared(tab: Page, server: Server) -> None:
    review = server.author.write(server.author.commissions(Request(seed=5, num_tokens=20)))[0].text
    visit(tab, server, mode="review", seed=1)
    tab.get_by_label("Review", exact=True).fill(review)
    asked = write(tab)
    assert (asked["text"], asked["label"], asked["similarity"]) == (review, "neg", 1)
    expect(words(tab, 0)).to_have_text(review)
    counterfactual = words(tab, 1).inner_text()
    parts = tab.locator("#changes-words > *")
    changes = parts.evaluate_all("parts => parts.map(part => [part.tagName, part.textContent])")
    assert "".join([text for tag, text in changes if tag != "INS"]) == review
    assert "".join([text for tag, text in changes if tag != "DEL"]) == counterfactual
    tab.get_by_label("positive").check()
    assert write(tab)["label"] == "pos"


@needs_browser
def test_markup_in_a_review_is_text(browser: Browser) -> None:
    with serving(open_byte_author("model=tarnet")) as server, open_tab(browser) as tab:
        visit(tab, server, mode="review", seed=1, max_tokens=8)
        tab.get_by_label("Review", exact=True).fill(f"the plot {HOSTILE} <b onclick=alert(1)>is</b> 1 < 2")
        write(tab)
        expect(words(tab, 0)).to_have_text("the plot window.executed = 1 is 1 < 2")  # what models read of it
        expect_unharmed(tab)


@needs_browser
def test_markup_in_an_error_is_text(tab: Page, server: Server) -> None:
    visit(tab, server, seed=1)
    tab.get_by_label("Both reviews begin with").fill(HOSTILE)
    tab.get_by_role("button", name="Write").click()
    expect(tab.get_by_role("alert")).to_contain_text("<")
    expect_unharmed(tab)


@needs_browser
def test_markup_of_a_model_is_text(tab: Page, server: Server) -> None:
    top = [[{"text": HOSTILE, "logprob": -1.0}]] * 2
    token = {"text": HOSTILE, "token_id": 1, "logprob": -1.0, "p": [0.5, 0.5], "js": 0.1, "entropy": 1.0, "top": top}
    ends = [{"finish_reason": HOSTILE, "num_tokens": 1, "num_redacted": 0}]
    events = {
        "start": {
            "id": "1",
            "columns": [{"outcome": 1, "prompt": HOSTILE}],
            "source": {"text": HOSTILE, "label": "neg"},
        },
        "step": {"columns": [[token]]},
        "end": {"columns": ends, "first_divergence": None, "changes": [{"kind": "added", "text": HOSTILE}]},
    }
    stream = "".join([f"event: {name}\r\ndata: {json.dumps(event)}\r\n\r\n" for name, event in events.items()])

    def answer(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body=f": ping\n\n{stream}")

    visit(tab, server, mode="review", seed=1)
    tab.route("**/v1/counterfactual", answer)
    write(tab)
    words(tab, 1).locator(".token").focus()
    for shown in (words(tab, 0), words(tab, 1), tab.locator("#changes-words"), tab.locator("#shown-prompt")):
        expect(shown).to_have_text(HOSTILE)
    expect(tab.get_by_role("tooltip")).to_contain_text("<script>")
    expect(tab.locator("#changes-words ins")).to_have_count(1)
    expect_unharmed(tab)


def expect_unharmed(tab: Page) -> None:
    assert tab.evaluate("() => window.executed") is None
    assert tab.locator("main img, main script, #panel img").count() == 0


@needs_browser
def test_an_error_is_told_and_its_field_marked(tab: Page, server: Server) -> None:
    visit(tab, server, seed=1, max_tokens=100000)
    tab.get_by_role("button", name="Write").click()
    expect(tab.get_by_role("alert")).to_contain_text("max_tokens")
    assert tab.get_by_label("Most tokens").get_attribute("aria-invalid") == "true"
    tab.get_by_label("Most tokens").fill("4")
    write(tab)
    expect(tab.locator("#alert")).to_be_hidden()


@needs_browser
@pytest.mark.parametrize("broken", ['event: error\ndata: {"error": {"message": "The model failed."}}\n\n', ""])
def test_a_stream_that_breaks_off_is_an_error(tab: Page, server: Server, broken: str) -> None:
    visit(tab, server, seed=1)
    tab.route("**/v1/counterfactual", lambda route: route.fulfill(content_type="text/event-stream", body=broken))
    tab.get_by_role("button", name="Write").click()
    expect(tab.get_by_role("alert")).to_contain_text("The model failed." if broken else "ended before")


@needs_browser
def test_an_error_of_the_page_itself_is_told(browser: Browser, server: Server) -> None:
    with browser.new_context() as context:
        tab = context.new_page()
        visit(tab, server, seed=1)
        broken = "event: start\ndata: {}\n\n"
        tab.route("**/v1/counterfactual", lambda route: route.fulfill(content_type="text/event-stream", body=broken))
        tab.get_by_role("button", name="Write").click()
        expect(tab.get_by_role("alert")).to_contain_text("went wrong in this page")
        expect(tab.get_by_role("status")).to_have_text("")
        expect(tab.get_by_role("button", name="Stop")).to_be_disabled()


@needs_browser
def test_separators_of_lines_are_text(browser: Browser) -> None:
    with serving(open_byte_author("model=tarnet")) as server, open_tab(browser) as tab:
        visit(tab, server, seed=1, max_tokens=4)
        tab.get_by_label("Prompt").fill("a\u2028b: c\u2029d")
        write(tab)
        assert tab.locator("#shown-prompt").text_content() == "a\u2028b: c\u2029d [REVIEW]"


EVENTS = {
    "start": {"id": "1", "columns": [{"outcome": outcome, "prompt": "p"} for outcome in (0, 1)], "source": None},
    "end": {
        "columns": [{"finish_reason": "stop", "num_tokens": 2, "num_redacted": 1}] * 2,
        "first_divergence": 1,
        "changes": None,
    },
}


def spelled(**events: object) -> str:
    return "".join([f"event: {name}\ndata: {json.dumps(event)}\n\n" for name, event in events.items()])


@needs_browser
def test_a_word_that_is_redacted_in_both_texts_is_not_told_to_be_the_same(tab: Page, server: Server) -> None:
    tokens = [{"text": "the", "token_id": 1, "p": [0.5, 0.5], "js": 0.1}, {"text": " [redacted]", "redacted": True}]
    body = spelled(start=EVENTS["start"], step={"columns": [tokens, tokens]}, end=EVENTS["end"])
    visit(tab, server, seed=1)
    tab.route("**/v1/counterfactual", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    write(tab)
    for outcome in (0, 1):
        expect(words(tab, outcome).locator(".shared")).to_have_text(["the"])


@needs_browser
def test_stop_behind_the_end_changes_nothing(tab: Page, server: Server) -> None:
    visit(tab, server, seed=1)
    tab.evaluate(
        """text => {
          window.fetch = async (_, { signal }) => new Response(new ReadableStream({
            start(controller) {
              controller.enqueue(new TextEncoder().encode(text));
              signal.addEventListener('abort', () => controller.error(signal.reason));
            },
          }));
        }""",
        spelled(**EVENTS),
    )
    tab.get_by_role("button", name="Write").click()
    expect(tab.get_by_role("status")).to_contain_text("Done")
    tab.get_by_role("button", name="Stop").click()
    expect(tab.get_by_role("button", name="Stop")).to_be_disabled()
    expect(tab.get_by_role("status")).to_contain_text("Done")


@needs_browser
def test_a_link_restores_the_settings_and_writes_nothing_by_itself(tab: Page, server: Server) -> None:
    settings = {"steer": "posterior", "strength": "7.5", "temperature": "0.7", "pair": "independent", "seed": "17"}
    methods: list[str] = []
    tab.on("request", lambda request: methods.append(request.method))
    visit(tab, server, **settings, max_tokens=12, begin="the%20plot")
    assert "POST" not in methods
    body = write(tab)
    assert body["steer"] == {"mode": "posterior", "strength": 7.5}
    assert (body["seed"], body["begin"]) == (17, "the plot")
    shown = [words(tab, outcome).inner_text() for outcome in (0, 1)]
    link = parse_qs(urlsplit(tab.url).fragment)
    assert {name: values[0] for name, values in link.items()} == {**settings, "max_tokens": "12", "begin": "the plot"}

    tab.goto("about:blank")
    tab.go_back()
    expect(tab.locator("#ask")).to_be_visible()
    assert write(tab) == body
    assert [words(tab, outcome).inner_text() for outcome in (0, 1)] == shown


@needs_browser
def test_a_wrong_link_leaves_the_defaults(tab: Page, server: Server) -> None:
    tab.goto(f"{server.url}#mode=review&similarity=0.3")
    expect(tab.get_by_label("Counterfactual of a review")).to_be_checked()
    wrong = {"steer": "zebra", "strength": "many", "temperature": "-5", "mode": "zebra", "similarity": "zebra"}
    fragment = "&".join([f"{name}={value}" for name, value in wrong.items()])
    tab.evaluate("fragment => { location.hash = fragment; }", f"{fragment}&length=3&max_tokens=4")
    expect(tab.get_by_label("Both outcomes")).to_be_checked()
    expect(tab.locator("#similarity")).to_have_value("1")
    body = write(tab)
    assert "steer" not in body
    assert body["temperature"] == 0
    assert body["pair"] == "coupled"


@needs_browser
def test_the_keyboard_is_enough(tab: Page, server: Server) -> None:
    visit(tab, server, seed=3, max_tokens=20)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.method))
    for label in ("Both reviews begin with", "Most tokens"):
        tab.get_by_label(label).focus()
        tab.keyboard.press("Control+Enter")
        finish(tab)
    assert asked.count("POST") == 2
    tab.locator("summary").focus()
    tab.keyboard.press("Tab")
    tokens = words(tab, 0).locator(".token")
    expect(tokens.nth(0)).to_be_focused()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    expect(tokens.nth(2)).to_be_focused()
    expect(tab.get_by_role("tooltip")).to_be_visible()
    tab.keyboard.press("Tab")
    expect(words(tab, 1).locator(".token").nth(0)).to_be_focused()
    tab.keyboard.press("Shift+Tab")
    expect(tokens.nth(2)).to_be_focused()
    tab.keyboard.press("End")
    expect(tokens.last).to_be_focused()
    tab.keyboard.press("Escape")
    expect(tab.locator("#panel")).to_be_hidden()


@needs_browser
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_window(browser: Browser, server: Server, width: int) -> None:
    with open_tab(browser, viewport={"width": width, "height": 844}, has_touch=True) as tab:
        visit(tab, server, seed=3, max_tokens=40, steer="contrast")
        for mode in ("pair", "review"):
            tab.locator(f"[name=mode][value={mode}]").check(force=True)
            tab.get_by_label("Review", exact=True).fill("the plot") if mode == "review" else None
            write(tab)
            tab.locator(".token[data-place]").last.tap()
            expect(tab.get_by_role("tooltip")).to_be_visible()
            assert tab.evaluate("() => document.documentElement.scrollWidth - window.innerWidth") <= 0


@needs_browser
def test_a_key_is_asked_for_and_kept_in_the_tab(browser: Browser) -> None:
    with serving(open_author("model=tarnet"), keys=("sésame, öffne dich",)) as server, open_tab(browser) as tab:
        tab.goto(server.url)
        tab.get_by_label("API key").fill("open")
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("alert")).to_be_visible()
        tab.get_by_label("API key").fill(" sésame, öffne dich ")
        tab.keyboard.press("Enter")
        expect(tab.locator("#ask")).to_be_visible()
        tab.get_by_label("Most tokens").fill("4")
        write(tab)
        assert tab.evaluate("() => Object.values(sessionStorage)") == ["sésame, öffne dich"]
        assert tab.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]
        assert "same" not in tab.url


@needs_browser
def test_a_result_can_be_copied(browser: Browser, server: Server) -> None:
    with open_tab(browser, permissions=["clipboard-read", "clipboard-write"]) as tab:
        visit(tab, server, seed=3, max_tokens=10)
        write(tab)
        copied = [_copy(tab, button) for button in ("Copy link", "Copy as curl", "Copy as JSON")]
        assert copied[0] == tab.url
        assert copied[1].startswith(f"curl -N '{server.url}v1/counterfactual'")
        told = json.loads(copied[2])
        assert told["request"]["seed"] == 3
        for column in told["columns"]:
            assert column["text"] == words(tab, column["outcome"]).inner_text()
            assert "".join([token["text"] for token in column["tokens"]]) == column["text"]


def _copy(tab: Page, button: str) -> str:
    tab.evaluate("() => navigator.clipboard.writeText('')")
    tab.get_by_role("button", name=button).click()
    expect(tab.get_by_role("status")).to_have_text("Copied.")
    text: str = tab.evaluate("() => navigator.clipboard.readText()")
    tab.evaluate("() => { document.getElementById('status').textContent = ''; }")
    return text


@needs_browser
def test_a_model_with_one_head_writes_counterfactuals_alone(browser: Browser) -> None:
    with serving(open_author("model=vanilla")) as server, open_tab(browser) as tab:
        visit(tab, server, seed=3)
        expect(tab.get_by_label("Counterfactual of a review")).to_be_checked()
        tab.get_by_label("Review", exact=True).fill("the plot")
        write(tab)
        expect(tab.locator("#legend")).to_be_hidden()
        tab.locator("[name=mode][value=pair]").check(force=True)
        expect(tab.locator("#unsupported")).to_contain_text("one head")
        expect(tab.get_by_role("button", name="Write")).to_be_disabled()


@needs_browser
def test_a_link_of_another_model_is_fit_to_one_head(browser: Browser) -> None:
    with serving(open_author("model=vanilla")) as server, open_tab(browser) as tab:
        visit(tab, server, seed=3, steer="posterior", strength=2, text="the%20plot", mode="review")
        assert "steer" not in write(tab)
        link = parse_qs(urlsplit(tab.url).fragment)
        assert link == {"seed": ["3"], "text": ["the plot"], "mode": ["review"]}


@needs_browser
def test_a_seed_that_would_be_rounded_is_refused(tab: Page, server: Server) -> None:
    methods: list[str] = []
    tab.on("request", lambda request: methods.append(request.method))
    visit(tab, server, seed=9007199254740993)
    tab.get_by_role("button", name="Write").click()
    expect(tab.get_by_role("alert")).to_contain_text("Seed: give a whole number from 0 to 9007199254740991.")
    expect(tab.locator("#seed")).to_have_attribute("aria-invalid", "true")
    assert "POST" not in methods


@needs_browser
def test_another_mode_hides_the_texts(tab: Page, server: Server) -> None:
    visit(tab, server, seed=1, max_tokens=4)
    write(tab)
    for mode, is_shown in (("review", False), ("pair", True)):
        tab.locator(f"[name=mode][value={mode}]").check(force=True)
        expect(tab.locator("#result")).to_be_visible(visible=is_shown)


@needs_browser
def test_facts_are_those_of_the_model_that_answers(tab: Page, server: Server) -> None:
    visit(tab, server, seed=1, begin="the%20plot", max_tokens=4)
    with urlopen(f"{server.url}v1/models") as answer:
        models = json.load(answer)
    models["data"][0]["id"] = "another"
    tab.route("**/v1/models", lambda route: route.fulfill(json=models))
    body = spelled(start=EVENTS["start"] | {"model": "another"}, end=EVENTS["end"])
    tab.route("**/v1/counterfactual", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    write(tab)
    expect(tab.locator("#facts")).to_contain_text("another")
    expect(tab.locator("#begin")).to_have_value("the plot")


@needs_browser
def test_a_model_without_outcomes_says_so(browser: Browser) -> None:
    with serving(open_author("model=vanilla", "data.conditioning=command")) as server, open_tab(browser) as tab:
        visit(tab, server)
        expect(tab.locator("#unsupported")).to_contain_text("no outcomes")
        expect(tab.get_by_role("button", name="Write")).to_be_disabled()


PAGE = {path.name: path.read_text(encoding="utf-8") for path in Path(str(files("nano_llm.serving") / "page")).iterdir()}
SCRIPTS = "".join([text for name, text in PAGE.items() if name.endswith(".js")])


class Markup(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(PAGE["index.html"])

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


def test_scripts_never_read_text_as_markup_or_code() -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML"
    assert re.findall(rf"{markup}|\beval\b|new Function", SCRIPTS) == []


def test_the_page_needs_no_other_site() -> None:
    for name, text in PAGE.items():
        foreign = re.findall(r"(?:https?:|['\"(])//[^\s'\"]*", text)
        assert [link for link in foreign if link != "http://www.w3.org/2000/svg"] == [], name
    assert "url(" not in PAGE["page.css"]
    assert "@import" not in PAGE["page.css"]


def test_markup_holds_neither_script_nor_style() -> None:
    for tag, attributes in Markup().tags:
        assert tag != "style"
        assert tag != "script" or "src" in attributes
        assert [name for name in attributes if name == "style" or name.startswith("on")] == []


def test_what_the_page_names_is_there() -> None:
    markup = Markup()
    ids = markup.values("id")
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"\bat\('([\w-]+)'\)", SCRIPTS)) <= set(ids)
    linked = {link.removeprefix("static/") for name in ("src", "href") for link in markup.values(name)}
    imported = set(re.findall(r"from '\./(\w+\.js)'", SCRIPTS))
    assert linked | imported | {"index.html"} == set(PAGE)


def test_every_control_has_a_label() -> None:
    markup = Markup()
    for tag, attributes in markup.tags:
        if tag in ("input", "select", "textarea") and attributes.get("type") != "radio":
            assert attributes["id"] in markup.values("for")


def test_every_file_is_served_under_a_strict_policy(server: Server) -> None:
    for name, text in PAGE.items():
        with urlopen(server.url if name == "index.html" else f"{server.url}static/{name}") as answer:
            assert answer.read().decode() == text
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
