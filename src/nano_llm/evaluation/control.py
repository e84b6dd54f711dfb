"""Control and fluency: whether judges that were fitted to none of these texts find in them what was asked for.

The model never judges its own texts. Beside each figure stands what real texts of the same lengths get from the same
judge: a judge that is right on three real texts of four is no better on perfect ones.

Axes: N texts of a sample, M = 2 N texts of both samples, the generated ones first.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from nano_llm.data.arrays import BoolArray, FloatArray, IntArray
from nano_llm.evaluation.bootstrap import ratio_interval, statistic_interval
from nano_llm.evaluation.judges import LinearJudge
from nano_llm.evaluation.measured import Measured
from nano_llm.evaluation.ngram_model import ByteNgram
from nano_llm.evaluation.text_sample import TextSample, num_chars

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the texts' bits a byte."""


def measure_control(
    generated: TextSample, real: TextSample, judges: Sequence[LinearJudge], ngram: ByteNgram | None
) -> Measured:
    """Judge generated texts and, for the ceiling, real ones.

    The samples are independent; figures that compare them resample both.

    Args:
        generated: By the model; what of it is as long as the real texts is judged.
        real: Held-out texts, paired with those by length.
        judges: Of sentiment, fitted to neither sample.
        ngram: Fitted to texts that are in neither sample nor in the model's training data; None: there are too few.
    """
    num = len(generated.texts)
    texts = [*generated.cut_texts, *real.cut_texts]
    is_generated_M = np.arange(len(texts)) < num
    outcome_M = np.concatenate([generated.outcome_N, real.outcome_N])
    rows = pd.concat([generated.frame("generated"), real.frame("real")], ignore_index=True)
    figures, details = {}, _described(generated, real)
    ones_N = np.ones(num)
    for judge in judges:
        name = judge.kind.value
        logit_M = judge.logit(texts)
        right_M = ((logit_M > 0) == outcome_M).astype(np.float64)
        figures[f"control_accuracy_{name}"] = ratio_interval(right_M[:num], ones_N)
        figures[f"control_ceiling_{name}"] = ratio_interval(right_M[num:], ones_N)
        figures[f"control_ratio_{name}"] = statistic_interval([right_M, is_generated_M], _ratio_of_means)
        details[f"control_accuracy_{name}_by_outcome"] = [
            float(right_M[is_generated_M & (outcome_M == k)].mean()) for k in (0, 1)
        ]
        rows[f"logit_{name}"] = logit_M
    if ngram is not None:
        bits_M, num_bytes_M = ngram.bits(texts, [*generated.cut_ended_N.tolist(), *real.cut_ended_N.tolist()])
        if num_bytes_M[:num].any():  # a model may write nothing at all
            figures["judge_bpb"] = ratio_interval(bits_M[:num], num_bytes_M[:num])
            figures["fluency_gap"] = statistic_interval([bits_M, num_bytes_M, is_generated_M], _gap)
        per_byte_M = bits_M / np.maximum(num_bytes_M, 1)
        for source, chosen_M in (("generated", is_generated_M), ("real", ~is_generated_M)):
            details[f"judge_bpb_quantiles_{source}"] = np.quantile(per_byte_M[chosen_M], QUANTILES).tolist()
        rows = rows.assign(bits=bits_M, bytes=num_bytes_M)
    return Measured(figures, rows, details)


def _described(generated: TextSample, real: TextSample) -> dict[str, Any]:
    details: dict[str, Any] = {"quantiles": QUANTILES}
    for source, sample in (("generated", generated), ("real", real)):
        details[f"mean_chars_{source}"] = float(num_chars(sample.texts).mean())
        details[f"mean_chars_compared_{source}"] = float(sample.num_chars_N.mean())
        details[f"share_ended_{source}"] = float(sample.ended_N.mean())
    return details


def _ratio_of_means(right_M: FloatArray, is_generated_M: BoolArray) -> float:
    """Return accuracy / ceiling; NaN where the judge is never right on real texts, or a sample is missing."""
    counts = [np.count_nonzero(is_generated_M), np.count_nonzero(~is_generated_M)]
    wins = right_M[~is_generated_M].sum()
    if not all(counts) or wins == 0:
        return float("nan")
    return float(right_M[is_generated_M].sum() / counts[0] / (wins / counts[1]))


def _gap(bits_M: FloatArray, num_bytes_M: IntArray, is_generated_M: BoolArray) -> float:
    """Return bits a byte of the generated less those of the real texts; NaN where a sample has no bytes."""
    num_generated, num_real = num_bytes_M[is_generated_M].sum(), num_bytes_M[~is_generated_M].sum()
    if num_generated == 0 or num_real == 0:
        return float("nan")
    return float(bits_M[is_generated_M].sum() / num_generated - bits_M[~is_generated_M].sum() / num_real)
