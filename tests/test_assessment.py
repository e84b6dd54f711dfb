"""A trained run through the suite: figures, records, what is skipped, and the same again."""

import csv
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from nano_llm import checkpoint, session
from nano_llm.assessment import assess
from nano_llm.cli.main import main
from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Config, Suite
from nano_llm.data.prepare import prepare
from nano_llm.data.review import Review
from nano_llm.data.split import Split
from nano_llm.errors import ConfigError, DataError
from nano_llm.evaluation import corpora, effects, suite
from nano_llm.evaluation import subject as subjects
from nano_llm.evaluation.bootstrap import Interval
from nano_llm.evaluation.measured import Assessed, Measured, NotMeasurableError
from nano_llm.evaluation.outcome_model import TokenScores
from nano_llm.evaluation.subject import Subject
from nano_llm.evaluation.suite import GROUPS, Group, chosen_groups, evaluate
from nano_llm.evaluation.text_sample import TextSample
from nano_llm.metrics import METRICS
from nano_llm.training.machine import find_machine
from tiny_run import TINY_RUN, Run, only_run

SIZED = ("data.num_train=200", "data.num_validation=60", "data.num_test=60")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    small = subjects.Sizes(reviews=40, law_reviews=30, pairs=30, samples=0)
    monkeypatch.setitem(subjects.SIZES, Suite.quick, small)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    small = subjects.Sizes(reviews=40, law_reviews=30, pairs=30, samples=12)
    monkeypatch.setitem(subjects.SIZES, Suite.full, small)
    monkeypatch.setattr(subjects, "NUM_JUDGE_REVIEWS", 300)
    monkeypatch.setattr(effects, "NUM_DRAWS", effects._PART)


def imdb(*overrides: str) -> Config:
    return compose_config(["data=imdb", "data.path=null", "data.cad=null", "data.movies=null", *overrides])


@pytest.fixture
def scored() -> list[list[str]]:
    return []


def listening(scored: list[list[str]]) -> Any:
    """Return a model of two equal outcomes that keeps the texts that it is asked about."""

    def score(reviews: Sequence[Review]) -> TokenScores:
        scored.append([review.text for review in reviews])
        num = len(reviews)
        return TokenScores(np.zeros((num, 2)), np.zeros(num, np.int64), np.arange(num + 1))

    return SimpleNamespace(score=score, num_outcomes=2)


def imdb_reviews(seed: int) -> list[tuple[str, int]]:
    """60 reviews, sorted by label."""
    rng = random.Random(seed)
    words = ("a", "the", "film", "plot", "was", "is", "slow", "and", "but", "never", "I", "saw", "it's", "actors")
    told = (("dull", "bad", "poor"), ("fine", "good", "great"))
    return [
        (" ".join([*rng.choices(words, k=rng.randint(20, 30)), *rng.choices(told[row // 30], k=4)]) + ".", row // 30)
        for row in range(60)
    ]


def pair(text: str, batch_id: int) -> list[tuple[str, str, str]]:
    """Two rows of a file of pairs."""
    return [("Negative", text, str(batch_id)), ("Positive", f"{text} I loved it.", str(batch_id))]


def write_cad(folder: Path, dev: list[tuple[str, str, str]]) -> Path:
    folder.mkdir()
    for split, rows in (("train", []), ("dev", dev)):
        with (folder / f"{split}_paired.tsv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
            writer.writerows([("Sentiment", "Text", "batch_id"), *rows])
    return folder


@pytest.fixture
def imdb_run(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on a tiny IMDB with known movies, without counterfactual pairs, through the quick suite."""
    for name in ("NANO_LLM_CAD", "NANO_LLM_IMDB"):
        monkeypatch.delenv(name, raising=False)
    corpus, movies = tmp_path / "imdb", tmp_path / "movies"
    corpus.mkdir()
    movies.mkdir()
    for seed, split in enumerate(("train", "test")):
        frame = pd.DataFrame(imdb_reviews(seed), columns=["text", "label"])
        frame.to_parquet(corpus / f"{split}-00000-of-00001.parquet", index=False)
        (movies / f"{split}.txt").write_text("".join(f"{split}{row // 2}\n" for row in range(60)))
    chosen = [
        *("data=imdb", "protocol=fair", f"data.path={corpus}", f"data.movies={movies}", "data.cad=null"),
        *("protocol.validation_reviews=20", "data.tokenizer.vocab_size=300", "model=tarnet"),
        *(option for option in TINY_RUN if not option.startswith("data")),
        *("trainer.evaluation=quick", f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={cache}"),
    ]
    session.run_session(compose_config(chosen), chosen, Console(quiet=True))
    return only_run(tmp_path / "outputs")


@pytest.mark.usefixtures("quick")
def test_a_run_ends_with_the_quick_suite_and_the_command_repeats_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = run("model=tarnet", "trainer.evaluation=quick", *SIZED)
    assert summary is not None
    folder = only_run(tmp_path / "outputs")
    records = {path.stem: json.loads(path.read_text()) for path in (folder / "evaluation").glob("*.json")}
    figures = {name: figure for record in records.values() for name, figure in record.get("figures", {}).items()}
    assert len(figures) >= 12
    assert {"cf_kl", "token_pehe", "posterior_accuracy", "pair_order", "bpb_mixture"} <= set(figures)
    for name, figure in figures.items():
        assert summary["metrics"][name] == figure["value"]
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["unit"] == METRICS[name].unit
    assert len(pd.read_parquet(folder / "evaluation/truth.parquet")) == 30
    assert len(records["divergence"]["details"]["by_position"]) == 10
    assert not (folder / "evaluation/divergence.parquet").exists()
    before = {path.name: path.read_bytes() for path in (folder / "evaluation").iterdir()}
    assert main(["evaluate", str(folder), "--device", "cpu"]) == 0
    assert {path.name: path.read_bytes() for path in (folder / "evaluation").iterdir()} == before
    shown = capsys.readouterr().out
    assert "cf_kl ↓" in shown
    assert "skipped confounding_bias: the prompt tells the topic" in shown


@pytest.mark.usefixtures("quick")
def test_one_head_gets_what_makes_sense_for_it(run: Run, tmp_path: Path) -> None:
    """Told the sentiment by its prompt, it has two outcomes; with a silent prompt it has one."""
    told = run("model=vanilla", "trainer.evaluation=quick", *SIZED)
    silent = run("model=vanilla", "data.conditioning=command", "trainer.evaluation=quick", *SIZED, outputs="silent")
    assert told is not None
    assert silent is not None
    assert {"cf_kl", "pair_order"} <= set(told["metrics"])
    assert "bpb" in silent["metrics"]
    assert not {"cf_kl", "posterior_accuracy", "bpb_other"} & set(silent["metrics"])
    log = (only_run(tmp_path / "silent") / "run.log").read_text()
    assert "skipped posterior_accuracy" in log


@pytest.mark.usefixtures("quick")
def test_chosen_metrics_are_shown_and_the_whole_group_is_kept_where_it_is_sent(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("model=tarnet", *SIZED)
    folder = only_run(tmp_path / "outputs")
    assert main(["evaluate", str(folder), "--metrics", "cf_kl", "--to", str(tmp_path / "records")]) == 0
    (record,) = (tmp_path / "records").glob("*.json")
    assert {"cf_kl", "factual_kl", "posterior_mae"} <= set(json.loads(record.read_text())["figures"])
    shown = capsys.readouterr().out
    assert "cf_kl" in shown
    assert "factual_kl" not in shown


@pytest.mark.usefixtures("quick", "full")
def test_another_checkpoint_or_suite_leaves_the_records_of_the_best_one_alone(run: Run, tmp_path: Path) -> None:
    run("model=tarnet", *SIZED)
    folder = only_run(tmp_path / "outputs")
    best, last = str(folder), str(folder / "checkpoints/last")
    told = {}
    for name, given in {
        "evaluation": [best],
        "evaluation-last": [last],
        "evaluation-full": [best, "--suite", "full"],
        "evaluation-last-full": [last, "--suite", "full"],
    }.items():
        assert main(["evaluate", *given, "--metrics", "bpb"]) == 0
        told[name] = (folder / name / "heads.json").read_bytes()
    assert {name: (folder / name / "heads.json").read_bytes() for name in told} == told
    assert [json.loads(record)["suite"] for record in told.values()] == ["quick", "quick", "full", "full"]


@pytest.mark.usefixtures("full")
def test_the_full_suite_gives_every_metric_or_tells_why_not(run: Run, tmp_path: Path) -> None:
    summary = run("model=tarnet", "trainer.evaluation=full", *SIZED)
    assert summary is not None
    folder = only_run(tmp_path / "outputs")
    log = (folder / "run.log").read_text()
    skipped = {name for names in re.findall(r"skipped ([^:]+):", log) for name in names.split(", ")}
    names = {name for group in GROUPS for name in group.metrics}
    assert set(summary["metrics"]) & names == names - skipped
    assert {"control_accuracy_lr", "judge_bpb", "ate_error_length", "copy_rate"} <= set(summary["metrics"])
    assert "confounding_bias" in skipped
    for group in GROUPS:
        if not set(group.metrics) <= skipped:
            assert (folder / f"evaluation-full/{group.name}.json").is_file()


@pytest.mark.usefixtures("quick")
def test_pieces_of_structural_reviews_lose_only_what_needs_the_whole_law(run: Run) -> None:
    summary = run("model=tarnet", "data.max_review_chars=40", "trainer.evaluation=quick", *SIZED)
    assert summary is not None
    assert {"bpb_mixture", "posterior_accuracy", "pair_order"} <= set(summary["metrics"])
    assert "cf_kl" not in summary["metrics"]


def test_figures_that_are_not_finite_stay_out_of_the_summary(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "control_ratio_lr": Interval(float("nan"), float("nan"), float("nan"), 2, 2),
        "bpb": Interval(2.0, 1.0, 3.0, 2, 2),
    }
    monkeypatch.setattr(session, "assess", lambda *_, **__: Assessed({}, found, {}))
    summary = run("trainer.evaluation=quick")
    assert summary is not None
    assert summary["metrics"]["bpb"] == 2.0
    assert "control_ratio_lr" not in summary["metrics"]


def test_a_damaged_corpus_costs_its_own_group_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(_: Subject) -> Measured:
        raise DataError("the folder is gone; get it again")

    whole = Measured({"bpb": Interval(2.0, 1.0, 3.0, 2, 2)}, pd.DataFrame())
    groups = (Group("pairs", damaged, ("pair_order",)), Group("heads", lambda _: whole, ("bpb", "bpb_y0")))
    monkeypatch.setattr(suite, "GROUPS", groups)
    said: list[str] = []
    subject: Any = SimpleNamespace(say=said.append, config=imdb())
    assert list(evaluate(subject, Suite.quick)) == [("heads", whole)]
    assert said == [
        "skipped pair_order: the folder is gone; get it again",
        "skipped bpb_y0: this model and these reviews do not give it",
    ]


@pytest.mark.parametrize("num_reviews", [3, 4, 50])
def test_without_a_test_split_no_judged_review_calibrates(
    num_reviews: int, monkeypatch: pytest.MonkeyPatch, scored: list[list[str]]
) -> None:
    """Labels alternate, so that every second row would be of one label."""
    sizes = subjects.Sizes(reviews=num_reviews, law_reviews=1, pairs=1, samples=0)
    monkeypatch.setitem(subjects.SIZES, Suite.quick, sizes)
    split = Split.of([Review(f"review {row}", row % 2) for row in range(20)])
    subject = Subject(imdb(), listening(scored), {"validation": split}, Suite.quick, Path(), print)
    judged, calibrating = subject.judged.treatment_R, subject.calibration.treatment_R
    assert len(judged) == len(calibrating) == min(num_reviews, 10)
    assert abs(2 * judged.sum() - len(judged)) <= 1
    assert abs(2 * calibrating.sum() - len(calibrating)) <= 1
    assert not set(scored[0]) & {review.text for review in subject.judged.reviews}


def test_judges_are_not_replaced_where_the_originals_cannot_be_told() -> None:
    train = Split.of([Review("a dull film.", 0), Review("a fine film.", 1)])
    subject = Subject(
        imdb("data.cad=somewhere"), listening([]), {"train": train, "validation": train}, Suite.quick, Path(), print
    )
    with pytest.raises(NotMeasurableError, match="fetches nothing: set NANO_LLM_IMDB"):
        corpora.judges_training_set(subject)
    missing = Subject(
        imdb("data.cad=somewhere", "data.path=nowhere"), listening([]), subject.splits, Suite.quick, Path(), print
    )
    with pytest.raises(DataError, match=r"data\.path=nowhere is not a folder"):
        corpora.judges_training_set(missing)


def test_the_judge_of_fluency_reads_all_but_the_compared_reviews_and_their_movies() -> None:
    reviews = [Review(f"text {row}", row % 2, movie=f"tt{row // 2}") for row in range(12)]
    split = Split.of(reviews)
    subject = Subject(imdb(), listening([]), {"validation": split, "test": split}, Suite.quick, Path(), print)
    real = TextSample(["text 2", "text 3"], [None, None], np.ones(2, np.bool_), np.full(2, 6))
    subject.__dict__["compared_samples"] = (real, real)
    assert corpora.fluency_texts(subject) == [review.text for review in reviews if review.movie != "tt1"]


# --------------------------------------------------------------------------------------- comparison


def records_of(folder: Path) -> dict[str, Any]:
    """Return all figures of the records in a folder."""
    records = [json.loads(path.read_text()) for path in folder.glob("*.json") if not path.stem.startswith("against")]
    return {name: figure for record in records for name, figure in record.get("figures", {}).items()}


@pytest.mark.usefixtures("quick")
def test_two_runs_are_compared_on_the_figures_of_their_records(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    run("model=tarnet", *SIZED, outputs="a")
    run("model=tarnet", "seed=1", *SIZED, outputs="b")
    a, b = only_run(tmp_path / "a"), only_run(tmp_path / "b")
    assert main(["evaluate", str(a), "--against", str(b), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    record = json.loads((a / f"evaluation/against-{b.parent.name}-seed-1.json").read_text())
    of_a, of_b = records_of(a / "evaluation"), records_of(b / "evaluation")
    ece = {"posterior_ece", "posterior_ece_scaled", "posterior_ece_length_scaled"}
    assert set(record["left_out"]) == ece
    assert set(record["figures"]) == set(of_a) - ece
    for name, found in record["figures"].items():
        assert (found["a"], found["b"]) == (of_a[name]["value"], of_b[name]["value"]), name
        assert found["difference"] == found["a"] - found["b"], name
        assert found["low"] <= found["difference"] <= found["high"], name
        assert found["n"] == of_a[name]["n"]
        line = next(line for line in shown.splitlines() if line.split()[:1] == [name])
        assert f"{found['difference']:+.4f}" in line
    assert record["figures"]["bpb"]["low"] < record["figures"]["bpb"]["high"]
    assert "left out, as only one has it or it follows from no reviews of both: posterior_ece," in shown
    assert record["b"] == {
        "model": str(b),
        **{
            key: json.loads((b / "evaluation/heads.json").read_text())[key]
            for key in ("suite", "step", "data", "device")
        },
    }


@pytest.mark.usefixtures("quick")
def test_a_run_differs_from_itself_by_nothing_and_from_other_learners_in_what_both_have(
    run: Run, tmp_path: Path
) -> None:
    """Prompts, so fingerprints, and the number of outcomes differ between learners, the judged reviews do not."""
    run("model=tarnet", *SIZED, outputs="two")
    run("model=vanilla", *SIZED, outputs="told")
    run("model=vanilla", "data.conditioning=command", *SIZED, outputs="one")
    two, told, one = (only_run(tmp_path / name) for name in ("two", "told", "one"))
    assert main(["evaluate", str(two), "--against", str(two), "--to", str(tmp_path / "same")]) == 0
    (path,) = (tmp_path / "same").glob("against-*.json")
    same = json.loads(path.read_text())["figures"]
    assert {"bpb", "cf_kl", "token_pehe", "pair_order", "posterior_log_loss"} <= set(same)
    for found in same.values():
        assert (found["difference"], found["low"], found["high"]) == (0.0, 0.0, 0.0)
    for other, has, lacks in ((told, {"bpb", "cf_kl", "pair_order"}, "posterior_ece"), (one, {"bpb"}, "cf_kl")):
        folder = tmp_path / f"against-{other.parent.name}"
        assert main(["evaluate", str(two), "--against", str(other), "--to", str(folder)]) == 0
        record = json.loads((folder / f"against-{other.parent.name}-seed-0.json").read_text())
        assert has <= set(record["figures"])
        assert lacks in record["left_out"]
        assert (record["a"]["data"] == record["b"]["data"]) == (other == one)
        assert (folder / f"{other.parent.name}-seed-0/heads.json").is_file()
    assert set(record["figures"]) == {"bpb"}


@pytest.mark.usefixtures("quick")
def test_runs_that_were_judged_on_other_reviews_are_not_compared(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*SIZED, outputs="a")
    run(*SIZED, "data.corpus_seed=5", outputs="b")
    a, b = only_run(tmp_path / "a"), only_run(tmp_path / "b")
    assert main(["evaluate", str(a), "--against", str(b), "--metrics", "bpb"]) == 2
    error = capsys.readouterr().err
    for folder in (a, b):
        assert str(folder) in error
        assert json.loads((folder / "evaluation/heads.json").read_text())["data"] in error
    assert not list((a / "evaluation").glob("against-*"))


@pytest.mark.usefixtures("quick")
def test_the_rows_on_disk_give_the_figures_of_the_record(run: Run, tmp_path: Path, imdb_run: Path) -> None:
    """Exactly, intervals included; the rows of IMDB know their movies."""
    run("model=tarnet", "data.topic=hidden", *SIZED, outputs="scm")
    for folder in (only_run(tmp_path / "scm"), imdb_run):
        best = checkpoint.load(folder / "checkpoints/best")
        config = best.config
        data = prepare(config.data, config.protocol, 2, Path(config.paths.cache), print)
        records = tmp_path / folder.parent.name
        found = assess(best, data, find_machine(config.trainer), Suite.quick, records, say=print)
        told = records_of(records)
        paired = 0
        for group, measured in found.groups.items():
            for name, recipe in measured.recipes.items():
                interval = recipe.interval(pd.read_parquet(records / f"{group}.parquet"))
                assert {key: told[name][key] for key in vars(interval)} == vars(interval), name
                paired += 1
        assert paired >= 10
        rows = pd.read_parquet(records / "heads.parquet")
        assert ("movie" in rows) == (folder == imdb_run)
        assert told["bpb"]["num_clusters"] == (rows["movie"].nunique() if folder == imdb_run else len(rows))


# -------------------------------------------------------------------------------------------- needs


def test_the_list_names_every_metric_with_what_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["evaluate", "--list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for group in GROUPS:
        for name in group.metrics:
            assert group.need.corpora in lines[name]
            assert METRICS[name].meaning in lines[name]
    assert "scm; imdb with CAD" in lines["pair_order"]


def test_what_the_corpus_lacks_is_told_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group of the suite, asked of corpora that serve it and of corpora that do not."""
    measured: list[str] = []

    def deaf(group: Group) -> Group:
        def note(_: Subject) -> Measured:
            measured.append(group.name)
            return Measured({}, pd.DataFrame())

        return replace(group, measure=note)

    monkeypatch.setattr(suite, "GROUPS", tuple(map(deaf, GROUPS)))
    everywhere = {"heads", "posterior", "divergence", "control", "texts"}
    law = {"corpus", "sequences", "effects", "pairs"}
    for config, served, told in (
        (imdb(), everywhere, "skipped cf_kl, factual_kl"),
        (imdb("data.cad=somewhere"), everywhere | {"pairs"}, "known; train with data=scm"),
        (compose_config(["data=scm"]), everywhere | law | {"truth"}, "train with data.topic=hidden"),
        (compose_config(["data=scm", "data.topic=hidden"]), everywhere | law | {"truth", "confounding"}, ""),
        (compose_config(["data=scm", "data.max_review_chars=40"]), everywhere | {"pairs"}, "max_review_chars=null"),
        (compose_config(["data=scm", "data.tokenizer.kind=bpe"]), everywhere | law, "data.tokenizer.kind=words"),
    ):
        said: list[str] = []
        measured.clear()
        subject: Any = SimpleNamespace(say=said.append, config=config)
        list(evaluate(subject, Suite.full))
        assert set(measured) == served
        assert told in "\n".join(said)


# --------------------------------------------------------------------------------------------- IMDB


def test_counterfactual_pairs_are_judged_unless_they_were_trained_on(
    imdb_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    summary = json.loads((imdb_run / "summary.json").read_text())
    log = (imdb_run / "run.log").read_text()
    assert "skipped pair_order, pair_both_right, localisation: counterfactually augmented reviews are needed" in log
    assert {"posterior_accuracy", "bpb_y0"} <= set(summary["metrics"])
    heads = json.loads((imdb_run / "evaluation/heads.json").read_text())
    assert heads["figures"]["bpb"]["num_clusters"] < heads["figures"]["bpb"]["n"]  # movies

    texts = [row[0] for row in imdb_reviews(0)]
    trained_on = pair(texts[0], 1)
    unseen = pair("an odd little western that nobody whom I know has ever seen or heard of, in colour. dull.", 2)
    cad = write_cad(tmp_path / "cad", [*trained_on, *unseen])
    capsys.readouterr()
    assert main(["evaluate", str(imdb_run), "--cad", str(cad)]) == 0
    assert "1 of 2 counterfactual pairs are left out: they were trained on" in capsys.readouterr().out
    pairs = json.loads((imdb_run / "evaluation/pairs.json").read_text())
    assert pairs["figures"]["pair_order"]["n"] == 1
    assert pairs["details"]["pairs_left_out_as_trained_on"] == 1

    only_trained_on = write_cad(tmp_path / "trained", trained_on)
    assert main(["evaluate", str(imdb_run), "--cad", str(only_trained_on), "--to", str(tmp_path / "records")]) == 0
    assert "were trained on; train with data.exclude_cad=true" in capsys.readouterr().out
    assert not (tmp_path / "records/pairs.json").exists()
    assert (tmp_path / "records/heads.json").exists()


@pytest.mark.usefixtures("full")
def test_a_missing_folder_of_pairs_costs_what_needs_it_only(
    imdb_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NANO_LLM_CAD", str(tmp_path / "absent"))
    assert main(["evaluate", str(imdb_run), "--suite", "full"]) == 0
    shown = capsys.readouterr().out
    for metric in ("pair_order", "control_accuracy_lr"):
        line = next(line for line in shown.splitlines() if line.startswith(f"skipped {metric}"))
        assert "absent is not a folder. Get the folder sentiment/combined/paired" in line
    assert (imdb_run / "evaluation-full/texts.json").is_file()
    monkeypatch.delenv("NANO_LLM_CAD")
    assert main(["evaluate", str(imdb_run), "--suite", "full", "--metrics", "control_accuracy_lr"]) == 0
    assert "control_accuracy_lr" in json.loads((imdb_run / "evaluation-full/control.json").read_text())["figures"]


def test_all_that_is_measured_is_cut_by_the_tokenizer_of_the_checkpoint(imdb_run: Path, tmp_path: Path) -> None:
    """Prepared data may have another one: of an imported checkpoint it always has."""
    best = checkpoint.load(imdb_run / "checkpoints/best")
    config = best.config
    cache = Path(config.paths.cache)
    tokenizer = replace(config.data.tokenizer, vocab_size=280)
    data = prepare(replace(config.data, tokenizer=tokenizer), config.protocol, 2, cache, print)
    assess(best, data, find_machine(config.trainer), Suite.quick, tmp_path / "records", say=print)
    for name in ("heads", "divergence"):
        records = [
            json.loads((at / f"{name}.json").read_text()) for at in (tmp_path / "records", imdb_run / "evaluation")
        ]
        assert records[0]["data"] != records[1]["data"]
        for part in ("figures", "details"):
            assert records[0][part] == records[1][part]
    rows = pd.read_parquet(tmp_path / "records/heads.parquet")
    assert records[0]["details"]["all"]["targets"] == rows["tokens"].sum()


def test_pairs_of_imdb_are_refused_for_another_corpus(run: Run, tmp_path: Path) -> None:
    run()
    assert main(["evaluate", str(only_run(tmp_path / "outputs")), "--cad", "cad"]) == 2


def test_the_latest_run_is_looked_for_where_runs_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NANO_LLM_OUTPUTS", str(tmp_path / "kept"))
    assert main(["evaluate", "latest"]) == 2
    assert f"below {tmp_path / 'kept'}" in capsys.readouterr().err


def test_an_unknown_metric_suggests_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "latest", "--metrics", "cf_lk"]) == 2
    assert "did you mean cf_kl" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        chosen_groups(Suite.quick, ["nothing"])


def test_every_metric_of_the_suite_has_unit_direction_and_meaning() -> None:
    names = [name for group in GROUPS for name in group.metrics]
    assert len(names) == len(set(names))
    assert set(names) <= set(METRICS)


def test_the_list_of_metrics_is_whole_in_a_pipe_or_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["evaluate", "--list"]) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    for name in (name for group in GROUPS for name in group.metrics):
        assert METRICS[name].title(name) in shown
        assert METRICS[name].meaning.split()[0] in shown
    assert "bits a byte" in shown
    assert "nats a review" in shown
