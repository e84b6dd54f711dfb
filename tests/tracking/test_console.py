"""The console: short lines where nobody watches live."""

import io
import os

import pytest
from rich.console import Console

from nano_llm.tracking.console import ConsoleProgress, Screen
from nano_llm.training.budget import Spent
from nano_llm.training.state import State

FIGURES = {"train_ce": 2.5, "train_js": 0.01, "tokens_per_second": 12345.6, "mfu": 0.31}


def shown(*shares: float, figures: dict[str, float] = FIGURES) -> list[str]:
    stream = io.StringIO()
    with ConsoleProgress(Console(file=stream, width=40), "arm [x]") as progress:
        for i, share in enumerate(shares):
            progress.step(State(spent=Spent(steps=i, seconds=60.0)), figures, share)
    return stream.getvalue().splitlines()


def test_plain_lines_are_thinned_out_but_the_last_one_shows() -> None:
    assert len(shown(*[i / 1000 for i in range(1001)])) == 51
    assert shown(0.5, 1.0)[-1].startswith("100%")


def test_a_line_says_where_training_stands() -> None:
    (line,) = shown(0.25)
    expected = "25% step 0 train_ce 2.5000 js 0.0100 12,346 tokens/s mfu 31.0% left 3m 00s"
    assert " ".join(line.split()) == expected


def test_a_line_tells_what_was_skipped_also_where_nothing_else_was_done() -> None:
    (line,) = shown(0.25, figures={"skipped_steps": 2, "tokens_per_second": 100.0})
    assert " ".join(line.split()) == "25% step 0 skipped 2 100 tokens/s left 3m 00s"


def test_a_validation_names_the_best() -> None:
    stream = io.StringIO()
    with ConsoleProgress(Console(file=stream, width=20), "arm") as progress:
        progress.validation(State(spent=Spent(steps=7)), {"val_ce": 2.0, "val_bpb": 1.5, "val_js": 0.1}, is_best=True)
    assert stream.getvalue().strip() == "step 7  val_ce 2.0000  val_bpb 1.5000  (best so far)"


def test_a_screen_that_nobody_reads_any_more_says_so_once_and_lets_the_work_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe:
        screen = Screen(file=pipe)
        screen.print("first")
        assert os.read(reader, 100) == b"first\n"
        os.close(reader)
        screen.print("second")
        screen.print("third")
    assert capsys.readouterr().err.count("Nobody reads the output any more") == 1
