"""Commands that are killed by ``kill -9`` at a moment of chance, and given again, end as if nothing had happened."""

import contextlib
import json
import os
import random
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from sweep_command import processes_below, wait_until

from killing import Command, await_moment, kill_group, log_of, moments, phase_of_run, stage_of_run, told
from leavings import assert_equal_leavings, forget_times
from nano_llm.sweep.sweep import ORPHAN_SECONDS
from nano_llm.tracking.status import read_object
from tiny_run import TINY_RUN
from torture_factor import FACTOR

PLACES = ("paths.outputs=outputs", "paths.cache=cache")
KILLS_OF_A_SWEEP = (("all", "cells"), ("cell", "cells"), ("sweep", "cells"), ("all", "plan"), ("sweep", "report"))
"""Who is killed and when, in turn: of what happens to a sweep, most happens while its cells work."""
SEED = random.SystemRandom().randrange(1 << 32)

pytestmark = pytest.mark.slow


@pytest.fixture
def rng() -> random.Random:
    """What draws the moments; new ones each time, since no seed repeats them on a busy machine."""
    print(f"moments of seed {SEED}")
    return random.Random(SEED)


def test_a_run_killed_at_a_random_moment_and_given_again_ends_as_if_undisturbed(
    rng: random.Random, tmp_path: Path
) -> None:
    longer = ("data.num_train=800", "data.num_validation=40", "data.num_test=40", "trainer.max_steps=20",
              "trainer.eval_every=2", "trainer.eval_batch_size=4", "trainer.checkpoint_minutes=0",
              "trainer.evaluation=quick")  # fmt: skip
    run = Command(tmp_path, "-m", "nano_llm.run", *TINY_RUN, *longer, *PLACES)
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    spans = run.watch(undisturbed, stage_of_run)
    assert set(spans) == {"start", "data", "loading", "training", "evaluation"}
    others = {name: spans[name] for name in ("data", "evaluation", "start")}
    # Steps, validations and checkpoints take turns while it trains.
    wanted = moments(rng, others, FACTOR) + moments(rng, {"training": spans["training"]}, 2 * FACTOR)
    phases: Counter[str] = Counter()
    for number, (stage, seconds) in enumerate(wanted):
        place = tmp_path / f"killed-{number}"
        place.mkdir()
        process = run.start(place)
        await_moment(process, place, stage_of_run, stage, seconds)
        if kill_group(process):
            phases[phase_of_run(place)] += 1
        assert run.run(place) == 0, log_of(place).read_text()
        assert_equal_leavings(place, undisturbed)
        shutil.rmtree(place)
    print(f"runs killed: {told(phases)}")
    assert phases, "each of them had ended before it could be killed"
    if FACTOR >= 10:
        assert {
            "preparing data", "a step", "a validation", "writing a checkpoint", "the evaluation"
        } <= phases.keys()  # fmt: skip


def test_a_sweep_killed_at_a_random_moment_and_given_again_ends_as_if_undisturbed(
    rng: random.Random, tmp_path: Path
) -> None:
    """Only the sweep, whose cells save and stop then; only one of its cells; and all at once."""
    settings = ("model=vanilla,tarnet", "sweep.parallel=2", "study=study", "trainer.checkpoint_minutes=0", *PLACES)
    sweep = Command(tmp_path, "-m", "nano_llm.run", "-m", *TINY_RUN, *settings)
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    spans = sweep.watch(undisturbed, _stage_of_sweep)
    assert set(spans) == {"plan", "cells", "report"}
    forget_times(undisturbed / "outputs/study")
    phases: Counter[str] = Counter()
    num_kills = max(3, 2 * FACTOR)
    for number in range(2 * num_kills):
        if phases.total() == num_kills:  # one that had ended before it could be killed does not count
            break
        victim, stage = KILLS_OF_A_SWEEP[number % len(KILLS_OF_A_SWEEP)]
        place = tmp_path / f"killed-{number}"
        place.mkdir()
        process = sweep.start(place)
        await_moment(process, place, _stage_of_sweep, stage, rng.uniform(0, spans[stage]))
        phase, cells = _stage_of_sweep(place), processes_below(place)
        if victim == "cell":
            _kill(rng.sample(cells, min(1, len(cells))))
            assert process.wait(timeout=600) in (0, 1)
            has_hit = "killed by SIGKILL" in log_of(place).read_text()
        else:
            has_hit = kill_group(process)
            _kill(cells if victim == "all" else [])
        if has_hit:
            phases[f"{victim} in {phase}"] += 1
        assert sweep.run(place) == 0, log_of(place).read_text()
        wait_until(lambda place=place: not processes_below(place), seconds=ORPHAN_SECONDS)
        forget_times(place / "outputs/study")
        assert_equal_leavings(place, undisturbed)
        shutil.rmtree(place)
    print(f"sweeps killed: {told(phases)}")
    assert phases, "each of them had ended before it could be killed"
    if FACTOR >= 10:
        assert {"all in cells", "cell in cells", "sweep in cells"} <= phases.keys()
        assert {phase.partition(" in ")[2] for phase in phases} == {"plan", "cells", "report"}


def test_requests_killed_at_a_random_moment_and_given_again_are_answered_byte_for_byte(
    rng: random.Random, trained: Path, tmp_path: Path
) -> None:
    words = ("latest", "--outputs", str(trained / "outputs"), "--device", "cpu")
    files = ("--requests", "../requests.jsonl", "--out", "answers.jsonl")
    start = "import sys; from nano_llm.cli.main import main; sys.exit(main())"
    generate = Command(tmp_path, "-c", start, "generate", *words, *files)
    lines = [{"num": 1 + n % 3, "tokens": 12 + n % 9, "seed": n, "top": n % 3} for n in range(240)]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    spans = generate.watch(undisturbed, _stage_of_requests)
    assert set(spans) == {"starting", "answering"}
    phases: Counter[str] = Counter()
    for number, (stage, seconds) in enumerate(moments(rng, {"answering": spans["answering"], **spans}, 4 * FACTOR)):
        if phases.total() == 2 * FACTOR:  # one that had ended before it could be killed does not count
            break
        place = tmp_path / f"killed-{number}"
        place.mkdir()
        process = generate.start(place)
        await_moment(process, place, _stage_of_requests, stage, seconds)
        if kill_group(process):
            phases[_stage_of_requests(place)] += 1
        assert generate.run(place) == 0, log_of(place).read_text()
        assert_equal_leavings(place, undisturbed)
        shutil.rmtree(place)
    print(f"requests killed: {told(phases)}")
    assert phases, "each of them had ended before it could be killed"
    if FACTOR >= 10:
        assert phases.keys() == {"starting", "answering"}


def _stage_of_sweep(place: Path) -> str:
    """The report begins when both cells have ended well: it is computed for a while before anything of it is there."""
    cells = [log.parent for log in place.glob("outputs/study/*/seed-*/console.log")]
    if not cells:
        return "plan"
    states = [(read_object(cell / "status.json") or {}).get("state") for cell in cells]
    return "report" if states == ["finished"] * 2 else "cells"


def _stage_of_requests(place: Path) -> str:
    answers = place / "answers.jsonl"
    return "answering" if answers.exists() and answers.stat().st_size else "starting"


def _kill(processes: list[int]) -> None:
    """Kill cells, each with all that it has started."""
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
