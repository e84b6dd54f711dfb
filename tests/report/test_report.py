"""The report of studies made by hand."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from study_files import write_manifest, write_run

from nano_llm.cli.report import main
from nano_llm.config import register, schema
from nano_llm.errors import OutputError
from nano_llm.report.published import PUBLISHED
from nano_llm.report.report import write_report
from nano_llm.report.table import READOUTS, TRUNKS

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
COMMITTED = sorted(path.parents[1] for path in EXPERIMENTS.glob("*/report/table.md"))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two arms over three seeds that differ in the weight; the second arm lacks one seed and failed in another."""
    study = tmp_path / "mine"
    for seed in range(3):
        write_run(study, "tarnet", "aaaaaaaaaaaa", seed, weight=0.0, val_ce=2.0 + seed, val_bpb=1.0 + seed, val_js=0.01)
    write_run(study, "tarnet", "bbbbbbbbbbbb", 0, weight=0.1, val_ce=2.5, val_bpb=1.5, val_js=0.02)
    write_run(study, "tarnet", "bbbbbbbbbbbb", 1, weight=0.1, state="failed", error="killed by SIGKILL")
    write_manifest(study, *((("tarnet", i * 12, seed)) for i in "ab" for seed in range(3)))
    return study


def test_arms_are_told_apart_by_the_setting_in_which_they_differ(study: Path) -> None:
    text = write_report(study).text
    assert "tarnet weight=0 " in text
    assert "tarnet weight=0.1 " in text


def test_means_and_intervals_over_seeds(study: Path) -> None:
    write_report(study)
    table = pd.read_csv(study / "report/table.csv").set_index(["arm", "metric"])
    row = table.loc[("tarnet weight=0", "val_ce")]
    assert (row["mean"], row["n"], row["cells"]) == (3.0, 3, 3)
    assert row["low"] == pytest.approx(3 - 2.484138, abs=1e-6)


def test_cells_without_a_result_are_counted_and_explained(study: Path) -> None:
    text = write_report(study).text
    assert "1/3" in text
    assert "killed by SIGKILL" in text
    assert "tarnet weight=0.1 seed 2" in text or "queued" in text
    assert "2 arms, 6 runs: 1 failed, 4 finished, 1 queued" in text


def test_an_arm_without_any_result_keeps_its_row(tmp_path: Path) -> None:
    write_run(tmp_path, "good", val_ce=2.0)
    for seed in range(3):
        write_run(tmp_path, "bad", "cccccccccccc", seed, state="failed", error="no")
    assert "- (0/3)" in write_report(tmp_path).text


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    for seed, level in enumerate((1.0, 5.0, 9.0, 2.0, 4.0, 7.0)):
        write_run(tmp_path, "base", "aaaaaaaaaaaa", seed, val_bpb=level)
        write_run(tmp_path, "new", "bbbbbbbbbbbb", seed, val_bpb=level - 0.1 - 0.01 * seed)
    text = write_report(tmp_path).text
    assert "-0.1250" in text
    assert "better" in text
    assert "worse" in write_report(tmp_path, baseline="new").text


def test_arms_on_different_corpora_are_not_compared(tmp_path: Path) -> None:
    effects = {"ScmConfig": 1.0, "NullScmConfig": 0.0}
    corpora = ("ScmConfig", "ScmConfig", "ImdbConfig", "ImdbConfig", "NullScmConfig", "NullScmConfig")
    names = ("one", "two", "three", "four", "five", "six")
    for name, corpus in zip(names, corpora, strict=True):
        for seed in range(2):
            folder = write_run(tmp_path, name, f"{name:x<12}", seed, val_bpb=1.0 + seed)
            cell = json.loads((folder / "cell.json").read_text())
            cell["config"]["data"]["type"] = corpus.removeprefix("Null")
            if corpus in effects:
                cell["config"]["data"]["effect"] = effects[corpus]
            (folder / "cell.json").write_text(json.dumps(cell))
    write_manifest(tmp_path, *((name, f"{name:x<12}", 0) for name in names))
    text = write_report(tmp_path).text
    assert re.search(r"\| two +\| one ", text)
    assert re.search(r"\| four +\| three ", text)
    assert re.search(r"\| six +\| five ", text)
    assert not re.search(r"\| (three|five) +\| one ", text)


def test_twice_the_same_bytes(study: Path, tmp_path: Path) -> None:
    first = write_report(study, tmp_path / "first")
    second = write_report(study, tmp_path / "second")
    files = sorted(path.relative_to(first.folder) for path in first.folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second.folder) for path in second.folder.rglob("*") if path.is_file())
    assert all((first.folder / name).read_bytes() == (second.folder / name).read_bytes() for name in files)
    names = {name.as_posix() for name in files}
    assert {"results.csv", "results.parquet", "table.md", "table.csv", "table.tex", "index.html", "REPRODUCE.md",
            "figures/curve_step.svg", "figures/weight_val_js.svg"} <= names  # fmt: skip


def test_the_long_table_has_a_row_for_each_run_and_figure(study: Path) -> None:
    write_report(study)
    table = pd.read_csv(study / "report/results.csv")
    assert len(pd.read_parquet(study / "report/results.parquet")) == len(table)
    row = table[(table.metric == "val_js") & (table.arm == "tarnet weight=0.1")]
    assert row["value"].tolist() == [0.02]
    assert set(table["state"]) == {"finished", "failed", "queued"}


def test_the_page_stands_alone_and_names_every_arm(study: Path) -> None:
    page = write_report(study).page.read_text()
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert "tarnet weight=0.1" in page
    assert "<svg" in page
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page


def test_names_of_runs_cannot_inject_markup(tmp_path: Path) -> None:
    write_run(tmp_path, "<script>alert(1)<script>", val_ce=1.0)
    assert "<script>" not in write_report(tmp_path).page.read_text()


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "cell.json", "environment.json", "status.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", None])
def test_a_damaged_file_costs_only_what_it_held(study: Path, name: str, content: bytes | None) -> None:
    file = study / "tarnet-aaaaaaaaaaaa/seed-0" / name
    file.unlink() if content is None else file.write_bytes(content)
    assert "6 runs" in write_report(study).text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "{}"), ("summary.json", '{"metrics": 3}'), ("summary.json", '{"metrics": {"val_ce": "x"}}'),
        ("cell.json", "{}"), ("cell.json", '{"config": 3}'), ("data.json", '{"settings": 3, "fingerprint": {}}'),
        ("environment.json", '{"git": 3}'), ("environment.json", '{"git": {"commit": 5}}'),
        ("metrics.jsonl", '{"split": "validation", "step": "a", "val_ce": "x", "val_bpb": {}}'),
        ("../../sweep.json", '{"cells": [{}, 3], "commands": [3]}'),
        ("../../sweep.json", '{"cells": 3, "commands": 3}'),
    ],
)  # fmt: skip
def test_json_of_another_shape_costs_only_what_it_held(study: Path, name: str, content: str) -> None:
    (study / "tarnet-aaaaaaaaaaaa/seed-0" / name).write_text(content)
    assert "runs" in write_report(study).text


def test_a_result_that_is_gone_is_explained(study: Path) -> None:
    (study / "tarnet-aaaaaaaaaaaa/seed-0/summary.json").unlink()
    assert "summary.json is missing or damaged" in write_report(study).text


def test_a_seed_without_settings_does_not_name_its_arm(study: Path) -> None:
    (study / "tarnet-aaaaaaaaaaaa/seed-0/cell.json").unlink()
    assert "tarnet weight=0 " in write_report(study).text


def test_latex_has_its_own_arrows(study: Path) -> None:
    write_report(study)
    assert (study / "report/table.tex").read_text().isascii()


def test_committed_results_without_a_status_count_as_finished(study: Path) -> None:
    for path in study.rglob("status.json"):
        path.unlink()
    assert "4 finished" in write_report(study).text


def test_no_runs_is_an_error_that_helps(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="outputs/runs"):
        write_report(tmp_path)


def test_an_unknown_baseline_names_the_known(study: Path) -> None:
    with pytest.raises(OutputError, match="tarnet weight=0"):
        write_report(study, baseline="nobody")


def test_different_code_is_warned_of(study: Path) -> None:
    file = study / "tarnet-aaaaaaaaaaaa/seed-0/environment.json"
    file.write_text(json.dumps({"git": {"commit": "decaf", "dirty": False}}))
    assert "different code" in write_report(study).text


def test_a_printed_command_means_to_a_shell_what_was_typed(study: Path) -> None:
    typed = [
        ["model=tarnet", "sweep.seeds=3"],
        ["sweep.rows=['model=vanilla','model=tarnet']"],
        ["data.path=a=b&c", "name=it's", "data.path=/with space/$HOME", "seed=range(0,5)", "data.path=~/x|y`z`#!"],
    ]
    manifest = json.loads((study / "sweep.json").read_text())
    (study / "sweep.json").write_text(json.dumps(manifest | {"commands": typed}))
    write_report(study)
    printed = re.findall(r"^python .*$", (study / "report/REPRODUCE.md").read_text(), re.MULTILINE)
    assert [shlex.split(line) for line in printed] == [
        ["python", "-m", "nano_llm.run", "-m", *words] for words in typed
    ]


def test_what_the_runs_do_not_tell_of_their_data_is_said(study: Path) -> None:
    (study / "tarnet-aaaaaaaaaaaa/seed-0/data.json").write_text('{"fingerprint": "feedbead"}')
    write_report(study)
    text = (study / "report/REPRODUCE.md").read_text()
    assert "# data feedbead\n# data not recorded: 4 of 5 runs" in text  # the sixth has not begun
    assert "# commit c0ffee\n#" in text
    assert "commit not recorded" not in text


def test_the_command_prints_and_writes_elsewhere(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(study), "--to", str(tmp_path / "there")]) == 0
    assert "tarnet weight=0.1" in capsys.readouterr().out
    assert (tmp_path / "there/index.html").exists()
    assert not (study / "report").exists()


def test_a_report_needs_no_torch(study: Path) -> None:
    code = "import sys; from nano_llm.cli.main import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "report", str(study)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_moved_study_reports_the_same_table(study: Path, tmp_path: Path) -> None:
    before = write_report(study).text
    moved = shutil.copytree(study, tmp_path / "moved")
    assert write_report(moved).text == before


@pytest.mark.parametrize(
    ("labels", "base"), [(TRUNKS, schema.TrunkConfig), (READOUTS, schema.ReadoutConfig)], ids=["trunks", "readouts"]
)
def test_every_trunk_and_readout_has_a_label(labels: dict[str, str], base: type) -> None:
    assert set(labels) == {node.__name__ for _, _, node in register.SCHEMAS if issubclass(node, base)}


def tables(markdown: str) -> list[dict[str, str]]:
    """Return the rows of all tables in a text, by the titles of their columns."""
    rows: list[dict[str, str]] = []
    titles: list[str] | None = None
    for line in markdown.splitlines():
        if not line.startswith("|"):
            titles = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if titles is None:
            titles = cells
        elif not set(line) <= set("|:-"):
            rows.append(dict(zip(titles, cells, strict=True)))
    return rows


def committed_rows(study: str) -> list[dict[str, str]]:
    return tables((EXPERIMENTS / study / "report/table.md").read_text())


@pytest.mark.parametrize("study", COMMITTED, ids=lambda path: path.name)
def test_a_committed_report_is_what_its_runs_give(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the pictures, whose bytes belong to a version of matplotlib."""
    monkeypatch.setattr("nano_llm.report.report.draw", lambda *_: {})
    write_report(study, tmp_path)
    for name in ("table.md", "table.csv", "results.csv", "REPRODUCE.md"):
        assert (tmp_path / name).read_bytes() == (study / "report" / name).read_bytes(), f"nano-llm report {study}"


@pytest.mark.parametrize("study", COMMITTED, ids=lambda path: path.name)
def test_a_committed_table_names_its_result_set(study: Path) -> None:
    digest = hashlib.sha256((study / "report/results.csv").read_bytes()).hexdigest()[:12]
    assert f"Result set {digest}." in (study / "report/table.md").read_text()


def test_the_readme_quotes_committed_tables() -> None:
    """Its rows of results, column by column; the prose tables have other first titles."""
    quoted = [row for row in tables((ROOT / "README.md").read_text()) if "arm" in row]
    committed = [row for study in ("demo", "quick_table") for row in committed_rows(study)]
    assert len(quoted) == 7
    for row in quoted:
        assert any(row.items() <= other.items() for other in committed), row


@pytest.mark.parametrize("study", ["quick_table", "separation", "separation_truth", "learners"])
def test_a_study_quotes_its_committed_table(study: str) -> None:
    """Every number stands in the rows of its arm, which the first cell names by label or by its setting."""
    others = {"control", "forward MFLOPs a token"}  # of tables whose figures are from elsewhere
    quoted = [row for row in tables((EXPERIMENTS / study / "README.md").read_text()) if others.isdisjoint(row)]
    assert quoted
    for row in quoted:
        first, *cells = row.values()
        arms = [other for other in committed_rows(study) if other["arm"] == first or other["arm"].endswith(f"={first}")]
        known = set(re.findall(r"[-+]?\d+\.\d{4}", str(arms)))
        assert set(re.findall(r"[-+]?\d+\.\d+", str(cells))) <= known, row


def test_the_control_of_the_learners_is_quoted_from_their_evaluations() -> None:
    rows = [row for row in tables((EXPERIMENTS / "learners/README.md").read_text()) if "control" in row]
    assert len(rows) == 8
    for row in rows:
        paths = EXPERIMENTS.glob(f"learners/{row['arm']}-????????????/seed-*/evaluation-full/control.json")
        figures = [json.loads(path.read_text())["figures"] for path in paths]
        assert len(figures) == 5
        for title, name in (("control", "control_accuracy_lr"), ("ceiling", "control_ceiling_lr")):
            assert row[title] == f"{mean(figure[name]['value'] for figure in figures):.3f}"


def test_the_pairs_are_quoted_from_their_figures() -> None:
    """In the study and in the README alike."""
    found = json.loads((EXPERIMENTS / "pairs/pairs.json").read_text())
    rows = [row for path in ("experiments/pairs/README.md", "README.md") for row in tables((ROOT / path).read_text())]
    quoted = [row for row in rows if "pair" in row or "steering" in row]
    assert len(quoted) == len(found["pairs"]) + len(found["steered"]) + 1 + 3
    real = {"control": found["ceiling"], "bits": found["real_bits"]}
    figures = found["pairs"] | found["steered"] | {"real reviews": real}
    for row in quoted:
        name, *cells = row.values()
        known = [f"{figures[name]['length_gap_variance']:.0f}"] if "pair" in row else []
        for key in ("edit_share", "control", "bits"):
            if key in figures[name]:
                known.append("{value:.3f} [{low:.3f}, {high:.3f}]".format(**figures[name][key]))
        assert set(cells) <= set(known), row


def test_ten_minutes_on_the_real_reviews_are_quoted_from_their_summaries() -> None:
    for row in tables((EXPERIMENTS / "imdb_nano/README.md").read_text()):
        summary = json.loads((EXPERIMENTS / "imdb_nano" / row["model"] / "summary.json").read_text())
        assert (row["parameters"], row["steps"]) == (f"{summary['parameters']:,}", f"{summary['steps']:,}")
        assert row["trained tokens"] == f"{summary['tokens'] / 1e6:.2f} M"
        names = ("val_ce", "val_bpb", "test_ce", "test_bpb")
        assert [row[name] for name in names] == [f"{summary['metrics'][name]:.3f}" for name in names]


def test_the_published_table_is_quoted_as_it_is_compared() -> None:
    rows = tables((EXPERIMENTS / "table512/README.md").read_text())
    assert [row["run"].strip("`") for row in rows] == list(PUBLISHED)
    for row, published in zip(rows, PUBLISHED.values(), strict=True):
        ce = (f"{published.best_ce:.3f}", f"{published.final_ce:.3f}")
        assert (row["published best CE"], row["final CE"]) == ce
        assert (row["PPL"], row["hours"]) == (f"{published.ppl:.2f}", f"{published.hours:.1f}")
        assert (row["parameters"], row["epochs"]) == (f"{published.parameters:,}", str(published.epochs))


def test_every_study_is_listed() -> None:
    listed = set(re.findall(r"\]\((\w+)/README\.md\)", (EXPERIMENTS / "README.md").read_text()))
    assert listed == {path.parent.name for path in EXPERIMENTS.glob("*/README.md")}


def test_the_analysis_takes_the_gain_at_half_of_the_steps() -> None:
    """Four validations, one of them late: at step 50 of 100 the figure is half-way between 9 and 7."""
    *_, cell = (EXPERIMENTS / "analysis/analysis.py").read_text().split("# %%\n")
    curve = pd.DataFrame({"folder": "f", "step": [10, 40, 60, 100], "val_bpb": [10.0, 9.0, 7.0, 6.0]})
    runs = pd.DataFrame({"folder": ["f"], "arm": ["a"]})
    names = {"study": SimpleNamespace(curves=curve), "runs": runs, "pd": pd, "np": np}
    exec(cell, names)
    assert names["by_half"].to_dict() == {"a": 0.5}
