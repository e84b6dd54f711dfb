"""Tokenizers: byte-level BPE fitted to a corpus, or one token a word for a closed vocabulary.

Two forms of markup. Under the fair protocol the markers of ``template.py`` are special tokens, ids 4 to 7, and
a review is encoded with special tokens switched off, so a review that contains ``[REVIEW]`` or ``<eos>`` stays
text. Under the reference protocol only ``<pad> <bos> <eos> <unk>`` are special, the markers are ordinary text,
and a byte that never occurred becomes ``<unk>``; as in the reference, a review that holds ``<eos>`` after cleaning,
which takes it out unless it is spelled with wide brackets, ends there.

Axes: R reviews, N tokens of all reviews end to end, V vocabulary.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from nano_llm.data.arrays import BoolArray, IntArray
from nano_llm.data.template import MARKERS, REVIEW_CLOSE, SPECIALS, UNK
from nano_llm.errors import DataError

MIN_BYTE_VOCAB = 256 + len(SPECIALS) + len(MARKERS)
_MIN_FREQUENCY = 2  # a pair that occurs once is never merged
_STOP_AT_END, _ANY_BUT_STOP = "[.,]$", r"^(?![.,]$)"
_PARTS_OF_WORDS = ["WhitespaceSplit", "Split", "Replace", "Fuse", "Strip"]
_BATCH = 256  # texts encoded at a time, so that few Encoding objects exist at once


@dataclass(frozen=True, slots=True)
class Ragged:
    """Token rows of different lengths, end to end: row r is ``tokens_N[offset_R1[r]:offset_R1[r + 1]]``."""

    tokens_N: IntArray
    offset_R1: IntArray  # int64, one more entry than rows

    @property
    def length_R(self) -> IntArray:
        """Tokens of each row."""
        return np.diff(self.offset_R1)


class Tokenizer:
    """Text to token ids and back; immutable once built."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Wrap a fitted Hugging Face tokenizer; use the class methods to fit or to load one."""
        self._marked = backend
        self._plain = tokenizers.Tokenizer.from_str(backend.to_str())
        self._plain.encode_special_tokens = True
        self.vocab_size: int = backend.get_vocab_size()
        self.pad_id, self.bos_id, self.eos_id, self.unk_id = (self._id_of(token) for token in SPECIALS)

    # ------------------------------------------------------------------------------------- building

    @classmethod
    def fit_bytes(cls, texts: Iterable[str], vocab_size: int, split_words: bool) -> "Tokenizer":
        """Fit byte-level BPE to review texts; all 256 bytes are tokens, so any text survives a round trip.

        Raises:
            DataError: The vocabulary cannot hold the bytes and the special tokens.
        """
        if vocab_size < MIN_BYTE_VOCAB:
            raise DataError(
                f"data.tokenizer.vocab_size={vocab_size} is too small: 256 bytes, {len(SPECIALS)} special tokens "
                f"and {len(MARKERS)} markers need at least {MIN_BYTE_VOCAB}."
            )
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        return cls(_fit_bpe(texts, vocab_size, split_words, [*SPECIALS, *MARKERS], alphabet))

    @classmethod
    def fit_reference(cls, samples: Iterable[str], vocab_size: int, split_words: bool) -> "Tokenizer":
        """Fit byte-level BPE as the reference does: to formatted samples, with no initial alphabet."""
        return cls(_fit_bpe(samples, vocab_size, split_words, list(SPECIALS), []))

    @classmethod
    def of_words(cls, words: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Give each word, ``.`` and ``,`` a token of its own.

        Texts have one space between words and ``.`` and ``,`` attached to the left, so
        ``"the plot is dull, overall."`` has the words ``the plot is dull , overall .``

        Raises:
            DataError: The vocabulary cannot hold the words.
        """
        entries = list(dict.fromkeys([*SPECIALS, *MARKERS, *words]))
        if len(entries) > vocab_size:
            raise DataError(
                f"data.tokenizer.vocab_size={vocab_size} is too small: data.tokenizer.kind=words needs "
                f"{len(entries)} tokens here. It is meant for closed vocabularies; raise the size or use kind=bpe."
            )
        backend = tokenizers.Tokenizer(
            models.WordLevel({word: index for index, word in enumerate(entries)}, unk_token=UNK)
        )
        backend.add_special_tokens([AddedToken(token, special=True) for token in (*SPECIALS, *MARKERS)])
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(_STOP_AT_END), "isolated")]
        )
        # A space before each word, none before a "." or ",", and the first space dropped.
        backend.decoder = decoders.Sequence(
            [decoders.Replace(Regex(_ANY_BUT_STOP), " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        return cls(backend)

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Load what `to_json` wrote.

        Raises:
            DataError: The text is no tokenizer, or another than this class builds.
        """
        _check_layout(text)
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing more specific
            raise DataError(f"This is not a tokenizer.json that `tokenizers` can read: {error}") from error
        return cls(backend)

    def to_json(self) -> str:
        """Return the tokenizer as the text of a ``tokenizer.json``."""
        return self._marked.to_str()

    # ------------------------------------------------------------------------------------- encoding

    def encode(self, text: str) -> list[int]:
        """Return the ids of a review's text; markup in it counts as text."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return ``<bos>`` and the ids of a prompt, whose special tokens count as such."""
        return [self.bos_id, *self._marked.encode(prompt, add_special_tokens=False).ids]

    def first_unknown(self, text: str) -> str | None:
        """Return the first part of a text that no token spells, or None."""
        encoding = self._marked.encode(text, add_special_tokens=False)
        begin, end = next(
            (span for index, span in zip(encoding.ids, encoding.offsets, strict=True) if index == self.unk_id), (0, 0)
        )
        return text[begin:end] or None

    def encode_reviews(self, texts: Iterable[str]) -> Ragged:
        """Encode many review texts in parallel; markup in them counts as text."""
        return self._encode_many(self._plain, texts)

    def encode_samples(self, samples: Iterable[str]) -> Ragged:
        """Encode many formatted samples in parallel; special tokens in them count as such."""
        return self._encode_many(self._marked, samples)

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Return the text of token ids; special tokens vanish unless they are to be kept."""
        return self._marked.decode([int(token) for token in ids], skip_special_tokens=not keep_special)

    def stream(self, *, keep_special: bool = False) -> "TokenStream":
        """Return a decoder of one text, whose tokens come one by one; special tokens as in `decode`."""
        return TokenStream(self, keep_special=keep_special)

    def token(self, index: int) -> str:
        """Return the vocabulary entry of an id, as ``tokenizer.json`` spells it."""
        entry = self._marked.id_to_token(index)
        if entry is None:
            raise IndexError(f"token {index} of a vocabulary of {self.vocab_size}")
        return entry

    # --------------------------------------------------------------------------------------- tables

    @cached_property
    def has_markers(self) -> bool:
        """Whether the markers are special tokens, as under the fair protocol."""
        added = self._marked.get_added_tokens_decoder().values()
        return {token.content for token in added} >= set(MARKERS)

    @property
    def end_ids(self) -> tuple[int, int]:
        """What ends a review: ``[/REVIEW]`` and ``<eos>``; needs `has_markers`."""
        return self._id_of(REVIEW_CLOSE), self.eos_id

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned type that holds every id."""
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    @cached_property
    def is_word_start_V(self) -> BoolArray:
        """Whether a window may start with the token without cutting a word."""
        if not self._is_byte_level:
            return np.ones(self.vocab_size, np.bool_)
        entries = [self.token(index) for index in range(self.vocab_size)]
        special = {*SPECIALS, *MARKERS}
        return np.array([entry.startswith("Ġ") or entry in special for entry in entries])

    @cached_property
    def num_bytes_V(self) -> IntArray:
        """UTF-8 bytes of text that a token of byte-level BPE stands for: 0 if special, 1 for ``<unk>``."""
        entries = [self.token(index) for index in range(self.vocab_size)]
        zero = {*SPECIALS, *MARKERS} if self.has_markers else set(SPECIALS)
        # Each character of an entry spells one byte.
        sizes = [0 if entry in zero else len(entry) for entry in entries]
        sizes[self.unk_id] = 1
        return np.array(sizes, np.int32)

    @cached_property
    def bytes_V(self) -> list[bytes]:
        """The bytes of UTF-8 that a token adds to a text which has begun: none if it is special.

        A token of byte-level BPE may hold a part of a character. A word brings the space before it.
        """
        spell = _bytes_of_entry if self._is_byte_level else _bytes_of_word
        return [b"" if index in self._special else spell(self.token(index)) for index in range(self.vocab_size)]

    @cached_property
    def special_bytes(self) -> dict[int, bytes]:
        """What special tokens add to a text in which they are kept."""
        return {
            index: self.token(index).encode() if self._is_byte_level else _bytes_of_word(self.token(index))
            for index in self._special
        }

    @property
    def drops_first_space(self) -> bool:
        """Whether a text lacks the space that its first token brings: one token a word."""
        return not self._is_byte_level

    @cached_property
    def _special(self) -> frozenset[int]:
        added = self._marked.get_added_tokens_decoder()
        return frozenset(index for index, token in added.items() if token.special)

    @property
    def _is_byte_level(self) -> bool:
        return isinstance(self._marked.pre_tokenizer, pre_tokenizers.ByteLevel)

    def _id_of(self, token: str) -> int:
        index = self._marked.token_to_id(token)
        if index is None:
            raise DataError(f"The tokenizer has no token {token}; it was not made by nano_llm.")
        return index

    def _encode_many(self, backend: tokenizers.Tokenizer, texts: Iterable[str]) -> Ragged:
        rows, lengths = [np.empty(0, self.dtype)], []
        for batch in _batches(texts):
            encodings = backend.encode_batch_fast(batch, add_special_tokens=False)
            for encoding in encodings:
                ids = encoding.ids
                lengths.append(len(ids))
                rows.append(np.array(ids, self.dtype))
        return Ragged(np.concatenate(rows), np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))))


class TokenStream:
    """Text of tokens that come one by one; the pieces join to `Tokenizer.decode` of them all.

    The library's own ``DecodeStream`` does not promise that: it loses text around special tokens and bytes that are no
    UTF-8, which a young model writes.
    """

    def __init__(self, tokenizer: Tokenizer, *, keep_special: bool) -> None:
        """Begin a text; `Tokenizer.stream` does it."""
        self._bytes_V = tokenizer.bytes_V
        self._special_bytes = tokenizer.special_bytes if keep_special else {}
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._drop_space = tokenizer.drops_first_space

    def push(self, token: int) -> str:
        """Return what the token completes: never a part of a character, so perhaps nothing."""
        text = self._utf8.decode(self._special_bytes.get(token, self._bytes_V[token]))
        if self._drop_space and text:
            self._drop_space = False
            return text.removeprefix(" ")
        return text

    def finish(self) -> str:
        """Return what an incomplete last character reads as, U+FFFD; nothing if the text ends whole."""
        return self._utf8.decode(b"", final=True)


def _check_layout(text: str) -> None:
    """Refuse a ``tokenizer.json`` of parts that `Tokenizer` never has.

    The library would take an id of a thousand million for that many tokens, and any pattern for one that ends.
    """
    try:
        layout = json.loads(text)
        model, vocab, unfit = layout["model"], layout["model"]["vocab"], list(_unfit_parts(layout))
        if sorted(vocab.values()) != list(range(len(vocab))):
            unfit.append("ids other than 0, 1, 2 and so on")
        if any(vocab.get(token["content"]) != token["id"] for token in layout["added_tokens"]):
            unfit.append("added tokens that the vocabulary lacks")
        special = {token["content"] for token in layout["added_tokens"] if token["special"]}
        if model["type"] == "BPE" and not _BYTE_OF_CHARACTER.keys() >= set("".join(vocab.keys() - special)):
            unfit.append("entries that spell no bytes")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"This is not a tokenizer.json: {type(error).__name__}, {error!s:.200}.") from error
    if unfit:
        raise DataError(f"This tokenizer.json was not made by nano_llm: it has {', '.join(unfit)}.")


def _unfit_parts(layout: dict[str, Any]) -> Iterator[str]:
    """Name the parts of a ``tokenizer.json`` that make it another than byte-level BPE or one token a word."""
    model, before, after = layout["model"], layout["pre_tokenizer"] or {}, layout["decoder"] or {}
    if layout["normalizer"] is not None:
        yield "a normalizer"
    if layout["truncation"] is not None or layout["padding"] is not None:
        yield "truncation or padding"
    if model["unk_token"] != UNK:
        yield "another unknown token"
    if model["type"] == "BPE":
        if not before.get("type") == after.get("type") == "ByteLevel" or before["add_prefix_space"]:
            yield "another way to bytes and back"
        if any(model[name] for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")):
            yield "another kind of BPE"
    elif model["type"] == "WordLevel":
        parts = [part["type"] for part in before["pretokenizers"]] + [part["type"] for part in after["decoders"]]
        patterns = (before["pretokenizers"][1]["pattern"], after["decoders"][0]["pattern"])
        if parts != _PARTS_OF_WORDS or patterns != ({"Regex": _STOP_AT_END}, {"Regex": _ANY_BUT_STOP}):
            yield "another way to words and back"
    else:
        yield "another model"


def words_of(text: str) -> list[str]:
    """Return the words of a text as the ``words`` tokenizer cuts it, ``.`` and ``,`` at a word's end apart."""
    words: list[str] = []
    for run in text.split():
        words += [run[:-1], run[-1]] if len(run) > 1 and run[-1] in ".," else [run]
    return words


def _bytes_of_word(entry: str) -> bytes:
    return (entry if entry in (".", ",") else f" {entry}").encode()


def _bytes_of_entry(entry: str) -> bytes:
    return bytes(_BYTE_OF_CHARACTER[character] for character in entry)


def _byte_of_character() -> dict[str, int]:
    """Return which byte a character of a byte-level entry spells: itself if printable, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_of_character()


def _fit_bpe(
    texts: Iterable[str], vocab_size: int, split_words: bool, special: list[str], alphabet: list[str]
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE(unk_token=UNK))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split_words)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=[*special],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer=trainer)
    return backend


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
