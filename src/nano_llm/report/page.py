"""One self-contained HTML page: tables, figures and notes, for light and dark, wide and narrow screens."""

from collections.abc import Sequence
from importlib.resources import files

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

SECTIONS = {"curve": "Learning curves", "truth": "Against the truth", "weight": "Separation", "cost": "Cost"}
"""Prefix of a figure's name -> the heading that it stands under."""


def render(
    *,
    title: str,
    counts: str,
    warnings: Sequence[str],
    notes: Sequence[str],
    comparison: pd.DataFrame,
    differences: pd.DataFrame,
    failures: pd.DataFrame,
    figures: dict[str, str],
    reproduce: str,
    footer: str,
) -> str:
    """Return the page; texts are escaped, figures are SVG of our own."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))
    sections = [
        (heading, [Markup(svg) for name, svg in figures.items() if name.startswith(prefix)])
        for prefix, heading in SECTIONS.items()
    ]
    return template.render(
        title=title,
        counts=counts,
        warnings=warnings,
        notes=notes,
        comparison=_html(comparison, "numbers"),
        differences=_html(differences, "words"),
        failures=_html(failures, "words"),
        sections=sections,
        reproduce=reproduce,
        footer=footer,
    )


def _html(table: pd.DataFrame, kind: str) -> Markup:
    """Return a table with its cells escaped; nothing for an empty one."""
    if table.empty:
        return Markup("")
    return Markup(table.to_html(index=False, border=0, classes=kind, justify="inherit"))
