"""Formatted samples: the reviews of a split as token rows, end to end.

A sample is ``<bos>``, the prompt, the review and its end marker:

    <bos> [SENTIMENT] positive [/SENTIMENT] [REVIEW] | a fine film . [/REVIEW] <eos>
    prompt: 5 tokens                                 | review and end marker: 6 tokens

Under the reference protocol the sample is tokenised as one string. Its ``[REVIEW] `` ends in a space that merges
with the first letters of the review; the token that holds both counts as the review's first.

Axes: R reviews, R1 one more than reviews, N tokens of all samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nano_llm.data.arrays import Float32Array, IntArray
from nano_llm.data.review import Review
from nano_llm.data.template import BOS, Template
from nano_llm.data.tokenizer import Ragged, Tokenizer


@dataclass(frozen=True, slots=True)
class Samples:
    """The formatted samples of a split."""

    tokens_N: IntArray
    offset_R1: IntArray  # row r is tokens_N[offset_R1[r]:offset_R1[r + 1]]
    prompt_length_R: IntArray  # tokens of the prompt, bos included
    treatment_R: IntArray  # uint8
    propensity_R: Float32Array  # float32

    @property
    def length_R(self) -> IntArray:
        """Tokens of each sample."""
        return np.diff(self.offset_R1)


def format_samples(reviews: Sequence[Review], template: Template, tokenizer: Tokenizer) -> Samples:
    """Format and tokenise reviews, in the form that the tokenizer was fitted for."""
    treatment_R = np.array([review.treatment for review in reviews], np.uint8)
    propensity_R = np.array([review.propensity for review in reviews], np.float32)
    if tokenizer.has_markers:
        text = tokenizer.encode_reviews(review.text for review in reviews)
        rows = _assemble(text, _prompt_rows(reviews, template), tokenizer)
        return Samples(*rows, treatment_R, propensity_R)
    samples = tokenizer.encode_samples(template.sample(review) for review in reviews)
    prompt_length_R = _whole_prompt_tokens(samples, reviews, template, tokenizer)
    return Samples(samples.tokens_N, samples.offset_R1, prompt_length_R, treatment_R, propensity_R)


def prefix_lengths(reviews: Sequence[Review], template: Template, tokenizer: Tokenizer) -> IntArray:
    """Return the tokens of each prompt as the reference counts them, with the space after ``[REVIEW]``."""
    length_R = np.empty(len(reviews), np.int64)
    for prompt, rows in _prompt_rows(reviews, template).items():
        length_R[rows] = len(tokenizer.encode_prompt(f"{prompt} "))
    return length_R


def _prompt_rows(reviews: Sequence[Review], template: Template) -> dict[str, IntArray]:
    """Return the rows that carry each distinct prompt."""
    rows: dict[str, list[int]] = {}
    for row, review in enumerate(reviews):
        rows.setdefault(template.prompt_of(review), []).append(row)
    return {prompt: np.array(found) for prompt, found in rows.items()}


def _assemble(
    text: Ragged, prompt_rows: dict[str, IntArray], tokenizer: Tokenizer
) -> tuple[IntArray, IntArray, IntArray]:
    """Join prompts, texts and end markers; return tokens_N, offset_R1 and prompt_length_R."""
    ids = {prompt: np.array(tokenizer.encode_prompt(prompt), tokenizer.dtype) for prompt in prompt_rows}
    prompt_length_R = np.empty(len(text.length_R), np.int32)
    for prompt, rows in prompt_rows.items():
        prompt_length_R[rows] = len(ids[prompt])
    end = np.array(tokenizer.end_ids, tokenizer.dtype)
    length_R = prompt_length_R + text.length_R + len(end)
    offset_R1 = np.concatenate(([0], np.cumsum(length_R, dtype=np.int64)))
    tokens_N = np.empty(offset_R1[-1], tokenizer.dtype)
    is_text_N = np.ones(offset_R1[-1], np.bool_)  # an index of every token would take eight times their memory
    parts = [(offset_R1[rows, None] + np.arange(len(ids[prompt])), ids[prompt]) for prompt, rows in prompt_rows.items()]
    for places, tokens in [*parts, (offset_R1[1:, None] - np.arange(len(end), 0, -1), end)]:
        tokens_N[places] = tokens
        is_text_N[places] = False
    tokens_N[is_text_N] = text.tokens_N
    return tokens_N, offset_R1, prompt_length_R


def _whole_prompt_tokens(
    samples: Ragged, reviews: Sequence[Review], template: Template, tokenizer: Tokenizer
) -> IntArray:
    """Return how many leading tokens of each sample lie wholly inside its prompt, by their bytes."""
    num_bytes_V = tokenizer.num_bytes_V
    length_R = np.empty(len(reviews), np.int32)
    for prompt, rows in _prompt_rows(reviews, template).items():
        size = len(prompt.encode())
        # A token stands for at least one byte, so no more tokens than bytes (and <bos>) can lie in the prompt.
        reach = samples.offset_R1[rows, None] + np.arange(size + len([BOS]))
        inside = reach < samples.offset_R1[rows + 1, None]
        ends = np.cumsum(num_bytes_V[samples.tokens_N[np.where(inside, reach, 0)]], axis=1)
        length_R[rows] = np.count_nonzero((ends <= size) & inside, axis=1)
    return length_R
