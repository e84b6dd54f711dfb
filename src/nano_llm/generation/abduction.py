"""Abduction: the Gumbel noise with which a head would have written a given text.

The head draws x = argmax_v [log phi_v + g_v]. Given x, the maximum G* is Gumbel(0, 1) whatever x is, and the other
G_v = log phi_v + g_v are Gumbel(log phi_v) cut off at G* (Maddison, Tarlow and Minka 2014, arXiv 1411.0030):

    G_v = -log(exp(-(log phi_v + e_v)) + exp(-G*)),    e_v ~ Gumbel(0, 1),    g_v = G_v - log phi_v

Where phi_v = 0 the text tells nothing, and g_v is a draw from the prior.

"Counterfactual texts assume the Gumbel-max noise model. Data cannot identify it; other models with the same heads give
other counterfactuals (arXiv 2111.06888, 2509.22297)."

Axes: T tokens of a text, its end included if it ended; V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nano_llm.data.arrays import FloatArray, IntArray
from nano_llm.errors import RequestError
from nano_llm.generation.noise import Event, Noise, Stream

LEAD = 1e-3
"""Nats by which the text's token is kept ahead of all others.

A decoder that computes the laws anew is off by the rounding of its logits, 1e-4 in float32; without a lead about one
token in ten thousand would tip over. Noise is moved by at most the lead, and only where the runner-up came closer, at
most once in a thousand tokens: what it does to the law of a counterfactual is of the order of 1e-6. A temperature far
below 1, or strong steering, magnifies the rounding beyond the lead: there the text may not come back."""


@dataclass(frozen=True, slots=True, eq=False)
class AbductedNoise:
    """Noise of a unit that is abducted at some events and fresh at all others."""

    noise: Noise
    abducted: Mapping[Event, FloatArray] = field(repr=False)
    """Event -> noise (V,), for the events of the text that keep it."""

    def gumbel_V(self, event: Event, size: int) -> FloatArray:
        """Return the noise (V,) of an event; not to be written to."""
        kept_V = self.abducted.get(event)
        if kept_V is None:
            return self.noise.gumbel_V(event, size)
        assert kept_V.size == size, f"noise of {kept_V.size} tokens for a vocabulary of {size}"
        return kept_V


def abduct(
    log_phi_TV: FloatArray,
    tokens_T: IntArray,
    events: Sequence[Event],
    noise: Noise,
    *,
    similarity: float = 1.0,
    name_token: Callable[[int], str] = str,
) -> AbductedNoise:
    """Draw the noise of a text from its posterior.

    Args:
        log_phi_TV: Normalised log-probabilities before each token of the text, -inf where masked: the head that wrote
            the text, after steering, temperature and masks.
        tokens_T: The text.
        events: Keys of its tokens, T of them, no two alike.
        noise: Of the unit. All of the randomness is keyed by it: other seeds or units give other draws from the
            posterior. It is also the noise of the events that the text did not visit.
        similarity: beta in [0, 1]: an event keeps its abducted noise if a uniform number keyed by it is below beta. 1
            is hindsight, 0 the plain intervention; what is kept at one beta is kept at all larger ones.
        name_token: How an error spells a token, such as `Tokenizer.token`.

    Returns:
        Noise with which the same laws give the text back at the events that keep it.

    Raises:
        RequestError: The similarity is no share, or the text has a token that the laws exclude.
    """
    if not 0 <= similarity <= 1:
        raise RequestError(
            f"similarity={similarity} is no share of events. Give a number from 0 (fresh noise everywhere) to 1 "
            "(all of the text's noise)."
        )
    assert len(set(events)) == len(tokens_T) == len(log_phi_TV), "one event of its own a token, and one law"
    _check_possible(log_phi_TV, tokens_T, name_token)
    size = log_phi_TV.shape[1]
    prior_TV = np.array([noise.gumbel_V(event, size, Stream.posterior) for event in events]).reshape(len(events), size)
    gumbel_TV = posterior_gumbel_TV(log_phi_TV, tokens_T, prior_TV)
    gumbel_TV.flags.writeable = False
    kept = {event: gumbel_TV[t] for t, event in enumerate(events) if noise.uniform(event) < similarity}
    return AbductedNoise(noise, kept)


def posterior_gumbel_TV(log_phi_TV: FloatArray, tokens_T: IntArray, prior_TV: FloatArray) -> FloatArray:
    """Turn draws from the prior into draws from the posterior given each row's token.

    The token wins strictly in float64 arithmetic: ``log_phi_TV + gumbel_TV`` has its maximum there and no other value
    within `LEAD` of it.

    Args:
        log_phi_TV: Normalised log-probabilities, -inf where masked.
        tokens_T: What each row drew, of probability above 0.
        prior_TV: Independent Gumbel(0, 1) draws. That of the token serves as G*.

    Returns:
        g_TV, finite.
    """
    row_T = np.arange(len(tokens_T))
    possible_TV = log_phi_TV > -np.inf
    phi_TV = np.where(possible_TV, log_phi_TV, 0.0)
    best_T = prior_TV[row_T, tokens_T]
    own_T = best_T - phi_TV[row_T, tokens_T]
    gumbel_TV = -np.logaddexp(-(phi_TV + prior_TV), -best_T[:, None]) - phi_TV

    # What the token's score rounds to decides. A number one step below the rounded difference lies below the exact
    # one, so that its sum with phi, which rounds monotonically, is at most the ceiling.
    score_T = phi_TV[row_T, tokens_T] + own_T
    ceiling_T = np.minimum(score_T - LEAD, np.nextafter(score_T, -np.inf))
    highest_TV = np.nextafter(ceiling_T[:, None] - phi_TV, -np.inf)

    gumbel_TV = np.where(possible_TV, np.minimum(gumbel_TV, highest_TV), prior_TV)
    gumbel_TV[row_T, tokens_T] = own_T
    return gumbel_TV


def _check_possible(log_phi_TV: FloatArray, tokens_T: IntArray, name_token: Callable[[int], str]) -> None:
    impossible_T = log_phi_TV[np.arange(len(tokens_T)), tokens_T] == -np.inf
    if not impossible_T.any():
        return
    t = int(impossible_T.argmax())
    likeliest = int(log_phi_TV[t].argmax())
    raise RequestError(
        f"Token {t} of the text (counted from 0), {name_token(int(tokens_T[t]))!r}, has probability 0 under the head "
        f"of its label, whose likeliest token there is {name_token(likeliest)!r}: no noise can have written this text. "
        "Loosen or drop what excludes it (top-k, top-p, min-p, plausibility); at temperature 0 only the head's own "
        "greedy text is possible, so give a temperature above 0."
    )
