"""Somebody at a shell who types what the pages show, in a folder and a home of their own."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from multiprocessing.process import BaseProcess
from pathlib import Path

from documented import Command, arguments, shortened
from leavings import NO_CHECKOUT
from loaded_forks import FORKS, settle
from nano_llm.errors import ConfigError

HARMLESS = {"echo", "printf", "mkdir", "cat", "head", "ls", "for", "curl"}
"""Other programs that pages may use; `pip`, `docker`, `make` and the like are marked, and not run."""
PORT = "127.0.0.1:18080"
"""Where pages have their server; here it gets a port that is free."""
TYPED = "+\nb\n?\nq\n"
"""What is typed into a chat."""
OF_READERS = ("NANO_LLM_", "WANDB_", "HF_", "HUGGING_FACE_")
"""Beginnings of variables that are not passed on: places, and keys with which a test would upload something."""
FILES = {
    "prompt.txt": "the lead is",
    "request.json": json.dumps({"prompt": "the lead is", "max_tokens": 4}),
    "review.json": json.dumps({"text": "the lead is dull.", "label": "neg", "topic": "drama", "max_tokens": 8}),
}
"""What pages name and readers have of their own."""

_SECONDS = 600


class Newcomer:
    """A reader in a folder that has runs already.

    Args:
        place: The folder; its runs lie in ``outputs``.
        reviews: What stands for the real reviews, and for counterfactual pairs.
    """

    def __init__(self, place: Path, reviews: Path) -> None:
        self._place, self._reviews = place, reviews
        self._log = place.with_name(f"{place.name}.log")
        self._server: BaseProcess | None = None
        self._address = PORT
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(OF_READERS)}
        self._environment |= {
            **NO_CHECKOUT,
            "HOME": str(place / "home"),
            "NANO_LLM_CACHE": str(place / "cache"),
            "NANO_LLM_IMDB": str(reviews),
            "HF_HUB_OFFLINE": "1",
        }
        (place / "home").mkdir(exist_ok=True)
        for name, content in FILES.items():
            (place / name).write_text(content, encoding="utf-8")

    def carry_out(self, command: Command) -> str | None:
        """Carry out a command; return what is wrong with it, or None."""
        self._log.write_text("")
        text = self._filled_in(command.text)
        if command.language == "python":
            return self._ended(self._forked("exec", [text]))
        if completion := re.fullmatch(r'eval "\$\((.+)\)"', text):
            text = completion[1]
        given = arguments(text)
        if given is None:
            return self._of_another_program(text)
        if given[:1] == ["serve"]:
            return self._serve(given)
        if given[:1] == ["ask"]:
            given += ["--url", f"http://{self._address}"]
        fails = any(line.startswith("Error:") for line in command.output)
        try:
            short = given if fails else shortened(given)
        except ConfigError as error:
            return str(error)
        wrong = self._ended(self._forked("nano-llm", short), fails=fails)
        missing = [line for line in command.output if line.strip() not in self.said()]
        return wrong or (f"it does not say {missing[0]!r}\n{self.said()}" if missing else None)

    def said(self) -> str:
        """Return what the latest command has said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def leave(self) -> str | None:
        """Stop the server, if there is one; return what is wrong with its end."""
        if self._server is None:
            return None
        server, self._server = self._server, None
        assert server.pid is not None
        os.kill(server.pid, signal.SIGTERM)
        return self._ended(server)

    def _filled_in(self, text: str) -> str:
        """Put something in the place of what stands for readers' own."""
        text = text.replace("/path/to/imdb", str(self._reviews)).replace("/path/to/cad/paired", str(self._reviews))
        for named in re.findall(r"outputs/\S*\*\S*", text):  # as a shell does, which it has only one match for
            found = sorted(self._place.glob(named))
            text = text.replace(named, str(found[0].relative_to(self._place)) if found else named)
        return text.replace(PORT, self._address)

    def _of_another_program(self, text: str) -> str | None:
        if shlex.split(text)[0] not in HARMLESS:
            return f"this test runs only nano-llm and {', '.join(sorted(HARMLESS))}"
        text = re.sub(r"^curl ", "curl --fail --silent --show-error ", text)
        ended = subprocess.run(
            ["bash", "-e", "-c", text], cwd=self._place, env=self._environment, capture_output=True, text=True
        )
        return f"exit status {ended.returncode}\n{ended.stderr}" if ended.returncode else None

    def _serve(self, given: list[str]) -> str | None:
        if wrong := self.leave():
            return wrong
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        self._server = self._forked("nano-llm", [*given, "--port", self._address.rpartition(":")[2]])
        deadline = time.monotonic() + _SECONDS
        while self._server.is_alive() and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://{self._address}/ready", timeout=5).close()
                return None
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self._server.kill()
        server, self._server = self._server, None
        return self._ended(server) or "the server is never ready"

    def _forked(self, kind: str, given: list[str]) -> BaseProcess:
        process = FORKS.Process(target=_work, args=(self._place, self._log, self._environment, kind, given))
        process.start()
        return process

    def _ended(self, process: BaseProcess, *, fails: bool = False) -> str | None:
        process.join(_SECONDS)
        if process.is_alive():
            process.kill()
            return f"it takes longer than {_SECONDS} s"
        return f"exit status {process.exitcode}\n{self.said()[-3000:]}" if bool(process.exitcode) != fails else None


def _work(place: Path, log: Path, environment: dict[str, str], kind: str, given: list[str]) -> None:
    """Carry out a command in this process, which was forked from one that has loaded torch."""
    settle(place, log)
    typed = place / "home/typed"
    typed.write_text(TYPED)
    sys.stdin = typed.open()
    os.environ.clear()
    os.environ.update(environment)
    _shorten_evaluations()
    if kind == "exec":
        exec(compile(given[0], "the page", "exec"), {"__name__": "__main__"})
        sys.exit(0)
    from nano_llm.cli.main import main

    sys.argv = ["nano-llm"]
    sys.exit(main(given))


def _shorten_evaluations() -> None:
    """Let every suite take a dozen reviews."""
    from nano_llm.config.schema import Suite
    from nano_llm.evaluation import corpora, effects, subject

    subject.SIZES[Suite.quick] = subject.Sizes(reviews=12, law_reviews=12, pairs=12, samples=0)
    subject.SIZES[Suite.full] = subject.Sizes(reviews=12, law_reviews=12, pairs=12, samples=6)
    subject.NUM_JUDGE_REVIEWS = corpora.NUM_JUDGE_REVIEWS = 300
    effects.NUM_DRAWS = 20_480
