"""The unit of every corpus."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Review:
    """One review and the treatment that it was written under.

    Example: ``Review("a dull film .", treatment=0)``.
    """

    text: str  # cleaned text
    treatment: int  # T: 0 negative, 1 positive
    topic: str | None = None  # what the prompt names of the topic (SCM with an observed topic or a proxy)
    movie: str | None = None  # what the review is about (IMDB, where the ids are given)
    propensity: float = 0.5  # P(T=1 | what caused T), in single precision; 1/2 where nothing is known

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of text, treatment and topic: two reviews with the same ones are scored alike."""
        content = f"{self.treatment}\n{self.topic or ''}\n{self.text}"
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
