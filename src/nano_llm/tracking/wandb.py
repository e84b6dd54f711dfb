"""A run in Weights & Biases, through its own client; imported when a run asks for it, which takes seconds."""

import secrets
import shlex
import time
from datetime import datetime
from importlib import import_module
from typing import Any

from nano_llm.config.identity import to_plain
from nano_llm.config.schema import WandbConfig, WandbMode
from nano_llm.files import write_text
from nano_llm.tracking.run_folder import RunFolder
from nano_llm.tracking.tracker import Start

FINISH_SECONDS = 300.0
"""For how long the end of a run waits for its upload; what is left is on disk, for ``wandb sync``."""


class WandbTracker:
    """One session of a run in W&B. Sessions of one folder continue one run there, until it is begun anew.

    Names of figures are those of metrics.jsonl and, at the end, of summary.json, so that the table of runs sorts by
    what reports call them. Their axis is ``step``, a figure like the others: W&B's own steps can but grow, while a run
    that resumes takes some of its steps again.
    """

    def __init__(self, chosen: WandbConfig, start: Start, folder: RunFolder) -> None:
        """Open the run, and say where it is to be seen.

        Args:
            chosen: What the configuration says of W&B.
            start: Of the session.
            folder: Of the run; W&B keeps its files in there.
        """
        # Of an extra: types are checked alike with it and without.
        self._client: Any = import_module("wandb")
        self._artifact = chosen.artifact
        self._best = folder.path / "checkpoints" / "best"
        self._client.setup(self._client.Settings(silent=True))
        self._run = self._client.init(
            project=chosen.project,
            entity=chosen.entity,
            name=chosen.name,
            tags=chosen.tags or None,
            group=start.config.study,
            job_type=folder.path.parent.name,
            id=_id_of(start, folder),
            resume="allow",
            mode=self._mode(chosen.mode),
            reinit="create_new",  # never go on in a run that is open in this process
            dir=folder.path,
            config={"id": start.run_id, **to_plain(start.config)},
            settings=self._client.Settings(
                silent=True, console="off", finish_timeout=FINISH_SECONDS, finish_timeout_raises=True
            ),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        # The server knows how many rows it has. Offline nobody does, and rows of all sessions come together later.
        self._row = _milliseconds(folder) if self._run.offline else self._run.starting_step
        if self._run.offline:
            place = shlex.quote(str(folder.path / "wandb"))
            folder.say(f"W&B keeps this run offline; upload it with: wandb sync {place}")
        elif self._run.url:
            folder.say(f"W&B shows this run at {self._run.url}")

    def log(self, row: dict[str, Any]) -> None:
        """Show a row of metrics.jsonl; one that is taken again is shown again, for W&B takes nothing back."""
        self._run.log({name: value for name, value in row.items() if name != "split"}, step=self._row, commit=True)
        self._row += 1

    def finish(self, state: str, summary: dict[str, Any] | None) -> None:
        """Show how the session has ended, and wait until W&B has everything."""
        if summary is not None:
            facts = {name: value for name, value in summary.items() if name != "metrics"}
            self._run.summary.update(facts | summary["metrics"])
            if self._artifact:
                self._keep_best(summary)
        elif state == "stopped":
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if state == "finished" else 1)

    def _keep_best(self, summary: dict[str, Any]) -> None:
        best = self._client.Artifact(f"best-{self._run.id}", type="model", metadata=summary)
        # The checkpoint of a finished run is not written again, so W&B needs no copy of its own to upload from.
        best.add_dir(str(self._best), policy="immutable")
        self._run.log_artifact(best, aliases=["best"])

    def _mode(self, chosen: WandbMode) -> str:
        """Return how W&B is to work: as its own settings say, but never by asking for a key in the terminal."""
        mode = str(self._client.setup().settings.mode)
        works_here = mode in ("offline", "disabled")
        if chosen is WandbMode.offline or not (works_here or self._may_upload()):
            return "offline"
        return mode

    def _may_upload(self) -> bool:
        own = self._client.run  # of the user, in this process: with one open, W&B's login does not look for a key
        return not own.offline if own is not None else bool(self._client.login(prompt=False, verify=False))


def _id_of(start: Start, folder: RunFolder) -> str:
    """Name a run in W&B: the same in all its sessions, another one where it is begun anew.

    Id and seed alone would not do: two people of a team who train the same would write into one run.
    """
    place = folder.path / "wandb" / "id"
    if start.step == 0 or not place.exists():
        place.parent.mkdir(exist_ok=True)
        write_text(place, f"{start.run_id}-{start.config.seed}-{secrets.token_hex(4)}")
    return place.read_text(encoding="utf-8")


def _milliseconds(folder: RunFolder) -> int:
    """Return the age of a run: more than the number of rows that any earlier session of it has told."""
    return max(0, int(1000 * (time.time() - datetime.fromisoformat(folder.status()["started"]).timestamp())))
