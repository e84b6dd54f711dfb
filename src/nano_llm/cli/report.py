"""``nano-llm report``: tables, figures and a page from the files of a study."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from nano_llm.report.report import write_report


def main(arguments: Sequence[str]) -> int:
    """Write the report and print its essence."""
    parser = argparse.ArgumentParser(
        prog="nano-llm report",
        description="Collect the runs of a study into tables, figures and one HTML page; run it as often as you like.",
        epilog="example: nano-llm report outputs/quick_table --baseline vanilla",
    )
    parser.add_argument("study", type=Path, help="folder of the study, such as outputs/runs")
    parser.add_argument("--to", type=Path, help="folder to write to; default: STUDY/report")
    parser.add_argument("--baseline", help="label of the arm that the others are compared to; default: the first")
    given = parser.parse_args(arguments)
    report = write_report(given.study, given.to, given.baseline)
    print(report.text)
    print(f"The page is {report.page}")
    return 0
