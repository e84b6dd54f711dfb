"""A model that is served."""

from dataclasses import dataclass
from functools import cached_property

from nano_llm.generation.author import Author
from nano_llm.serving.engine import Engine
from nano_llm.serving.limits import Limits
from nano_llm.serving.problem import model_not_found
from nano_llm.serving.spelling import Spelling


@dataclass(frozen=True)
class Service:
    """One model, its engine, and what its clients may ask for."""

    author: Author
    engine: Engine
    """Of the author; started and ended by whoever serves."""
    limits: Limits
    name: str
    """Id of the model."""
    fingerprint: str
    """Of its checkpoint."""
    created: int
    """When that was, in seconds of Unix time."""
    censored: bool
    """Whether listed words are redacted."""

    @cached_property
    def spelling(self) -> Spelling:
        """How clients see single tokens."""
        return Spelling(self.author.tokenizer, censored=self.censored)

    def check_model(self, asked: str | None) -> None:
        """Check the model that a request names.

        Raises:
            Problem: It is another one.
        """
        if asked is not None and asked != self.name:
            raise model_not_found(asked, self.name)
