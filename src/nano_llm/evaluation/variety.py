"""Variety, repetition and copying of generated texts, each figure beside that of real texts of the same lengths.

Axes: N texts of a sample, M = 2 N texts of both samples, the generated ones first; B blocks.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nano_llm.data.arrays import FloatArray
from nano_llm.errors import DataError
from nano_llm.evaluation.bootstrap import Interval, ratio_interval, statistic_interval
from nano_llm.evaluation.copying import copy_rate
from nano_llm.evaluation.measured import Measured
from nano_llm.evaluation.text_sample import TextSample
from nano_llm.evaluation.texts import (
    compression_ratio,
    distinct_n,
    num_words,
    self_bleu,
    seq_rep_4,
    two_sample_auc,
    two_sample_scores,
)

BLOCK_WORDS = (10_000, 5_000, 2_000, 1_000, 500, 200)
BLOCK_BYTES = (50_000, 20_000, 10_000, 5_000, 2_000, 1_000)
"""Sizes of a block, of which the first is taken that both samples fill often enough: figures depend on it."""
MIN_BLOCKS = 5


def measure_variety(generated: TextSample, real: TextSample, training: Sequence[str]) -> Measured:
    """Measure both samples; the figure of the real one has the name's end ``_real``.

    Both outcomes are pooled. Blocks take the texts of outcome 0 first. Words are counted in whole texts, all else is
    measured on as much of both as is compared.

    Args:
        generated: By the model.
        real: Held-out texts, paired with those by length.
        training: Texts that the model was trained on.
    """
    samples = {"": generated.cut_texts, "_real": real.cut_texts}
    num = len(generated.texts)
    texts = [text for sample in samples.values() for text in sample]
    per_text = {
        "num_words": num_words([*generated.texts, *real.texts]).astype(np.float64),
        "seq_rep_4": seq_rep_4(texts),
        "self_bleu": np.concatenate([self_bleu(sample, num_texts=num) for sample in samples.values()]),
        "copy_rate": copy_rate(texts, training),
    }
    block_words = _block_size(BLOCK_WORDS, min(int(num_words(sample).sum()) for sample in samples.values()))
    block_bytes = _block_size(BLOCK_BYTES, min(len("\n".join(sample).encode()) for sample in samples.values()))
    figures = {}
    for end, sample in samples.items():
        if block_words is not None:
            for n in (1, 2, 3):
                figures[f"distinct_{n}{end}"] = _mean(distinct_n(sample, n, block_words))
        if block_bytes is not None:
            figures[f"compression_ratio{end}"] = _mean(compression_ratio(sample, block_bytes))
        for name, value_M in per_text.items():
            figures[f"{name}{end}"] = _mean(value_M[num:] if end else value_M[:num])
    rows = pd.concat([generated.frame("generated"), real.frame("real")], ignore_index=True).assign(**per_text)
    try:
        is_generated_M, score_M = two_sample_scores(samples["_real"], samples[""])
    except DataError:
        pass  # samples without a common word, or of four texts, teach nothing
    else:
        figures["two_sample_auc"] = statistic_interval([is_generated_M, score_M], two_sample_auc)
    details = {"block_words": block_words, "block_bytes": block_bytes, "training_texts": len(training)}
    return Measured(figures, rows, details)


def _block_size(sizes: Sequence[int], amount: int) -> int | None:
    """Return the largest size of which there are enough blocks; None if there is none."""
    return next((size for size in sizes if amount // size >= MIN_BLOCKS), None)


def _mean(value_B: FloatArray) -> Interval:
    return ratio_interval(value_B, np.ones_like(value_B))
