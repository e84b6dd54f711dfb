"""Minimal pairs: a text and its edit to the other treatment, by people (CAD) or by the law (structural twins).

Topic, author and movie are the same in both members, so what differs in the score is the treatment alone.

Axes: P pairs, N tokens of all texts.
"""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

import numpy as np
import pandas as pd

from nano_llm.data.arrays import FloatArray
from nano_llm.evaluation.measured import Measured
from nano_llm.evaluation.outcome_model import TokenScores
from nano_llm.evaluation.posterior import Scale
from nano_llm.evaluation.recipe import Ratio


def measure_pairs(negative: TokenScores, positive: TokenScores, scale: Scale) -> Measured:
    """Score pairs by s = log p_1 - log p_0 of their members.

    Args:
        negative: Scores of the negative members, in the order of the pairs.
        positive: Scores of the positive members.
        scale: Fitted to other reviews; decides where s stands for a positive text.
    """
    s_negative_P, s_positive_P = _evidence(negative), _evidence(positive)
    half_P = np.full(len(s_negative_P), 0.5)
    in_order_P = 0.5 * (1 + np.sign(s_positive_P - s_negative_P))
    negative_odds_P, positive_odds_P = scale.log_odds(s_negative_P, half_P), scale.log_odds(s_positive_P, half_P)
    both_right_P = ((negative_odds_P < 0) & (positive_odds_P > 0)).astype(np.float64)
    edited_P, unchanged_P = _localised(negative, positive)
    total_P = np.abs(edited_P) + np.abs(unchanged_P)
    share_P = np.divide(np.abs(edited_P), total_P, out=np.zeros_like(total_P), where=total_P > 0)
    recipes = {"pair_order": Ratio("in_order"), "pair_both_right": Ratio("both_right")}
    # Equal outcomes see no difference anywhere, so it lies nowhere.
    if total_P.any():
        recipes["localisation"] = Ratio("share_edited", "differs")
    rows = {"s_negative": s_negative_P, "s_positive": s_positive_P, "edited": edited_P, "unchanged": unchanged_P} | {
        "in_order": in_order_P, "both_right": both_right_P,
        "share_edited": share_P, "differs": (total_P > 0).astype(np.float64),
    }  # fmt: skip
    return Measured.by_recipes(pd.DataFrame(rows), recipes)


def _evidence(scores: TokenScores) -> FloatArray:
    log_p_PK = scores.log_p_RK
    return log_p_PK[:, 1] - log_p_PK[:, 0]


def _localised(negative: TokenScores, positive: TokenScores) -> tuple[FloatArray, FloatArray]:
    """Return the difference of s between the members of each pair, from edited and from unchanged tokens."""
    edited, unchanged = [], []
    for (tokens_n, llr_n), (tokens_p, llr_p) in zip(_texts(negative), _texts(positive), strict=True):
        matches = SequenceMatcher(None, tokens_n, tokens_p, autojunk=False).get_matching_blocks()
        kept = sum(float(llr_p[b : b + size].sum() - llr_n[a : a + size].sum()) for a, b, size in matches)
        unchanged.append(kept)
        edited.append(float(llr_p.sum() - llr_n.sum()) - kept)
    return np.array(edited), np.array(unchanged)


def _texts(scores: TokenScores) -> Iterator[tuple[Sequence[int], FloatArray]]:
    """Yield the tokens of each text and their log-likelihood ratios."""
    llr_N = scores.log_p_NK[:, 1] - scores.log_p_NK[:, 0]
    for start, stop in zip(scores.offset_R1[:-1], scores.offset_R1[1:], strict=True):
        yield scores.tokens_N[start:stop].tolist(), llr_N[start:stop]
