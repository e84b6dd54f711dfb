"""Prompt markup: the one place that knows how a prompt and a formatted sample are spelled.

| conditioning | prompt (T = 1; a topic stands right before the last marker) |
|---|---|
| tags | ``[SENTIMENT] positive [/SENTIMENT] about drama [REVIEW]`` |
| natural | ``Create a POSITIVE IMDB-like review about drama [REVIEW]`` |
| command | ``GENERATE an IMDB-like review: about drama [REVIEW]`` (the same for T = 0) |

A formatted sample is ``<bos>``, the prompt, the review, ``[/REVIEW]`` and ``<eos>``.
"""

from dataclasses import dataclass

from nano_llm.config.schema import Conditioning, DataConfig, PromptConfig
from nano_llm.data.review import Review
from nano_llm.errors import DataError

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
SPECIALS = (PAD, BOS, EOS, UNK)
SENTIMENT_OPEN, SENTIMENT_CLOSE = "[SENTIMENT]", "[/SENTIMENT]"
REVIEW_OPEN, REVIEW_CLOSE = "[REVIEW]", "[/REVIEW]"
MARKERS = (SENTIMENT_OPEN, SENTIMENT_CLOSE, REVIEW_OPEN, REVIEW_CLOSE)
SENTIMENTS = ("negative", "positive")


@dataclass(frozen=True, slots=True)
class Template:
    """How a corpus is presented to a model: a resolved conditioning and the replaceable texts."""

    conditioning: Conditioning
    texts: PromptConfig

    @classmethod
    def of(cls, data: DataConfig, num_outcomes: int) -> "Template":
        """Return the template of a model with one or two outcomes.

        Raises:
            DataError: Two outcomes with a prompt that names the sentiment, or a text that holds markup.
        """
        _check_texts(data.prompt)
        return cls(resolve_conditioning(data.conditioning, num_outcomes), data.prompt)

    def prompt(self, treatment: int, topic: str | None = None) -> str:
        """Return the prompt, ending with the ``[REVIEW]`` marker and without ``<bos>``."""
        about = "" if topic is None else f" about {topic}"
        return f"{self._instruction(treatment)}{about} {REVIEW_OPEN}"

    def prompt_of(self, review: Review) -> str:
        """Return the prompt of a review under its own treatment."""
        return self.prompt(review.treatment, review.topic)

    def sample(self, review: Review) -> str:
        """Return the formatted sample as one string, as the reference protocol tokenises it.

        Example: ``<bos>[SENTIMENT] negative [/SENTIMENT] [REVIEW] a dull film. [/REVIEW]<eos>``
        """
        return f"{BOS}{self.prompt_of(review)} {review.text} {REVIEW_CLOSE}{EOS}"

    def for_tokenizer(self) -> "Template":
        """Return the template of the text that the reference fits its tokenizer to.

        It formats a two-head model's reviews with sentiment tags first, fits the tokenizer to that, and puts
        the command in their place only when it cuts windows. So ``command`` becomes ``tags`` here.
        """
        if self.conditioning is Conditioning.command:
            return Template(Conditioning.tags, self.texts)
        return self

    def _instruction(self, treatment: int) -> str:
        if self.conditioning is Conditioning.tags:
            return f"{SENTIMENT_OPEN} {SENTIMENTS[treatment]} {SENTIMENT_CLOSE}"
        if self.conditioning is Conditioning.natural:
            return (self.texts.negative, self.texts.positive)[treatment]
        return self.texts.command


def resolve_conditioning(conditioning: Conditioning, num_outcomes: int) -> Conditioning:
    """Return the conditioning with ``auto`` decided: the command for two outcomes, tags for one.

    Raises:
        DataError: Two outcomes with a prompt that names the sentiment.
    """
    if conditioning is Conditioning.auto:
        return Conditioning.command if num_outcomes == 2 else Conditioning.tags
    if num_outcomes == 2 and conditioning is not Conditioning.command:
        raise DataError(
            f"data.conditioning={conditioning.value} names the sentiment in the prompt, but the model has two "
            "outcomes, and the label must reach it only as the treatment. Use data.conditioning=auto."
        )
    return conditioning


def _check_texts(texts: PromptConfig) -> None:
    for name, text in vars(texts).items():
        for markup in (*SPECIALS, *MARKERS):
            if markup in text:
                raise DataError(
                    f"data.prompt.{name}={text!r} contains {markup}, which is markup that the template adds "
                    "itself. Give the instruction alone."
                )
