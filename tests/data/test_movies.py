"""The movie of each review."""

from pathlib import Path

import pytest

from nano_llm.data.movies import movies_source, read_movies
from nano_llm.errors import DataError


def write(folder: Path, train: str, test: str = "tt1\n") -> str:
    folder.mkdir()
    (folder / "train.txt").write_text(train)
    (folder / "test.txt").write_text(test)
    return str(folder)


def test_a_line_names_the_movie_of_a_review(tmp_path: Path) -> None:
    assert read_movies(write(tmp_path / "m", "tt2\ntt1\ntt2\n"), "train", 3) == ["tt2", "tt1", "tt2"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("tt1\n", r"train\.txt has 1 lines, but the train split has 2 reviews"),
        ("tt1\ntt1\ntt1\n", "has 3 lines"),
        ("tt1\n\n", r"train\.txt, line 2: empty"),
    ],
)
def test_a_file_that_does_not_fit_the_reviews_is_refused(content: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint):
        read_movies(write(tmp_path / "m", content), "train", 2)


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    for use in (lambda path: read_movies(path, "train", 1), movies_source):
        with pytest.raises(DataError, match=r"has no train\.txt.*NANO_LLM_IMDB_MOVIES"):
            use(str(tmp_path))


def test_the_source_is_named_by_content(tmp_path: Path) -> None:
    one, same = movies_source(write(tmp_path / "a", "tt1\n")), movies_source(write(tmp_path / "b", "tt1\n"))
    assert one == same
    assert movies_source(write(tmp_path / "c", "tt2\n")) != one
