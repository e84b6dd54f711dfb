"""The movie of each review of IMDB: ``train.txt`` and ``test.txt``, an id a line, in the order of the reviews."""

from pathlib import Path

from nano_llm.errors import DataError
from nano_llm.files import sha256


def movies_source(path: str) -> dict[str, str]:
    """Name the ids by content: the hash of each file, by split.

    Raises:
        DataError: A file is missing.
    """
    return {split: sha256(_file(path, split)) for split in ("train", "test")}


def read_movies(path: str, split: str, num_reviews: int) -> list[str]:
    """Return the movie of each review.

    Args:
        path: Folder of the files.
        split: ``train`` or ``test``, as published.
        num_reviews: Reviews of that split.

    Raises:
        DataError: The file is missing, unreadable, has another number of lines, or an empty one.
    """
    file = _file(path, split)
    try:
        movies = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error
    if len(movies) != num_reviews:
        raise DataError(
            f"{file} has {len(movies):,} lines, but the {split} split has {num_reviews:,} reviews; expected the id of "
            "one movie a line, in the order of the reviews."
        )
    if "" in movies:
        raise DataError(f"{file}, line {movies.index('') + 1}: empty; expected the id of a movie.")
    return movies


def _file(path: str, split: str) -> Path:
    file = Path(path).expanduser() / f"{split}.txt"
    if not file.is_file():
        raise DataError(
            f"data.movies={path} has no {split}.txt. Set data.movies or NANO_LLM_IMDB_MOVIES to a folder with "
            "train.txt and test.txt, the id of one movie a line in the order of the reviews, or leave both unset."
        )
    return file
