"""``nano-llm doctor``: what is here, and what is wrong with it."""

import argparse
import json
from collections.abc import Iterator, Sequence

from nano_llm.cli.examining import Facts, examine, in_gibibytes
from nano_llm.tracking.installation import DISTRIBUTION


def main(arguments: Sequence[str]) -> int:
    """Tell what is here; return 1 where something is wrong."""
    parser = argparse.ArgumentParser(
        prog="nano-llm doctor",
        description="Show versions, devices, data, folders and keys, and what is wrong with them and what to do. "
        "Nothing is downloaded, and no key is shown.",
        epilog="example: nano-llm doctor --json | jq .problems; exit status: 0 nothing is wrong, 1 something is",
    )
    parser.add_argument("--json", action="store_true", help="print it for programs")
    given = parser.parse_args(arguments)
    found = examine()
    print(json.dumps(found, indent=1) if given.json else "\n".join(_lines(found)))
    return 1 if found["problems"] else 0


def _lines(found: Facts) -> Iterator[str]:
    yield f"nano_llm {found['nano_llm']} in {found['code']}"
    if "environment" in found:
        yield from _section("installation", _installation_words(found["environment"]))
    yield from _section("extras", {name: _extra_words(name, lacks) for name, lacks in found["extras"].items()})
    if "machine" in found:
        yield from _section("machine", _machine_words(found["environment"], found["machine"]))
    if "data" in found:
        yield from _section("data", _data_words(found["data"], found["extras"].get("data", [])))
        yield from _section("folders", {name: _folder_words(facts) for name, facts in found["folders"].items()})
    yield from _section("keys", {name: "here" if is_here else "not here" for name, is_here in found["keys"].items()})
    yield ""
    problems = found["problems"]
    yield f"{len(problems)} problems:" if len(problems) > 1 else "1 problem:" if problems else "Nothing is wrong."
    yield from (f"  - {problem}" for problem in problems)


def _section(title: str, rows: dict[str, str]) -> Iterator[str]:
    yield ""
    yield title
    width = max(map(len, rows), default=0)
    yield from (f"  {name:<{width}}  {words}" for name, words in rows.items())


def _installation_words(environment: Facts) -> dict[str, str]:
    git = environment["git"]
    packages = environment["packages"].items()
    return {
        "Python": f"{environment['python']} on {environment['platform']}",
        "packages": ", ".join(f"{name} {version}" for name, version in packages if version and name != DISTRIBUTION),
        "commit": f"{git['commit']}{', changed since' if git['dirty'] else ''}" if git else "none: not in a checkout",
    }


def _extra_words(name: str, lacks: list[str]) -> str:
    return f"lacks {', '.join(lacks)}: pip install '{DISTRIBUTION}[{name}]'" if lacks else "here"


def _machine_words(environment: Facts, machine: Facts) -> dict[str, str]:
    bf16 = {True: "bf16 in hardware", False: "bf16 emulated, slowly", None: "bf16 unknown"}
    rows = {
        "CPU": f"{environment['cpu']}, {environment['num_cores']} cores, {environment['torch_threads']} threads, "
        f"{in_gibibytes(machine['memory_bytes'])} of memory, {bf16[machine['cpu_has_bf16']]}",
    }
    for number, gpu in enumerate(machine["gpus"]):
        memory = "" if gpu["memory_bytes"] is None else f", {in_gibibytes(gpu['memory_bytes'])} of memory"
        rows[f"GPU {number}"] = f"{gpu['name'] or 'does not tell its name'}{memory}, {bf16[gpu['has_bf16']]}"
    if machine["mps"]:
        rows["GPU"] = "Apple's, as trainer.device=mps"
    if len(rows) == 1:
        rows["GPU"] = "none"
    return rows


def _data_words(data: Facts, lacks: list[str]) -> dict[str, str]:
    unfit = "see below"
    imdb, cad, movies = data["imdb"], data["cad"], data["movies"]
    if imdb["kind"] == "folder":
        source = f"{imdb['path']}: {_counts(imdb['reviews'], 'reviews') if imdb['reviews'] else unfit}"
    else:
        download = f"needs pip install '{DISTRIBUTION}[data]'" if lacks else "is not tried here"
        source = f"NANO_LLM_IMDB is not set; the download of {imdb['repository']} {download}; data=scm needs neither"
    rows = {
        "data=imdb": source,
        "data.cad": "NANO_LLM_CAD is not set",
        "data.movies": "NANO_LLM_IMDB_MOVIES is not set",
    }
    if cad:
        rows["data.cad"] = f"{cad['path']}: {_counts(cad['pairs'], 'pairs') if cad['pairs'] else unfit}"
    if movies and (imdb["kind"] == "hub" or not imdb["reviews"]):
        rows["data.movies"] = f"{movies['path']}: not looked at without a folder of reviews"
    elif movies:
        rows["data.movies"] = f"{movies['path']}: {_counts(movies['movies'], 'movies') if movies['movies'] else unfit}"
    return rows


def _folder_words(folder: Facts) -> str:
    size = "not there yet" if folder["bytes"] is None else in_gibibytes(folder["bytes"])
    left = "see below" if folder["free_bytes"] is None else f"writable, {in_gibibytes(folder['free_bytes'])} free"
    return f"{folder['path']}: {size}, {left}"


def _counts(numbers: dict[str, int], noun: str) -> str:
    return " and ".join(f"{number:,} {split}" for split, number in numbers.items()) + f" {noun}"
