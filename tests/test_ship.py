"""A trained run is shipped by `tools/ship.py`, found by its name, and its card says what its records say."""

import importlib.util
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from nano_llm import checkpoint
from nano_llm.cli.main import main
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Suite
from nano_llm.errors import OutputError, RequestError
from nano_llm.evaluation import subject as subjects
from nano_llm.session import run_session
from nano_llm.tracking import locate as located
from tiny_run import TINY_RUN, damage, only_run

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = [ROOT / "experiments/models" / name for name in located.shipped_models()]


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ship", ROOT / "tools/ship.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHIP = load_tool()


@pytest.fixture(scope="module")
def few_reviews() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(subjects.SIZES, Suite.quick, subjects.Sizes(reviews=12, law_reviews=8, pairs=7, samples=0))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a finished run."""
    outputs = tmp_path_factory.mktemp("finished")
    words = [*TINY_RUN, f"paths.outputs={outputs}", f"paths.cache={cache}", "name=tiny"]
    run_session(compose_config(words), words, Console(quiet=True))
    return only_run(outputs)


@pytest.fixture(scope="module")
def original(finished: Path, few_reviews: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a shipped model; to be copied."""
    folder: Path = SHIP.ship(finished, tmp_path_factory.mktemp("original") / "tiny", Suite.quick)
    return folder


@pytest.fixture
def shipped(original: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where models are looked for, with no run in sight."""
    folder = tmp_path / "models/tiny"
    shutil.copytree(original, folder)
    monkeypatch.setattr(located, "models_folder", lambda: tmp_path / "models")
    monkeypatch.setenv("NANO_LLM_CACHE", str(cache))
    monkeypatch.setenv("NANO_LLM_OUTPUTS", str(tmp_path / "outputs"))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_shipped_holds_no_training_state_and_tells_of_no_machine(shipped: Path, finished: Path) -> None:
    found = files(shipped)
    of_checkpoint = {name.rpartition("/")[2] for name in found if name.startswith("checkpoints/")}
    assert of_checkpoint == {"model.safetensors", "config.json", "tokenizer.json", "metrics.json", "manifest.json"}
    assert "evaluation/heads.json" in found
    assert not [name for name in found if name.endswith(".parquet")]
    temporary = str(finished.parents[3]).encode()
    assert temporary in (finished / "config.yaml").read_bytes()
    assert not [name for name, content in found.items() if temporary in content]


def test_weights_are_rounded_and_the_figures_are_those_of_the_rounded_ones(
    shipped: Path, finished: Path, few_reviews: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(shipped)
    weights, trained = (checkpoint.load(at / "checkpoints/best").weights for at in (shipped, finished))
    assert all(weights[name].equal(trained[name].bfloat16()) for name in trained)
    assert main(["evaluate", "tiny", "--device", "cpu"]) == 0
    assert files(shipped) == before
    records = shipped.parents[1] / "outputs/models/tiny/evaluation"
    for name in ("heads", "pairs", "truth"):
        assert (records / f"{name}.json").read_bytes() == before[f"evaluation/{name}.json"]
    assert "was trained on data" not in capsys.readouterr().out


def test_who_judges_it_on_other_data_is_told(
    shipped: Path, few_reviews: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shipped / "data.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "of another"}))
    assert main(["evaluate", "tiny", "--metrics", "bpb", "--device", "cpu"]) == 0
    assert "tiny was trained on data of another, and this is" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["generate", "chat", "counterfactual"])
def test_it_writes_by_its_name_as_it_does_by_its_folder(
    command: str, shipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    review = shipped.parent / "review.txt"
    review.write_text("the lead is dull")
    options = ["--text", str(review), "--label", "neg", "--topic", "drama"] if command == "counterfactual" else []
    written = []
    for name in ("tiny", str(shipped)):
        monkeypatch.setattr("sys.stdin", io.StringIO("b\nq\n"))
        assert main([command, name, "--device", "cpu", "--tokens", "9", *options]) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1]
    assert written[0].strip()


def test_it_is_served_under_its_name(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = pytest.importorskip("nano_llm.serving.server")
    monkeypatch.setattr(server, "serve", lambda *_, announce, **__: announce())
    assert main(["serve", "tiny", "--device", "cpu", "--port", "0"]) == 0
    assert capsys.readouterr().out.startswith("tiny at http://127.0.0.1:")


def test_a_flipped_bit_is_refused(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(shipped / "checkpoints/best/model.safetensors")
    assert main(["generate", "tiny", "--device", "cpu"]) == 1
    assert "damaged: model.safetensors" in capsys.readouterr().err


def test_a_model_that_is_too_large_is_not_shipped(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (finished / "checkpoints/best/model.safetensors").stat().st_size // 2
    monkeypatch.setattr(SHIP, "MAX_BYTES", size)
    with pytest.raises(OutputError, match=f"tiny would take .* bytes, and a shipped model may take {size:,}"):
        SHIP.ship(finished, tmp_path / "tiny", Suite.quick)
    assert not [*tmp_path.iterdir()]


def test_only_a_finished_run_is_shipped(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    with pytest.raises(RequestError, match=r"no finished run: it has no summary\.json"):
        SHIP.ship(tmp_path / "run", tmp_path / "tiny", Suite.quick)


def test_the_card_tells_command_figures_and_samples(shipped: Path) -> None:
    card = (shipped / "README.md").read_text()
    assert f"python -m nano_llm.run {' '.join(TINY_RUN).replace(' trainer.device=cpu', '')} name=tiny\n" in card
    told = json.loads((shipped / "evaluation/heads.json").read_text())["figures"]["bpb"]
    row = f"| bpb ↓ | {told['value']:.4f} | [{told['low']:.4f}, {told['high']:.4f}] | 12 | bits a byte |"
    assert row in card
    samples = json.loads((shipped / "samples.json").read_text())
    assert len(samples) == 6
    assert all(f"    {sample['text'].strip()}" in card for sample in samples)


def assert_sound(folder: Path) -> None:
    """Hold a shipped model against its hashes, its bound, and its card against the files that it is written from."""
    loaded = checkpoint.load(folder / "checkpoints/best")
    assert loaded.training is None
    loaded.model()
    assert SHIP.size_of(folder) <= SHIP.MAX_BYTES
    assert SHIP.card(folder, folder.name) == (folder / "README.md").read_text(encoding="utf-8")
    step = loaded.metrics["step"]
    records = [json.loads(path.read_text()) for path in folder.glob("evaluation*/*.json")]
    assert (
        {record["step"] for record in records}
        == {step}
        == {json.loads((folder / "summary.json").read_text())["best_step"]}
    )


def test_a_shipped_model_is_sound(shipped: Path) -> None:
    assert_sound(shipped)


def test_a_card_that_tells_other_figures_than_the_records_is_found(shipped: Path) -> None:
    path = shipped / "evaluation/heads.json"
    record = json.loads(path.read_text())
    record["figures"]["bpb"]["value"] -= 0.1
    path.write_text(json.dumps(record))
    with pytest.raises(AssertionError):
        assert_sound(shipped)


def test_imdb_mini_comes_with_the_package() -> None:
    assert "imdb-mini" in located.shipped_models()


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_every_committed_model_is_sound(folder: Path) -> None:
    assert_sound(folder)
