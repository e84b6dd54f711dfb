"""The command line: what a stranger types first, right or wrong."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nano_llm import session
from nano_llm.run import main
from nano_llm.sweep import hydra as sweep_hydra

ROOT = Path(__file__).resolve().parents[1]


def nano_llm(
    *arguments: str, module: str = "nano_llm.run", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )


def test_mistakes_end_with_status_2_and_no_traceback() -> None:
    done = nano_llm("model=vanilla", "model.separation.weight=1", "trainer.max_stps=3", "+extra=1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "3 problems" in done.stderr
    assert "did you mean max_steps" in done.stderr


def test_mistakes_are_found_before_data_is_touched(tmp_path: Path) -> None:
    done = nano_llm("data.path=/does/not/exist", "scale.num_heads=3", cwd=tmp_path)
    assert done.returncode == 2
    assert "num_heads" in done.stderr
    assert "does/not/exist" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_missing_data_is_one_short_error(tmp_path: Path) -> None:
    done = nano_llm(f"data.path={tmp_path}/nowhere", f"paths.outputs={tmp_path}/outputs", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "data.path" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_help_lists_choices_and_imports_no_torch() -> None:
    code = "import sys; from nano_llm.run import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "interblock | s_plus | t_learner | tarnet | tarnet_ipw | tarnet_symmetric | vanilla" in done.stdout
    assert "_schema" not in done.stdout


def test_flags_with_values_are_not_taken_for_overrides() -> None:
    done = nano_llm("--cfg", "job", "model=vanila")
    assert done.returncode == 2
    assert "1 problem" in done.stderr


def test_cfg_prints_a_resolved_group() -> None:
    done = nano_llm("--cfg", "job", "--resolve", "-p", "model.separation")
    assert done.returncode == 0
    assert "weight: 0.02" in done.stdout


@pytest.mark.parametrize("mode", [[], ["-m"]])
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer=null", "a group of settings; choose one with trainer="),
        ("hydra=null", "Config group override must be a string"),
        ("data=[1,2]", "a group of settings; choose one with data=imdb|"),
        ("~data=1", "a group of settings; choose one with data=imdb|"),
        ("+trainer=1", "a group of settings; choose one with trainer="),
        ("=1", "not an override of the form key=value"),
        ("protocol=" + "1" * 5000, "not an override of the form key=value"),
        ("name=\udcff", "not an override of the form key=value"),
        ("seed=99999999999999999999", "at most"),
        ("seed=glob(*)", "names no values; write them out"),
        ("protocol=interval(0,1)", "names no values; write them out"),
        ("sweep.rows=['seed=glob(*)']", "names no values; write them out"),
        ("sweep.rows=['trainer=null']", "a group of settings; choose one with trainer="),
        ("hydra.run.dir=${nope}", "'nope' not found"),
    ],
)
def test_what_hydra_does_not_foresee_is_refused_in_words_too(
    mode: list[str], override: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not mode and override.startswith("sweep.rows"):
        expected = "add -m"
    monkeypatch.setattr(sys, "argv", ["nano_llm.run"])
    assert main([*mode, override, "sweep.dry_run=true"]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("place", ["run_session", "make_plan"])
def test_a_bug_is_no_mistake_in_the_overrides(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise TypeError("a bug of ours")

    monkeypatch.setattr(sys, "argv", ["nano_llm.run"])
    monkeypatch.setattr(session if place == "run_session" else sweep_hydra, place, bug)
    with pytest.raises(TypeError, match="a bug of ours"):
        main(["data=scm", *(["-m"] if place == "make_plan" else [])])


@pytest.mark.slow
def test_multirun_trains_every_combination(tmp_path: Path) -> None:
    done = nano_llm(
        "-m", "model=vanilla,tarnet", "data=scm", "data.num_train=16", "data.num_validation=4", "data.num_test=4",
        "scale=tiny", "trainer.max_epochs=null", "trainer.max_steps=2", f"paths.outputs={tmp_path}",
        f"paths.cache={tmp_path}/cache",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/*/seed-0/summary.json"))) == 2


def test_a_first_sweep_says_nothing_of_the_libraries_that_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as matplotlib of the fonts that it finds, once in a home."""
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    done = nano_llm("-m", "experiment=demo", "sweep.dry_run=true", f"paths.outputs={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("fontlist*.json"))
    assert "3 configurations" in done.stdout.splitlines()[0]


def test_configuration_travels_inside_an_installed_package(tmp_path: Path) -> None:
    """In a wheel ``conf/`` is the package nano_llm.conf; a checkout is not needed."""
    shutil.copytree(ROOT / "src/nano_llm", tmp_path / "nano_llm")
    shutil.copytree(ROOT / "conf", tmp_path / "nano_llm/conf")
    done = nano_llm("model=vanila", cwd=tmp_path)
    assert "did you mean vanilla" in done.stderr
    done = nano_llm("--info", "searchpath", cwd=tmp_path)
    assert "pkg://nano_llm.conf" in done.stdout


TORCHRUN = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("sweep", [["-m"], ["hydra.mode=MULTIRUN"], ["sweep.cell=/somewhere"]])
def test_a_job_of_several_processes_is_no_sweep(
    sweep: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["nano_llm.run"])
    for rank, said in (
        (0, ["A job of 2 processes (WORLD_SIZE, as set by torchrun) trains one run.", "leave -m out"]),
        (1, []),
    ):
        for name, value in {**TORCHRUN, "RANK": str(rank)}.items():
            monkeypatch.setenv(name, value)
        assert main([*sweep, "model=tarnet,vanilla", f"paths.outputs={tmp_path}"]) == 2
        errors = capsys.readouterr().err
        assert all(part in errors for part in said)
        assert bool(errors) is bool(said)
    assert not list(tmp_path.iterdir())


def test_a_mistake_that_all_processes_meet_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nano_llm.run"])
    told = []
    for rank in (0, 1):
        for name, value in {**TORCHRUN, "RANK": str(rank)}.items():
            monkeypatch.setenv(name, value)
        assert main(["model=tarnet", "trainer.batch_sise=2"]) == 2
        told.append(capsys.readouterr().err)
    assert "did you mean batch_size" in told[0]
    assert told[1] == ""
