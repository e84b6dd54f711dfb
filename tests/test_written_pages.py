"""Pages that tools write are what the tools write: of every setting, and of every metric."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from nano_llm.config.register import SCHEMAS
from nano_llm.metrics import METRICS

ROOT = Path(__file__).resolve().parents[1]


def tool(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / f"tools/{name}.py"))


@pytest.mark.parametrize("name", ["configuration", "metrics"])
def test_a_committed_page_is_what_its_tool_writes(name: str) -> None:
    page = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    assert tool(name)["render"]() == page, f"run: python tools/{name}.py"


def test_every_metric_has_a_row() -> None:
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert not [name for name in METRICS if page.count(f"| `{name}`") != 1]


def test_every_group_has_a_section_and_every_setting_a_row() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    sections = {section.splitlines()[0]: section for section in page.split("\n## ")}
    for group, _, schema in SCHEMAS:
        rows = sections[group or "The run"]
        for name in tool("configuration")["settings_of"](schema):
            assert re.search(rf"^\| `([a-z]+\.)?{re.escape(name)}`", rows, re.MULTILINE), f"{group}: {name}"
