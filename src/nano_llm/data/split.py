"""The reviews of a split as arrays on disk: texts end to end, opened lazily.

Axes: R reviews, R1 one more than reviews, B bytes of all texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nano_llm.data.arrays import IntArray, load_array, save_array
from nano_llm.data.review import Review

_FILES = {
    "texts_B": "texts",
    "offset_R1": "offset",
    "treatment_R": "treatment",
    "topic_R": "topic",
    "movie_R": "movie",
}


@dataclass(frozen=True)
class Split:
    """R cleaned reviews; ``split[r]`` is review r."""

    texts_B: IntArray  # uint8, UTF-8, memory-mapped
    offset_R1: IntArray  # int64; text r is texts_B[offset_R1[r]:offset_R1[r + 1]]
    treatment_R: IntArray  # uint8
    topic_R: NDArray[np.str_]  # empty where the prompt names no topic
    movie_R: NDArray[np.str_]  # empty where unknown

    def __len__(self) -> int:
        return len(self.treatment_R)

    def __getitem__(self, row: int) -> Review:
        row = range(len(self))[row]
        text = self.texts_B[self.offset_R1[row] : self.offset_R1[row + 1]].tobytes().decode()
        topic, movie = str(self.topic_R[row]) or None, str(self.movie_R[row]) or None
        return Review(text, int(self.treatment_R[row]), topic, movie)

    @property
    def num_bytes_R(self) -> IntArray:
        """UTF-8 bytes of each cleaned review."""
        return np.diff(self.offset_R1)

    @classmethod
    def of(cls, reviews: Sequence[Review]) -> "Split":
        """Pack reviews."""
        encoded = [review.text.encode() for review in reviews]
        return cls(
            texts_B=np.frombuffer(b"".join(encoded), np.uint8),
            offset_R1=np.cumsum([0, *map(len, encoded)], dtype=np.int64),
            treatment_R=np.array([review.treatment for review in reviews], np.uint8),
            topic_R=np.array([review.topic or "" for review in reviews], np.str_),
            movie_R=np.array([review.movie or "" for review in reviews], np.str_),
        )

    def save(self, folder: Path, name: str) -> None:
        """Write one ``.npy`` file a field."""
        for field, label in _FILES.items():
            save_array(folder / f"{name}.{label}.npy", getattr(self, field))

    @classmethod
    def load(cls, folder: Path, name: str) -> "Split":
        """Open what `save` wrote; texts stay on disk."""
        return cls(
            **{
                field: load_array(folder / f"{name}.{label}.npy", mapped=field == "texts_B")
                for field, label in _FILES.items()
            }
        )
