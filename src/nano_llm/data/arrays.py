"""Array types of this room, and arrays as ``.npy`` files."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nano_llm.files import explained_writes

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]


def save_array(file: Path, array: NDArray[Any]) -> None:
    """Write an array as ``.npy``.

    Raises:
        OutputError: It cannot be written. ``np.save`` would not say why.
    """
    array = np.ascontiguousarray(array)
    with explained_writes(file), file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.data.cast("B") if array.size else b"")


def load_array(file: Path, *, mapped: bool = False) -> NDArray[Any]:
    """Read an array; if ``mapped``, its content stays on disk until it is used."""
    array: NDArray[Any] = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    return array
