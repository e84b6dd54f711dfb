"""What a process does that works with W&B's own client: ``python wandb_sessions.py FOLDER CACHE``.

The client starts a service and stays loaded, so that it gets a process of its own.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from rich.console import Console

from nano_llm.config.compose import compose_config
from nano_llm.interruption import Interrupted
from nano_llm.session import Session, run_session
from nano_llm.tracking.run_folder import RunFolder
from nano_llm.tracking.tracker import Start
from nano_llm.tracking.wandb import WandbTracker
from tiny_run import TINY_RUN, Killed, kill_after, only_run

KEY = "k" * 40
BOTH = "tracker=[wandb,tensorboard]"


class Broken(Exception):
    """Raised in the place of what a client raises."""


def main(folder: Path, cache: Path) -> None:
    def carry_out(outputs: str, *overrides: str) -> None:
        chosen = [*TINY_RUN, BOTH, f"paths.outputs={folder / outputs}", f"paths.cache={cache}", *overrides]
        with (folder / f"{outputs}.console").open("a") as output:
            run_session(compose_config(chosen), chosen, Console(file=output, width=120))

    (folder / "own").mkdir()
    own = wandb.init(mode="offline", dir=folder / "own", id="own")
    in_three_sessions(lambda: carry_out("tracked", "tracker.wandb.artifact=true", "tracker.wandb.tags=[one,two words]",
                                        "tracker.wandb.project=reviews", "trainer.checkpoint_minutes=0"))  # fmt: skip
    for name in ("log", "finish"):
        with pytest.MonkeyPatch.context() as faulty:
            faulty.setattr(wandb.Run, name, fail)
            carry_out(name)
    shutil.rmtree(only_run(folder / "finish") / "checkpoints")
    carry_out("finish")
    own.log({"mine": 1})
    own.finish()
    (folder / "modes.json").write_text(json.dumps(modes(folder)))


def in_three_sessions(carry_out: Callable[[], None]) -> None:
    """Lose the work after step 4, which has been told up to step 6; stop in the validation of step 10; finish."""
    with pytest.MonkeyPatch.context() as faulty:
        kill_after(4, faulty)
        with pytest.raises(Killed):
            carry_out()
    score = Session._score

    def interrupted(self: Session, *scored: Any) -> Any:
        if self._position()["step"] == 10:
            raise Interrupted("SIGTERM")
        return score(self, *scored)

    with pytest.MonkeyPatch.context() as faulty:
        faulty.setattr(Session, "_score", interrupted)
        with pytest.raises(SystemExit):
            carry_out()
    carry_out()


def fail(*_: Any, **__: Any) -> None:
    raise Broken("the client is broken\nas it says at length")


def modes(folder: Path) -> dict[str, str]:
    """Return the mode in which runs would be opened, by the key, what was chosen, and a run that is open already."""
    (folder / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    (folder / "netrc").chmod(0o600)
    return {
        "key": mode(folder, WANDB_API_KEY=KEY),
        "netrc": mode(folder, NETRC=str(folder / "netrc")),
        "a run that is online": mode(folder, open_already=SimpleNamespace(offline=False)),
        "a run that is offline": mode(folder, open_already=SimpleNamespace(offline=True)),
        "key, chosen offline": mode(folder, "tracker.wandb.mode=offline", WANDB_API_KEY=KEY),
        "shared, no key": mode(folder, WANDB_MODE="shared"),
        "shared, key": mode(folder, WANDB_MODE="shared", WANDB_API_KEY=KEY),
        "disabled, no key": mode(folder, WANDB_MODE="disabled"),
    }


def mode(folder: Path, *overrides: str, open_already: object = None, **variables: str) -> str:
    asked: dict[str, Any] = {}

    def open_run(**settings: Any) -> None:
        asked.update(settings)
        raise Broken

    config = compose_config([*TINY_RUN, "tracker=wandb", *overrides])
    wandb.teardown()  # so that the environment is read again
    with pytest.MonkeyPatch.context() as changed, RunFolder(folder / "none/arm/seed-0", Console(quiet=True)) as run:
        for name, value in variables.items():
            changed.setenv(name, value)
        changed.setattr(wandb, "init", open_run)
        changed.setattr(wandb, "run", open_already)
        run.set_status("running")
        assert config.tracker.wandb is not None
        with pytest.raises(Broken):
            WandbTracker(config.tracker.wandb, Start(config, "id", 0), run)
    return str(asked["mode"])


if __name__ == "__main__":
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        os.environ.pop(variable, None)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
