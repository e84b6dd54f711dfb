"""The reviews of a split as arrays on disk: texts end to end, opened lazily.

Axes: R reviews, R1 one more than reviews, B bytes of all texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nano_llm.data.arrays import Float32Array, FloatArray, IntArray, load_array, save_array
from nano_llm.data.review import Review

_FILES = {
    "texts_B": "texts",
    "offset_R1": "offset",
    "treatment_R": "treatment",
    "topic_R": "topic",
    "movie_R": "movie",
    "propensity_R": "propensity",
}


@dataclass(frozen=True)
class Split:
    """R cleaned reviews; ``split[r]`` is review r."""

    texts_B: IntArray  # uint8, UTF-8, memory-mapped
    offset_R1: IntArray  # int64; text r is texts_B[offset_R1[r]:offset_R1[r + 1]]
    treatment_R: IntArray  # uint8
    topic_R: NDArray[np.str_]  # empty where the prompt names no topic
    movie_R: NDArray[np.str_]  # empty where unknown
    propensity_R: Float32Array  # float32

    def __len__(self) -> int:
        return len(self.treatment_R)

    def __getitem__(self, row: int) -> Review:
        row = range(len(self))[row]
        text = self.texts_B[self.offset_R1[row] : self.offset_R1[row + 1]].tobytes().decode()
        topic, movie = str(self.topic_R[row]) or None, str(self.movie_R[row]) or None
        return Review(text, int(self.treatment_R[row]), topic, movie, float(self.propensity_R[row]))

    @property
    def num_bytes_R(self) -> IntArray:
        """UTF-8 bytes of each cleaned review."""
        return np.diff(self.offset_R1)

    @property
    def effective_size(self) -> float:
        """Reviews that would tell as much if all weighed the same, under weights by inverse propensity (Kish)."""
        weight_R = inverse_propensity(self.treatment_R, self.propensity_R)
        return float(weight_R.sum() ** 2 / (weight_R**2).sum()) if len(self) else 0.0

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
            propensity_R=np.array([review.propensity for review in reviews], np.float32),
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


def inverse_propensity(treatment_R: IntArray, propensity_R: Float32Array) -> FloatArray:
    """Return T/(2e) + (1-T)/(2(1-e)), the weights whose mean is 1 and that undo the choice of the treatment."""
    chance_R = np.where(treatment_R == 1, propensity_R, 1 - propensity_R).astype(np.float64)
    return 0.5 / chance_R
