"""Tables as text: rows of values between commas or tabs, quoted where a value holds one, the names of columns first."""

import csv
from pathlib import Path

from nano_llm.errors import DataError

LONGEST_VALUE = 1 << 30
"""Characters; the library's own limit of 131,072 is shorter than some reviews."""
_NAMES = {",": "comma-separated", "\t": "tab-separated"}


def read_rows(file: Path, delimiter: str, *, remedy: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns, and the rows with the line that each ends on, from 1; blank lines are no rows.

    Args:
        file: To be read.
        delimiter: A comma or a tab.
        remedy: What to do about a row of too many or too few values, as a sentence.

    Raises:
        DataError: The file is unreadable, no text in UTF-8, not of this form, or a row has too many or too few values.
    """
    limit = csv.field_size_limit(LONGEST_VALUE)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file} is not a readable file of {_NAMES[delimiter]} rows in UTF-8: {error}. Write or fetch it again."
        ) from error
    finally:
        csv.field_size_limit(limit)
    columns = rows[0][1] if rows else []
    for line, row in rows:
        if len(row) != len(columns):
            raise DataError(f"{file}, line {line}: {len(row)} columns, expected {len(columns)}. {remedy}")
    return columns, rows[1:]
