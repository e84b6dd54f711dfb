"""A command that is killed just before any of its writes, and given again, ends as if nothing had happened."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from killed_writes import carry_out, output
from leavings import assert_equal_leavings
from tiny_run import TINY_RUN, only_run
from torture_factor import FACTOR

PLACES = ("paths.outputs=outputs", "paths.cache=cache")
RUN = ("run", *TINY_RUN, *PLACES)
SHORT_RUN = (*RUN, "trainer.max_steps=4", "trainer.eval_every=2", "trainer.checkpoint_minutes=0")
PREPARE = ("prepare", "--to", "prepared", *TINY_RUN[:6], PLACES[1])
OF_THE_LATEST = ("latest", "--outputs", "outputs", "--device", "cpu")
GENERATE = ("generate", *OF_THE_LATEST, "--requests", "requests.jsonl", "--out", "answers.jsonl")

pytestmark = pytest.mark.slow


def _empty(place: Path, _: Path) -> None:
    place.mkdir()


def _with_a_run(place: Path, trained: Path) -> None:
    shutil.copytree(trained, place)


def _with_damaged_data(place: Path, trained: Path) -> None:
    shutil.copytree(trained / "cache", place / "cache")
    (tokenizer,) = place.glob("cache/*/tokenizer.json")
    tokenizer.write_text("{}")


def _without_best_checkpoint(place: Path, trained: Path) -> None:
    shutil.copytree(trained, place)
    shutil.rmtree(only_run(place / "outputs") / "checkpoints/best")


def _with_requests(place: Path, trained: Path) -> None:
    shutil.copytree(trained, place)
    lines = [{"outcome": "both", "num": 2, "tokens": 5, "seed": seed} for seed in range(20)]
    (place / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("begin", "command", "num_bounded"),
    [
        pytest.param(_empty, SHORT_RUN, 3, id="a run"),
        pytest.param(_without_best_checkpoint, RUN, 1, id="a run that starts anew"),
        pytest.param(_empty, PREPARE, 2, id="preparing data"),
        pytest.param(_with_damaged_data, PREPARE, 2, id="preparing damaged data again"),
        pytest.param(_with_a_run, ("evaluate", *OF_THE_LATEST), 1, id="an evaluation"),
        pytest.param(_with_a_run, ("report", "outputs/runs"), 1, id="a report"),
        pytest.param(_with_requests, GENERATE, 1, id="a file of requests"),
    ],
)
def test_a_command_killed_at_a_write_and_given_again_ends_as_if_undisturbed(
    begin: Callable[[Path, Path], None], command: tuple[str, ...], num_bounded: int, trained: Path, tmp_path: Path
) -> None:
    """In the long form at every write; every third command is killed a second time."""
    undisturbed = tmp_path / "undisturbed"
    begin(undisturbed, trained)
    ended = carry_out(undisturbed, *command)
    assert ended.status == 0, output(undisturbed)
    assert ended.num_writes
    rng = random.Random(0)
    numbers = list(range(ended.num_writes))
    killed_at = numbers if FACTOR >= 10 else sorted(rng.sample(numbers, min(len(numbers), num_bounded * FACTOR)))
    print(f"{' '.join(command[:2])}: {ended.num_writes} writes, killed before {len(killed_at)} of them")
    for count, number in enumerate(killed_at):
        place = tmp_path / f"killed-{number}"
        begin(place, trained)
        assert carry_out(place, *command, kill_at=number).num_writes is None, output(place)
        if count % 3 == 0:
            carry_out(place, *command, kill_at=rng.choice(numbers))
        again = carry_out(place, *command)
        assert again.status == 0, output(place)
        assert_equal_leavings(place, undisturbed)
        shutil.rmtree(place)
