"""Every command of the README and of docs/ works as it stands, or says in the Markdown why it is not run here."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from documented import PAGES, ROOT, Command, arguments, commands, first_values, named_commands
from nano_llm.cli.main import main
from nano_llm.config.compose import compose_config
from newcomer import Newcomer
from small_imdb import write_reviews

COMMANDS = {page.relative_to(ROOT).as_posix(): commands(page) for page in PAGES}
RUN = {page: [found for found in all_found if not found.why_not_run] for page, all_found in COMMANDS.items()}
EARLIER = (
    "nano-llm run experiment=demo model=vanilla sweep.rows=[]",
    "nano-llm run model=tarnet data=imdb",
    "nano-llm run experiment=demo model=tarnet sweep.rows=[]",
)
"""What readers of a page have done before: `make demo`, but for its size, and a model of the real reviews."""
HOW = "Mend the page, or put `<!-- not run: why -->` in the line before its block, or `# not run: why` behind it."


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("reviews"))


@pytest.fixture(scope="module")
def trained_place(tmp_path_factory: pytest.TempPathFactory, reviews: Path) -> Path:
    place = tmp_path_factory.mktemp("newcomer") / "place"
    place.mkdir()
    newcomer = Newcomer(place, reviews)
    for text in EARLIER:
        assert newcomer.carry_out(Command("before", 0, "bash", text)) is None, newcomer.said()
    return place


@pytest.fixture
def newcomer(trained_place: Path, reviews: Path, tmp_path: Path) -> Iterator[Newcomer]:
    newcomer = Newcomer(shutil.copytree(trained_place, tmp_path / "place"), reviews)
    yield newcomer
    assert newcomer.leave() is None


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, found in RUN.items() if found])
def test_the_commands_of_a_page_work_in_their_order(page: str, newcomer: Newcomer) -> None:
    wrong = [f"{command.place}\n  {told}" for command in RUN[page] if (told := newcomer.carry_out(command))]
    assert not wrong, "\n\n".join([*wrong, HOW])


@pytest.mark.parametrize("page", [page for page in PAGES if named_commands(page)], ids=lambda page: page.name)
def test_commands_that_a_sentence_names_are_there(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in named_commands(page):
        given = arguments(command.text.split(" | ")[0].split(" > ")[0])
        if given is None:
            assert command.text.split()[1] in targets, command.place
        elif given[0] in ("run", "prepare"):
            compose_config(first_values(given))
        elif given[0] != "-sc":
            with pytest.raises(SystemExit, match=r"^0$"):
                main([*given[: 2 if given[0] == "bench" else 1], "--help"])
            options = {word for word in given[1:] if word.startswith("--")}
            assert options <= set(re.findall(r"--[\w-]+", capsys.readouterr().out)), command.place


def test_an_excuse_says_why() -> None:
    excused = [found for all_found in COMMANDS.values() for found in all_found if found.why_not_run is not None]
    assert excused
    assert not [found.place for found in excused if len(found.why_not_run or "") < len("needs a GPU")]


def test_the_newcomers_path_is_run() -> None:
    """The README leads from the demo over a counterfactual to a server; none of it is excused."""
    run = {command.text.split()[1] for command in RUN["README.md"] if command.text.startswith("nano-llm ")}
    assert {"generate", "chat", "counterfactual", "evaluate", "serve", "ask", "run", "status", "report"} <= run


def test_comments_continuations_and_excuses_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\na 'x # y'  # told\nb \\\n  c\nd  # not run: needs a GPU\n```\n\n<!-- not run: it is theirs -->\n"
        "```bash\n#!/bin/bash\ne\n```\n\n```console\n$ f\nError: g\n```\n\n```python\nh = 1\n```\n"
    )
    monkeypatch.setattr("documented.ROOT", tmp_path)
    assert commands(page) == [
        Command("page.md", 2, "bash", "a 'x # y'"),
        Command("page.md", 4, "bash", "b c"),
        Command("page.md", 5, "bash", "d", "needs a GPU"),
        Command("page.md", 11, "bash", "e", "it is theirs"),
        Command("page.md", 15, "bash", "f", None, ("Error: g",)),
        Command("page.md", 20, "python", "h = 1"),
    ]


def test_every_page_is_named_in_the_readme_and_every_link_leads_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [page for page in COMMANDS if page.startswith("docs/") and f"({page})" not in readme]
    for page in PAGES:
        for target, anchor in re.findall(
            r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text(encoding="utf-8")
        ):
            place = (page.parent / target) if target else page
            assert place.exists(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in anchors(place), f"{page.name} links to {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250
