"""What a person sees of a run: a live bar on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from nano_llm.training.loop import Metrics
from nano_llm.training.state import State


class Screen(Console):
    """A console whose work outlives whoever reads it, as with ``| head`` or a ``tee`` that has died.

    Rich would end the process, in the middle of what it does.
    """

    def on_broken_pipe(self) -> None:
        """Say once that nobody reads on, and show nothing from here on; the work is not disturbed."""
        self.quiet = True
        # Python would try again at its end what could not be shown.
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, self.file.fileno())
        os.close(sink)
        with contextlib.suppress(OSError):
            print("Nobody reads the output any more; the work goes on without it.", file=sys.stderr, flush=True)


class ConsoleProgress:
    """Progress of one run; use as a context."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._live = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not self._live,
        )
        self._task: TaskID = self._bar.add_task(name, total=1.0, figures="")
        self._last_said = -1.0

    def __enter__(self) -> "ConsoleProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, state: State, metrics: Metrics, share: float) -> None:
        """Show a log row; without a terminal only every fiftieth part of the budget, to keep logs short."""
        left = _duration(_seconds_left(state, share))
        figures = f"step {state.spent.steps}  {describe_training(metrics)}  left {left}"
        self._bar.update(self._task, completed=min(share, 1.0), figures=figures)
        if not self._live and (share - self._last_said >= 0.02 or share >= 1):
            self._last_said = share
            self._say(f"{min(share, 1.0):4.0%}  {figures}")

    def validation(self, state: State, metrics: Metrics, is_best: bool) -> None:
        """Show a validation."""
        named = "  ".join(f"{name} {metrics[name]:.4f}" for name in ("val_ce", "val_bpb") if name in metrics)
        self._say(f"      step {state.spent.steps}  {named}{'  (best so far)' if is_best else ''}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def describe_training(metrics: Metrics) -> str:
    """Write a log row in a few words."""
    words = [f"train_ce {metrics['train_ce']:.4f}"] if "train_ce" in metrics else []
    if "train_js" in metrics:
        words.append(f"js {metrics['train_js']:.4f}")
    if "skipped_steps" in metrics:
        words.append(f"skipped {metrics['skipped_steps']:.0f}")
    words.append(f"{metrics['tokens_per_second']:,.0f} tokens/s")
    if "mfu" in metrics:
        words.append(f"mfu {metrics['mfu']:.1%}")
    return "  ".join(words)


def _seconds_left(state: State, share: float) -> float:
    return state.spent.seconds * (1 - share) / share if share > 0 else float("inf")


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"
