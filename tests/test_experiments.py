"""Every experiment does what its first line says: it composes, and each of its rows trains for two steps."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import compose
from omegaconf import DictConfig
from rich.console import Console

from nano_llm.config.compose import compose_config, composing
from nano_llm.config.schema import Config, ImdbConfig, Windows
from nano_llm.session import run_session
from nano_llm.sweep.expand import expand
from small_imdb import write_reviews

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf/experiment"
EXPERIMENTS = sorted(path.stem for path in CONF.glob("*.yaml"))
NEEDS = {"reference": ("model=vanilla", "data=natural")}
"""What an experiment leaves to the user."""

SHORT = (
    "scale=tiny", "trainer.max_steps=2", "trainer.eval_every=2", "trainer.eval_reviews=4", "trainer.test_reviews=0",
    "trainer.batch_size=4", "trainer.device=cpu",
)  # fmt: skip


def rows(experiment: str) -> list[list[str]]:
    """Return the overrides of the first seed of every row."""

    def composed(overrides: Sequence[str]) -> DictConfig:
        with composing():
            return compose("config", overrides=list(overrides))

    command = [f"experiment={experiment}", *NEEDS.get(experiment, ()), "sweep.seeds=1"]
    return [overrides for overrides, _ in expand(command, composed)]


ROWS = [(f"{experiment}-{i}", row) for experiment in EXPERIMENTS for i, row in enumerate(rows(experiment))]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("imdb"))


def small_data(config: Config, reviews: Path) -> list[str]:
    if not isinstance(config.data, ImdbConfig):
        return ["data.num_train=40", "data.num_validation=12", "data.num_test=12"]
    fair = config.protocol.windows is Windows.covering
    return [
        f"data.path={reviews}",
        f"data.cad={reviews}",
        "data.movies=null",
        *(["protocol.validation_reviews=20"] if fair else []),
    ]


@pytest.mark.parametrize("row", [row for _, row in ROWS], ids=[name for name, _ in ROWS])
def test_every_row_of_every_experiment_trains(row: list[str], reviews: Path, tmp_path: Path, cache: Path) -> None:
    words = [*row, *SHORT, *small_data(compose_config(row), reviews)]
    words += [f"paths.outputs={tmp_path}", f"paths.cache={cache}"]
    summary = run_session(compose_config(words), words, Console(quiet=True))
    assert summary is not None
    assert summary["steps"] == 2


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_opens_with_its_command(experiment: str) -> None:
    package, command = (CONF / f"{experiment}.yaml").read_text(encoding="utf-8").splitlines()[:2]
    assert package == "# @package _global_"
    assert command == "# make demo" or f"experiment={experiment}" in command


def test_table512_has_the_published_sizes() -> None:
    from nano_llm.model.accounting import expected_parameters
    from nano_llm.report.published import PUBLISHED

    for row in rows("table512"):
        config = compose_config(row)
        published = PUBLISHED[config.name]
        assert config.trainer.max_epochs == published.epochs
        assert expected_parameters(config.model, config.scale, config.data.tokenizer.vocab_size) == published.parameters


@pytest.mark.filterwarnings("ignore:Deprecated API features")  # of SQLAlchemy, when Optuna is imported
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_settings_that_an_experiment_searches_exist(experiment: str) -> None:
    with composing():
        composed = compose("config", overrides=[f"experiment={experiment}"], return_hydra_config=True)
    params = composed.hydra.sweeper.get("params")
    if params is None:
        pytest.skip("it searches nothing")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    from nano_llm.sweep.space import read_space

    space = read_space(params, [f"experiment={experiment}"])
    assert set(space.searched) == set(params)
    first, last = (compose_config(point) for point in space.corners())
    assert first != last


def test_the_page_on_reliability_quotes_the_long_form_that_is_committed() -> None:
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    folder = ROOT / "experiments/torture"
    server, bodies = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("server.json", "bodies.json")
    )
    num_clients, num_kinds = sum(server["clients"].values()), len(server["clients"])
    thirds = [round(mib) for mib in server["rss_mib_of_thirds"]]
    for quoted in (
        f"{server['minutes']:.0f} minutes, {num_clients:,} clients of {num_kinds} kinds",
        f"memory of the thirds {thirds[0]}, {thirds[1]} and {thirds[2]} MiB",
        f"{server['before']['num_descriptors']} descriptors before and after, {server['most_descriptors']} at most",
        f"threads {server['before']['num_threads']} and at last {server['after']['num_threads']}",
        f"| malformed bodies | {bodies['bodies']:,} |",
    ):
        assert quoted in page
    assert server["failures"] == []
    assert not [code for code in bodies["statuses"] if code.startswith("5")]
    for line in (folder / "kills.txt").read_text(encoding="utf-8").splitlines():
        assert f"| {sum(map(int, re.findall(r'[0-9]+', line)))}: " in page
    disk, writes = ((folder / f"{name}.txt").read_text(encoding="utf-8") for name in ("disk", "writes"))
    assert f"| {_total(r'([0-9,]+) of [0-9,]+ bits', disk):,} flipped bits, " in page
    assert f" {_total(r'cut at ([0-9,]+) of', disk):,} cuts |" in page
    assert f"from each of {_total(r'full from ([0-9]+) of', disk)} writes" in page
    properties = (folder / "properties.txt").read_text(encoding="utf-8").splitlines()
    assert f"| properties | {len(properties)} of " in page
    total = _total(r": ([0-9]+) writes", writes)
    assert f"before {_total(r'before ([0-9]+) of them', writes)} of their {total:,} writes" in page


def _total(pattern: str, text: str) -> int:
    return sum(int(number.replace(",", "")) for number in re.findall(pattern, text))
