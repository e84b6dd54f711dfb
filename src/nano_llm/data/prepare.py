"""From settings to data that is ready to train on: prepared once, then opened.

    <cache>/<fingerprint>/
      manifest.json                            settings, source, counts, checksum of each file; written last
      tokenizer.json
      train.texts.npy ...                      a split: texts, offsets, treatments, topics, movies (split.py)
      windows-train.tokens.npy ...             a set of windows (windows.py)

The fingerprint covers everything that shapes the content: the settings below ``data`` and ``protocol`` that are
not mere labels, the resolved conditioning, the source and this format. A prepared folder stands on its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nano_llm.config.schema import DataConfig, ProtocolConfig
from nano_llm.data.build import TOKENIZER, fill_folder, windows_name
from nano_llm.data.cache import Manifest, open_or_build
from nano_llm.data.corpus import corpus_source
from nano_llm.data.identity import fingerprint_of, identity, is_whole, matching_manifest, shaping_settings
from nano_llm.data.split import Split
from nano_llm.data.template import Template
from nano_llm.data.tokenizer import Tokenizer
from nano_llm.data.windows import Windows
from nano_llm.errors import DataError
from nano_llm.files import SEAL

Log = Callable[[str], None]


@dataclass(frozen=True)
class PreparedData:
    """What a run trains and is judged on.

    Under ``protocol.windows=covering`` each split has its windows under its own name. Under ``reference``,
    ``train`` and ``validation`` are cut as the reference cuts them, and ``validation_covering`` serves
    bits per byte; a test split, where there is one, is always covered.
    ``pairs``, where the corpus has them, holds minimal pairs to train on, negative and positive in turn; it is no
    split.
    """

    folder: Path
    fingerprint: str
    template: Template
    tokenizer: Tokenizer
    windows: dict[str, Windows]
    splits: dict[str, Split]
    record: dict[str, Any]  # fingerprint, settings, source, counts and versions, for data.json


def prepare(data: DataConfig, protocol: ProtocolConfig, num_outcomes: int, cache: Path, log: Log) -> PreparedData:
    """Return the data of a configuration, preparing it in the cache where that has not been done.

    Args:
        data: The corpus, its conditioning, its tokenizer.
        protocol: Windows, splits and the texts that the tokenizer is fitted to.
        num_outcomes: 1 or 2; decides ``data.conditioning=auto``.
        cache: Folder of prepared data. Not touched where ``data.prepared`` names a folder.
        log: Receives progress, a line at a time.

    Raises:
        DataError: The source or the prepared folder is missing, damaged or unfit, or the source changed meanwhile.
        OutputError: The cache cannot be written.
    """
    template = Template.of(data, num_outcomes)
    settings = shaping_settings(data, protocol, template)
    if data.prepared is not None:
        folder = Path(data.prepared).expanduser()
        return _open(folder, matching_manifest(folder, settings), template)
    source = corpus_source(data)
    wanted = fingerprint_of(settings, source)

    def build(folder: Path) -> Manifest:
        log(f"preparing {data.name} in {cache / wanted}")
        counts = fill_folder(folder, data, protocol, template, log)
        _demand_unchanged(data, source)
        return {**identity(settings, source), "counts": counts}

    def refusal(manifest: Manifest) -> str | None:
        return None if is_whole(manifest) and manifest["fingerprint"] == wanted else "it holds other data"

    manifest = open_or_build(cache / wanted, build, refusal, log)
    return _open(cache / wanted, manifest, template)


def fingerprint(data: DataConfig, protocol: ProtocolConfig, num_outcomes: int) -> str:
    """Return the name of the data that `prepare` gives for the same arguments, without preparing it.

    Raises:
        DataError: A local source or the prepared folder is missing or unfit.
    """
    settings = shaping_settings(data, protocol, Template.of(data, num_outcomes))
    if data.prepared is not None:
        return str(matching_manifest(Path(data.prepared).expanduser(), settings)["fingerprint"])
    return fingerprint_of(settings, corpus_source(data))


def _demand_unchanged(data: DataConfig, source: dict[str, Any]) -> None:
    """Make sure that what was read is what names the folder: it was read after it was hashed.

    Raises:
        DataError: It is not.
    """
    now = corpus_source(data)
    if changed := [name for name in source if now[name] != source[name]]:
        raise DataError(
            f"The files of data={data.name} ({', '.join(changed)}) changed while they were read; nothing was kept. "
            "Where they are being copied or written still, wait for the end; then give the same command again."
        )


def _open(folder: Path, manifest: Manifest, template: Template) -> PreparedData:
    counts = manifest["counts"]
    return PreparedData(
        folder=folder,
        fingerprint=manifest["fingerprint"],
        template=template,
        tokenizer=Tokenizer.from_json((folder / TOKENIZER).read_text(encoding="utf-8")),
        windows={name: Windows.load(folder, windows_name(name)) for name in counts["windows"]},
        splits={name: Split.load(folder, name) for name in counts["splits"]},
        record={name: value for name, value in manifest.items() if name not in ("files", SEAL)},
    )
