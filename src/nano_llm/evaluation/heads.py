"""Bits a byte by head: what knowing the treatment buys, and what the other outcome makes of the same review.

Axes: R reviews, K outcomes.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.evaluation.bootstrap import Interval, ratio_interval
from nano_llm.evaluation.measured import Measured
from nano_llm.evaluation.outcome_model import TokenScores


def measure_heads(
    scores: TokenScores,
    num_bytes_R: IntArray,
    treatment_R: IntArray,
    prior_R: FloatArray | None,
    cluster_R: NDArray[np.str_] | None,
) -> Measured:
    """Score reviews under each outcome; every byte of a review counts once and its prompt is free.

    A label that no review has gets no figure of its own.

    Args:
        scores: Of the reviews, under one outcome or two.
        num_bytes_R: UTF-8 bytes of the cleaned reviews.
        treatment_R: Their labels.
        prior_R: P(T = 1 | prompt): the weight of outcome 1 in the mixture, which does not know the label. Not read
            where there is one outcome.
        cluster_R: What each review belongs to; None: to itself.
    """
    nats_RK = -scores.log_p_RK

    def bits_per_byte(nats_R: FloatArray, chosen_R: np.ndarray) -> Interval:
        cluster = None if cluster_R is None else cluster_R[chosen_R]
        return ratio_interval(nats_R[chosen_R], num_bytes_R[chosen_R], cluster, scale=1 / np.log(2))

    all_R = np.ones(len(nats_RK), np.bool_)
    rows = pd.DataFrame({"treatment": treatment_R, "bytes": num_bytes_R, "tokens": scores.num_tokens_R})
    if nats_RK.shape[1] == 1:
        return Measured({"bpb": bits_per_byte(nats_RK[:, 0], all_R)}, rows.assign(nats=nats_RK[:, 0]))
    assert prior_R is not None, "two outcomes are mixed by a prior"
    row_R = np.arange(len(nats_RK))
    factual_R, other_R = nats_RK[row_R, treatment_R], nats_RK[row_R, 1 - treatment_R]
    mixture_R = -logsumexp(-nats_RK + np.log(np.stack([1 - prior_R, prior_R], axis=1)), axis=1)
    labels = [k for k in (0, 1) if (treatment_R == k).any()]
    return Measured(
        figures={
            "bpb": bits_per_byte(factual_R, all_R),
            **{f"bpb_y{k}": bits_per_byte(nats_RK[:, k], treatment_R == k) for k in labels},
            "bpb_other": bits_per_byte(other_R, all_R),
            "bpb_mixture": bits_per_byte(mixture_R, all_R),
        },
        rows=rows.assign(nats_y0=nats_RK[:, 0], nats_y1=nats_RK[:, 1], nats_mixture=mixture_R),
    )
