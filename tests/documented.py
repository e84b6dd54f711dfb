"""Commands as the pages show them: where each stands, why it is not run if it is not, and how it is made short."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Config, ImdbConfig, ScmConfig, Windows

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = {"bash", "sh", "shell", "console"}

SHORT = (
    "scale.d_model=32", "scale.num_layers=2", "scale.num_heads=2", "scale.d_ff=64", "trainer.max_epochs=20",
    "trainer.max_minutes=null", "trainer.max_steps=2", "trainer.eval_every=2", "trainer.eval_reviews=4",
    "trainer.test_reviews=4", "trainer.evaluation=none", "trainer.device=cpu",
)  # fmt: skip
"""What every training gets at its end, so that it takes a second. Labels, and so the names of folders, stay."""
FEW_SAMPLED = ("data.num_train=40", "data.num_validation=12", "data.num_test=12", "data.num_pairs=8")
"""What a training on the structural corpus gets too."""
FEW_JUDGED = ("protocol.validation_reviews=20",)
"""What a training on real reviews under the fair protocol gets too."""


@dataclass(frozen=True)
class Command:
    """A command of a page, or a block of Python."""

    page: str
    line: int
    language: str
    text: str
    why_not_run: str | None = None
    output: tuple[str, ...] = ()
    """The lines that a console shows after it."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}: {self.text.splitlines()[0]}"


def commands(page: Path) -> list[Command]:
    """Return the commands of a page in order; a block of Python is one.

    A block or a command is not run where the source says so: by ``<!-- not run: why -->`` in the line before the
    block, or by ``# not run: why`` at the end of the command.
    """
    found: list[Command] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    why, start = None, 0
    while start < len(lines):
        fence = re.fullmatch(r"\s*```(\w+)\s*", lines[start])
        if fence is None:
            comment = re.fullmatch(r"\s*<!-- not run: (.+) -->\s*", lines[start])
            why = comment[1] if comment else why if not lines[start].strip() else None
            start += 1
            continue
        end = next(row for row in range(start + 1, len(lines)) if lines[row].strip() == "```")
        name = page.relative_to(ROOT).as_posix()
        if fence[1] == "python":
            found.append(Command(name, start + 2, "python", "\n".join(lines[start + 1 : end]), why))
        elif fence[1] == "console":
            found += _dialogue(name, start + 2, lines[start + 1 : end], why)
        elif fence[1] in SHELL:
            found += _script(name, start + 2, lines[start + 1 : end], why)
        why, start = None, end + 1
    return found


def named_commands(page: Path) -> list[Command]:
    """Return the commands that sentences and tables of a page name, which nobody is asked to carry out there."""
    blocks = re.compile(r"^\s*```.*?^\s*```", re.MULTILINE | re.DOTALL)
    without_blocks = blocks.sub(lambda block: "\n" * block[0].count("\n"), page.read_text(encoding="utf-8"))
    name = page.relative_to(ROOT).as_posix()
    found = []
    for span in re.finditer(r"(?<!`)`([^`]+)`(?!`)", without_blocks):
        text = " ".join(span[1].split())
        if text.startswith(("nano-llm ", "python -m nano_llm.run ", "make ")):
            found.append(Command(name, without_blocks.count("\n", 0, span.start()) + 1, "bash", text))
    return found


def _script(page: str, first: int, lines: Sequence[str], why: str | None) -> Iterator[Command]:
    waiting = ""
    for row, line in enumerate(lines, first):
        waiting += line if "# not run:" in line else _without_comment(line)
        if waiting.endswith("\\"):
            waiting = waiting[:-1]
            continue
        text, _, excuse = waiting.partition("# not run:")
        if text.strip():
            yield Command(page, row, "bash", " ".join(text.split()), excuse.strip() or why)
        waiting = ""


def _without_comment(line: str) -> str:
    for found in re.finditer(r"(^|\s)#", line):
        before = line[: found.start()]
        if before.count("'") % 2 == 0 and before.count('"') % 2 == 0:
            return before
    return line


def _dialogue(page: str, first: int, lines: Sequence[str], why: str | None) -> Iterator[Command]:
    starts = [row for row, line in enumerate(lines) if line.startswith("$ ")]
    for row, following in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield Command(page, first + row, "bash", lines[row][2:], why, tuple(lines[row + 1 : following]))


def arguments(command: str) -> list[str] | None:
    """Return what a command gives to ``nano-llm``; None of another program's."""
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "nano_llm.run"]:
        return ["run", *words[3:]]
    return words[1:] if words[:1] == ["nano-llm"] else None


def shortened(given: Sequence[str]) -> list[str]:
    """Return arguments with a small budget, where they train; a sweep over an experiment is only planned."""
    if given[:1] not in (["run"], ["prepare"]) or "--help" in given or "--cfg" in given:
        return list(given)
    if "-m" in given and any(word.startswith("experiment=") for word in given):
        return [*given, "sweep.dry_run=true", "sweep.seeds=1"]
    overrides = first_values(given)
    few = _few(compose_config(overrides), overrides)
    if given[0] == "prepare":
        return [*given, *few]
    return [*given, *SHORT, *few, *(["sweep.seeds=1"] if "-m" in given else [])]


def first_values(given: Sequence[str]) -> list[str]:
    """Return the overrides of a command, with the first value of each that has several."""
    words = given[list(given).index("nano_llm.run") :] if "nano_llm.run" in given else given
    pairs = [word.split("=", 1) for word in words if "=" in word and not word.startswith("-")]
    return [f"{key}={value if value.startswith('[') else value.split(',')[0]}" for key, value in pairs]


def _few(config: Config, overrides: Sequence[str]) -> Sequence[str]:
    if isinstance(config.data, ScmConfig):
        return FEW_SAMPLED
    is_fair = config.protocol.windows is Windows.covering
    says_how_many = any(word.startswith("protocol.validation_reviews=") for word in overrides)
    return FEW_JUDGED if isinstance(config.data, ImdbConfig) and is_fair and not says_how_many else ()
