"""A folder in the Hub's layout with 40 + 40 short reviews, and files of counterfactual pairs."""

import csv
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet


def write_reviews(folder: Path) -> Path:
    """Fill a folder, and return it."""
    rng = random.Random(0)
    for split in ("train", "test"):
        texts = [" ".join(rng.choices(("the", "film", "was", "dull", "slow", "and"), k=12)) for _ in range(40)]
        table = pyarrow.table({"text": texts, "label": [i % 2 for i in range(40)]})
        pyarrow.parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
        if split == "train":
            _write_pairs(folder, {"train": texts[0], "dev": texts[2]})
    return folder


def _write_pairs(folder: Path, originals: dict[str, str]) -> None:
    """Write the files of counterfactual pairs, each with one pair: a negative review and its revision."""
    for split, original in originals.items():
        pair = [("Negative", original, "1"), ("Positive", f"it is fine that {original}", "1")]
        with (folder / f"{split}_paired.tsv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, delimiter="\t").writerows([("Sentiment", "Text", "batch_id"), *pair])
