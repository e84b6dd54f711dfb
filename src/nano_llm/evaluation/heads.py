"""Bits a byte by head: what knowing the treatment buys, and what the other outcome makes of the same review.

Axes: R reviews, K outcomes.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.evaluation.measured import Measured
from nano_llm.evaluation.outcome_model import TokenScores
from nano_llm.evaluation.recipe import Ratio


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
    rows = pd.DataFrame({"treatment": treatment_R, "bytes": num_bytes_R, "tokens": scores.num_tokens_R})
    if cluster_R is not None:
        rows["movie"] = cluster_R
    if nats_RK.shape[1] == 1:
        return Measured.by_recipes(rows.assign(nats=nats_RK[:, 0]), {"bpb": _bits_per_byte("nats")})
    assert prior_R is not None, "two outcomes are mixed by a prior"
    row_R = np.arange(len(nats_RK))
    rows = rows.assign(
        nats=nats_RK[row_R, treatment_R],
        nats_other=nats_RK[row_R, 1 - treatment_R],
        nats_y0=nats_RK[:, 0],
        nats_y1=nats_RK[:, 1],
        nats_mixture=-logsumexp(-nats_RK + np.log(np.stack([1 - prior_R, prior_R], axis=1)), axis=1),
    )
    labels = [k for k in (0, 1) if (treatment_R == k).any()]
    return Measured.by_recipes(
        rows,
        {
            "bpb": _bits_per_byte("nats"),
            **{f"bpb_y{k}": _bits_per_byte(f"nats_y{k}", k) for k in labels},
            "bpb_other": _bits_per_byte("nats_other"),
            "bpb_mixture": _bits_per_byte("nats_mixture"),
        },
    )


def _bits_per_byte(nats: str, treatment: int | None = None) -> Ratio:
    return Ratio(nats, "bytes", 1 / np.log(2), treatment)
