"""What a sweep still has to do."""

import errno
import os
from pathlib import Path

import pytest

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import SweepConfig
from nano_llm.errors import CheckpointError
from nano_llm.files import write_json
from nano_llm.identity import finished_summary
from nano_llm.sweep.cell import Cell
from nano_llm.sweep.plan import Plan, Work, is_finished, work_of
from nano_llm.sweep.sweep import missing_results
from tiny_run import TINY_RUN


def cell(tmp_path: Path, seed: int) -> Cell:
    words = [*TINY_RUN, f"paths.outputs={tmp_path}/outputs", f"paths.cache={tmp_path}/cache", f"seed={seed}"]
    return Cell.of(compose_config(words), words)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_cell_whose_folder_cannot_be_looked_into_is_not_finished_and_the_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    cells = [cell(tmp_path, seed) for seed in (0, 1)]
    for one in cells:
        (one.path / "checkpoints/best").mkdir(parents=True)
        write_json(one.path / "summary.json", {"id": one.id})
        write_json(one.path / "status.json", {"state": "finished"})
    intact = Path.stat

    def fail(path: Path, **how: bool) -> os.stat_result:
        if path.is_relative_to(cells[0].path / "checkpoints"):
            raise OSError(number, os.strerror(number), str(path))
        return intact(path, **how)

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(CheckpointError):
        finished_summary(cells[0].id, cells[0].path)
    assert [is_finished(one) for one in cells] == [False, True]
    assert [work_of(one) for one in cells] == [Work.resumed, Work.reused]
    plan = Plan(tmp_path, SweepConfig(), cells)
    assert plan.open_cells() == cells[:1]
    assert plan.counts() == "2 cells: 1 reused, 1 resumed, 0 computed"
    assert len(missing_results(cells)) == 1
