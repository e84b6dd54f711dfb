"""Building the content of a prepared folder: corpus, tokenizer, samples, windows."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nano_llm.config.schema import Conditioning, DataConfig, ProtocolConfig, TokenizerCorpus, TokenizerKind
from nano_llm.config.schema import Windows as WindowsKind
from nano_llm.data.arrays import IntArray
from nano_llm.data.corpus import Corpus, read_corpus
from nano_llm.data.review import Review
from nano_llm.data.samples import Samples, format_samples, prefix_lengths
from nano_llm.data.split import Split
from nano_llm.data.template import Template
from nano_llm.data.tokenizer import Tokenizer, words_of
from nano_llm.data.windows import Windows, num_reference_windows
from nano_llm.errors import DataError
from nano_llm.files import write_text

Log = Callable[[str], None]

TOKENIZER = "tokenizer.json"
PAIRS = "pairs"
"""The set of windows that holds minimal pairs, where the corpus has them: negative and positive in turn."""
_CORPUS_CHUNK = 1_000_000  # characters that the reference feeds its tokenizer at a time


def windows_name(label: str) -> str:
    """Return the name that a set of windows has on disk."""
    return f"windows-{label}"


def fill_folder(
    folder: Path, data: DataConfig, protocol: ProtocolConfig, template: Template, log: Log
) -> dict[str, Any]:
    """Write tokenizer, splits and windows into an empty folder; return their counts.

    Raises:
        DataError: The source is missing or unfit, or a setting does not suit it.
    """
    lap = _stopwatch(log)
    corpus = read_corpus(data, protocol)
    lap(f"read {', '.join(f'{len(found):,} {name}' for name, found in corpus.splits.items())} reviews")
    for what, num in corpus.dropped.items():
        log(f"  dropped {num:,} {what.replace('_', ' ')}")
    plan = _Plan(data, protocol, template, fit_tokenizer(corpus, template, data, protocol))
    write_text(folder / TOKENIZER, plan.tokenizer.to_json())
    lap(f"fitted a tokenizer of {plan.tokenizer.vocab_size} tokens")
    counts: dict[str, Any] = {
        "vocab_size": plan.tokenizer.vocab_size,
        "dropped": corpus.dropped,
        "splits": {},
        "windows": {},
    }
    for name, reviews in corpus.splits.items():
        split = Split.of(reviews)
        split.save(folder, name)
        samples = plan.format(name, reviews)
        counts["splits"][name] = {
            "reviews": len(split),
            "positive_reviews": int(split.treatment_R.sum()),
            "effective_reviews": round(split.effective_size, 1),
            "bytes": int(split.offset_R1[-1]),
            "tokens": len(samples.tokens_N),
        }
        lap(f"tokenised {name}: {len(samples.tokens_N):,} tokens")
        for label, windows in plan.cut(name, reviews, samples):
            windows.save(folder, windows_name(label))
            counts["windows"][label] = {"windows": len(windows), "targets": windows.num_targets}
            lap(f"cut {label}: {len(windows):,} windows")
    if corpus.pairs:
        windows = plan.cut_pairs(corpus.pairs)
        windows.save(folder, windows_name(PAIRS))
        counts["windows"][PAIRS] = {"windows": len(windows), "targets": windows.num_targets}
        lap(f"cut {PAIRS}: {len(windows):,} windows")
    return counts


def fit_tokenizer(corpus: Corpus, template: Template, data: DataConfig, protocol: ProtocolConfig) -> Tokenizer:
    """Fit the tokenizer of a run: its splits by ``protocol.tokenizer_corpus``, its form by the windows.

    Covering windows go with cleaned texts and marker tokens, reference windows with formatted samples.

    Raises:
        DataError: The vocabulary is too small.
    """
    config = data.tokenizer
    both = protocol.tokenizer_corpus is TokenizerCorpus.train_and_validation
    fitted = [corpus.splits[name] for name in (("train", "validation") if both else ("train",))]
    if config.kind is TokenizerKind.words:
        return Tokenizer.of_words(_words(corpus, fitted, template), config.vocab_size)
    if protocol.windows is WindowsKind.covering:
        texts = (review.text for reviews in fitted for review in reviews)
        return Tokenizer.fit_bytes(texts, config.vocab_size, config.split_words)
    chunks = _reference_chunks(fitted, template.for_tokenizer(), split_words=config.split_words)
    return Tokenizer.fit_reference(chunks, config.vocab_size, config.split_words)


def reference_windows(
    reviews: Sequence[Review],
    samples: Samples,
    template: Template,
    tokenizer: Tokenizer,
    window_length: int,
    *,
    split_words: bool,
) -> Windows:
    """Cut the reference's windows, in the number that the reference makes of each review.

    With a sentiment in the prompt, the reference also cuts the review under the other sentiment and keeps as
    many windows as the shorter cut has: a longer word in the prompt can cost the last window.

    Raises:
        DataError: A prompt leaves room for fewer than two review tokens.
    """
    prefix_length_R = prefix_lengths(reviews, template, tokenizer)
    num_windows_R: IntArray = num_reference_windows(samples.length_R, prefix_length_R, window_length)
    if template.conditioning is not Conditioning.command:
        twins = [replace(review, treatment=1 - review.treatment) for review in reviews]
        twin_prefix_R = prefix_lengths(twins, template, tokenizer)
        if split_words:  # no token crosses from the prompt into the review
            twin_length_R: IntArray = samples.length_R - prefix_length_R + twin_prefix_R
        else:
            twin_length_R = format_samples(twins, template, tokenizer).length_R
        num_twin_R = num_reference_windows(twin_length_R, twin_prefix_R, window_length)
        num_windows_R = np.minimum(num_windows_R, num_twin_R)
    return Windows.reference(
        samples, window_length, tokenizer.pad_id, prefix_length_R=prefix_length_R, num_windows_R=num_windows_R
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """The settings by which every split is formatted and cut."""

    data: DataConfig
    protocol: ProtocolConfig
    template: Template
    tokenizer: Tokenizer

    def format(self, split: str, reviews: Sequence[Review]) -> Samples:
        samples = format_samples(reviews, self.template, self.tokenizer)
        if self.data.tokenizer.kind is TokenizerKind.words:
            _check_words(split, reviews, samples, self.tokenizer)
        return samples

    def cut(self, split: str, reviews: Sequence[Review], samples: Samples) -> Iterator[tuple[str, Windows]]:
        """Yield the sets of windows that a split has under the protocol, with their names."""
        if self.protocol.windows is WindowsKind.covering or split == "test":
            yield split, self._covering(samples, training=split == "train")
            return
        yield (
            split,
            reference_windows(
                reviews,
                samples,
                self.template,
                self.tokenizer,
                self.data.window_length,
                split_words=self.data.tokenizer.split_words,
            ),
        )
        if split == "validation":
            yield "validation_covering", self._covering(samples, training=False)

    def cut_pairs(self, pairs: Sequence[Review]) -> Windows:
        """Return the first window of each member; what a window cannot hold of a text is left out."""
        return self._covering(self.format(PAIRS, pairs), training=True).first_of_each_review()

    def _covering(self, samples: Samples, *, training: bool) -> Windows:
        return Windows.covering(
            samples,
            self.data.window_length,
            self.tokenizer.pad_id,
            num_views=1 if training else 2,
            is_word_start_V=self.tokenizer.is_word_start_V if training else None,
        )


def _reference_chunks(fitted: Iterable[Sequence[Review]], template: Template, *, split_words: bool) -> Iterator[str]:
    # The reference joins samples by newlines, but its two splits by nothing.
    text = "".join("\n".join(template.sample(review) for review in reviews) for reviews in fitted)
    for first in range(0, len(text), _CORPUS_CHUNK):
        chunk = text[first : first + _CORPUS_CHUNK]
        if split_words:
            # A newline is a word of its own, so lines give the words of the chunk, in half the time.
            yield from re.findall(r"[^\n]*\n|[^\n]+", chunk)
        else:
            yield chunk


def _words(corpus: Corpus, fitted: Iterable[Sequence[Review]], template: Template) -> Iterator[str]:
    if corpus.words is not None:
        yield from corpus.words
    else:
        for reviews in fitted:
            for review in reviews:
                yield from words_of(review.text)
    for topic in corpus.topics:
        for treatment in (0, 1):
            yield from words_of(template.prompt(treatment, topic))


def _check_words(split: str, reviews: Sequence[Review], samples: Samples, tokenizer: Tokenizer) -> None:
    """Refuse a review with a word that the vocabulary lacks."""
    unknown = np.flatnonzero(samples.tokens_N == tokenizer.unk_id)
    if not len(unknown):
        return
    row = int(np.searchsorted(samples.offset_R1, unknown[0], side="right")) - 1
    word = next(word for word in words_of(reviews[row].text) if tokenizer.encode(word) == [tokenizer.unk_id])
    raise DataError(
        f"Review {row} of the {split} split has the word {word!r}, which the vocabulary of "
        "data.tokenizer.kind=words lacks. It is meant for closed vocabularies such as data=scm; use kind=bpe."
    )


def _stopwatch(log: Log) -> Log:
    last = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal last
        now = time.perf_counter()
        log(f"  {what} in {now - last:.1f} s")
        last = now

    return lap
