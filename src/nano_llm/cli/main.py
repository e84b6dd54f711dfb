"""``nano-llm``: one door to all commands."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module

from nano_llm import __version__
from nano_llm.cli.ending import ended

COMMANDS = {
    "run": ("nano_llm.run", "train, evaluate and resume a model; takes Hydra overrides"),
    "status": ("nano_llm.cli.status", "show how the runs of a study stand, live"),
    "report": ("nano_llm.cli.report", "turn the runs of a study into tables, figures and one page"),
    "evaluate": ("nano_llm.cli.evaluate", "measure a trained model, with intervals"),
    "generate": ("nano_llm.cli.generate", "write reviews under either outcome, as pairs, steered, as text or a page"),
    "counterfactual": ("nano_llm.cli.counterfactual", "show what a review would have said under the other sentiment"),
    "chat": ("nano_llm.cli.chat", "write reviews one after the other, changing outcome and steering on the way"),
    "serve": ("nano_llm.cli.serve", "answer OpenAI's clients, and show both outcomes on a page"),
    "ask": ("nano_llm.cli.ask", "send a prompt or a JSON body to a server and print what comes"),
    "prepare": ("nano_llm.cli.prepare", "prepare a corpus without training"),
    "bench": ("nano_llm.cli.bench", "measure speed and memory on this machine, beside its ceilings and beside peers"),
    "doctor": ("nano_llm.cli.doctor", "tell versions, devices, data, folders and keys, and what is wrong here"),
    "export": ("nano_llm.cli.export", "write a model as a folder that transformers loads, and upload it"),
    "import": ("nano_llm.cli.import_reference", "turn a checkpoint of the reference system into one of ours"),
}
"""Name of a command -> the module whose ``main(arguments)`` carries it out, and one line of help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit status."""
    return ended(lambda: _carry_out(arguments))


def _carry_out(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in ("-sc", "--shell-completion"):
        return _complete(given)
    if not given or given[0] in ("-h", "--help"):
        print(_help())
        return 0
    if given[0] == "--version":
        print(__version__)
        return 0
    if given[0] not in COMMANDS:
        from nano_llm.config.strict import suggest

        print(f"Error: no command {given[0]!r}; {suggest(given[0], list(COMMANDS))}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[given[0]]
    status: int = import_module(module).main(given[1:])
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: nano-llm COMMAND ...",
            "",
            *lines,
            "",
            "examples:",
            "  nano-llm run model=tarnet data=scm scale=nano trainer.max_minutes=2",
            "  nano-llm generate latest --outcome both --num 2",
            "  nano-llm run --help",
            "",
            'completion: eval "$(nano-llm -sc install=bash)"',
        ]
    )


def _complete(given: list[str]) -> int:
    """Answer a shell's question: our commands for the first word, Hydra's overrides after one that takes them."""
    from nano_llm.run import main as run

    line = os.environ.get("COMP_LINE", "")
    script, _, rest = line.partition(" ")
    command, space, words = rest.partition(" ")
    if line and not space:
        print("\n".join(name for name in COMMANDS if name.startswith(command)))
        return 0
    if command in COMMANDS and command not in ("run", "prepare"):
        return 0  # takes no overrides; without an offer of ours, shells offer files, such as the folders of runs
    if command in COMMANDS:
        os.environ["COMP_LINE"] = f"{script} {words}"
    answer = io.StringIO()
    with contextlib.redirect_stdout(answer):
        status = run(given)
    # Schema nodes and what choices share are choices to Hydra, but not to a user.
    print("".join(word for word in re.split(r"(\s+)", answer.getvalue()) if "=_" not in word), end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
