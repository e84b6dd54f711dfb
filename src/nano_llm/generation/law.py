"""The law that the next token of one text is drawn from, followed along the text.

The heads' laws are steered, then shaped by the knobs of sampling: heads -> rule -> repetition penalty -> temperature ->
masks. Both steps may depend on the tokens so far, which is why the law goes along.

Axes: T tokens, K outcomes, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nano_llm.data.arrays import BoolArray, FloatArray
from nano_llm.generation.sampling import Sampling, shape
from nano_llm.generation.steering import Steering, SteeringMode, plausible_V, steer


@dataclass(slots=True)
class Law:
    """How the tokens of one text are chosen, and what of the text so far that depends on."""

    outcome: int
    steering: Steering
    sampling: Sampling
    allowed_V: BoolArray  # what may be drawn at all
    llr: float = 0.0
    """Evidence of the tokens so far for the treatment: the sum of l_1 - l_0 over them, in nats."""
    seen: set[int] = field(default_factory=set)

    def next(self, log_p_KV: FloatArray) -> FloatArray:
        """Return the law (V,) of the next token, -inf where nothing is drawn, from the heads' laws."""
        own_V = self.own(log_p_KV)
        allowed_V = plausible_V(own_V, self.steering.plausibility, self.allowed_V)
        steered_V = steer(log_p_KV, self.outcome, self.llr, self.steering) if len(log_p_KV) == 2 else own_V
        return shape(steered_V, self.sampling, allowed_V, list(self.seen))

    def own(self, log_p_KV: FloatArray) -> FloatArray:
        """Return the law (V,) that was asked for before strength and knobs: of the wanted head, or the mixture."""
        if len(log_p_KV) == 1:
            own_V: FloatArray = log_p_KV[0]  # a model with one head is told the outcome by its prompt
        elif self.steering.mode is SteeringMode.mixture:
            own_V = steer(log_p_KV, self.outcome, self.llr, self.steering)
        else:
            own_V = log_p_KV[self.outcome]
        return own_V

    def follow(self, token: int, log_p_KV: FloatArray) -> None:
        """Go on to the token after this one, which was drawn or given where the heads had these laws."""
        self.seen.add(token)
        if len(log_p_KV) == 2:
            self.llr += float(log_p_KV[1, token] - log_p_KV[0, token])

    def along(self, log_p_TKV: FloatArray, tokens: Sequence[int]) -> FloatArray:
        """Return the laws (T, V) before each of T given tokens, and go on to the one after them."""
        laws = []
        for log_p_KV, token in zip(log_p_TKV, tokens, strict=True):
            laws.append(self.next(log_p_KV))
            self.follow(token, log_p_KV)
        return np.stack(laws)
