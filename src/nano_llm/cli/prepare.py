"""``nano-llm prepare``: fetch, tokenise and cut a corpus, without training."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from nano_llm.config.compose import compose_config
from nano_llm.errors import OutputError
from nano_llm.files import explained_writes, replaced_folder


def main(arguments: Sequence[str]) -> int:
    """Prepare the corpus of a configuration and say where it lies."""
    parser = argparse.ArgumentParser(
        prog="nano-llm prepare",
        description="Prepare the corpus that a run with the same overrides would train on.",
        epilog="example: nano-llm prepare --to prepared/imdb model=tarnet data=imdb data.path=../imdb; "
        "the folder can be copied to another machine and used there with data.prepared=prepared/imdb",
    )
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="copy the prepared data to this new folder")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides, as for `nano-llm run`")
    given = parser.parse_args(arguments)
    config = compose_config(given.overrides)

    from nano_llm.data.prepare import prepare

    cache = Path(config.paths.cache).expanduser()
    data = prepare(config.data, config.protocol, config.model.num_outcomes, cache, print)
    folder = data.folder
    if given.to is not None:
        folder = _copy(folder, given.to)
    for split, windows in data.windows.items():
        print(f"{split}: {len(windows):,} windows")
    print(f"Prepared data lies in {folder}")
    return 0


def _copy(source: Path, target: Path) -> Path:
    """Copy a prepared folder to a place that does not exist yet; a whole copy that is there already is as good.

    Raises:
        OutputError: The place holds something else, or cannot be written.
    """
    if target.exists():
        if _is_copy(target, source):
            return target
        raise OutputError(f"{target} exists already; name a new folder for the prepared data.")
    with explained_writes(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with replaced_folder(target) as new:
        shutil.copytree(source, new, dirs_exist_ok=True)
    return target


def _is_copy(folder: Path, source: Path) -> bool:
    from nano_llm.data.cache import DamagedFolderError, read_manifest

    try:
        return read_manifest(folder) == read_manifest(source)
    except DamagedFolderError:
        return False
