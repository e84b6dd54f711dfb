"""Any module from tokens to logits as a language model: what it keeps of the tokens that it has read is the tokens.

B rows of a forward pass, R rows of the cache, L positions of the cache, T positions, K outcomes, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nano_llm.model.language_model import LanguageModel


class Recomputing(LanguageModel):
    """Reads every window anew with a module from tokens (B, T) to logits (B, T, K, V), which sees no later token.

    The logits stand in the place of hidden states. A single row is shown to the module as it is; of several, the
    shorter ones have anything at all to their right.
    """

    def __init__(self, module: nn.Module, num_outcomes: int) -> None:
        super().__init__()
        self.module = module
        self._num_outcomes = num_outcomes
        self._keeper = _Keeper()

    @property
    def passes(self) -> list[tuple[nn.Module, None]]:  # type: ignore[override]
        return [(self._keeper, None)]

    @property
    def num_outcomes(self) -> int:
        return self._num_outcomes

    def hidden_states(self, tokens_BT: Tensor, pasts: Sequence["_Reading"] | None = None) -> list[Tensor]:  # type: ignore[override]
        return [pasts[0].read(self.module, tokens_BT) if pasts else self.module(tokens_BT)]

    def read_out(self, hidden_states: Sequence[Tensor]) -> Tensor:
        return hidden_states[0]


class _Keeper(nn.Module):
    """What `Contexts` asks of a trunk: its device, and a past."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1, 1)

    def open_past(self, num_rows: int, num_positions: int) -> "_Past":
        return _Past(torch.zeros(num_rows, num_positions, dtype=torch.long))


class _Past:
    def __init__(self, tokens_RL: Tensor) -> None:
        self.tokens_RL = tokens_RL

    def first(self, row_B: Tensor) -> "_FirstTokens":
        return _FirstTokens(self.tokens_RL, row_B)

    def next(self, position_B: Tensor) -> "_NextTokens":
        return _NextTokens(self.tokens_RL[: len(position_B)], position_B)

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        self.tokens_RL[target, :num_tokens] = self.tokens_RL[source, :num_tokens]


class _FirstTokens:
    def __init__(self, tokens_RL: Tensor, row_B: Tensor) -> None:
        self.tokens_RL, self.row_B = tokens_RL, row_B

    def read(self, module: nn.Module, tokens_BT: Tensor) -> Tensor:
        self.tokens_RL[self.row_B, : tokens_BT.shape[1]] = tokens_BT
        logits_BTKV: Tensor = module(tokens_BT)
        return logits_BTKV


class _NextTokens:
    def __init__(self, tokens_BL: Tensor, position_B: Tensor) -> None:
        self.tokens_BL, self.position_B = tokens_BL, position_B

    def read(self, module: nn.Module, tokens_B1: Tensor) -> Tensor:
        index_B = torch.arange(len(self.position_B))
        self.tokens_BL[index_B, self.position_B] = tokens_B1[:, 0]
        logits_BTKV: Tensor = module(self.tokens_BL[:, : int(self.position_B.max()) + 1].clone())
        return logits_BTKV[index_B, self.position_B].unsqueeze(1)


_Reading = _FirstTokens | _NextTokens
