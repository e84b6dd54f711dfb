"""Print what an installation with all extras for users needs, but for torch: a requirement of pyproject.toml a line."""

import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMBINED, FOR_DEVELOPERS = "all", "dev"
"""The extra that repeats the others, and the one that users do not install."""


def requirements() -> list[str]:
    """Return the requirements; torch is left out, for which of its builds fits depends on the accelerator."""
    extras = PROJECT["optional-dependencies"]
    of_users = [line for name in extras if name not in (COMBINED, FOR_DEVELOPERS) for line in extras[name]]
    lines = [*PROJECT["dependencies"], *of_users]
    return [line for line in lines if re.split(r"[<>=!~; ]", line)[0] != "torch"]


if __name__ == "__main__":
    print("\n".join(requirements()))
