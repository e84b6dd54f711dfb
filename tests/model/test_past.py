"""Keys and values that are kept: the next token attends as it would within the whole."""

from typing import cast

import torch
from torch import LongTensor, Tensor

from nano_llm.model.attention import attend
from nano_llm.model.past import Past

SHAPE = (2, 3, 2, 7, 4)  # layers, rows, heads, positions, width of a head


def indices(*values: int) -> LongTensor:
    return cast(LongTensor, torch.tensor(values))


def heads(num_rows: int, num_tokens: int, seed: int) -> Tensor:
    """Queries, keys and values (3, B, H, T, K)."""
    return torch.randn(3, num_rows, 2, num_tokens, 4, generator=torch.Generator().manual_seed(seed))


def test_rows_at_different_positions_attend_as_within_the_whole() -> None:
    past = Past(SHAPE, like=torch.empty(0))
    query, key, value = heads(2, 6, seed=0)
    whole = attend(query, key, value, dropout=0.0)
    num_seen = (2, 4)
    for row, seen in enumerate(num_seen):
        first = past.first(indices(row))[1].attend(*(x[row : row + 1, :, :seen] for x in (query, key, value)))
        torch.testing.assert_close(first[0], whole[row, :, :seen])
    for step in range(2):
        places = [seen + step for seen in num_seen]
        tokens = [torch.stack([x[row, :, t : t + 1] for row, t in enumerate(places)]) for x in (query, key, value)]
        after = past.next(indices(*places))[1].attend(*tokens)
        for row, t in enumerate(places):
            torch.testing.assert_close(after[row, :, 0], whole[row, :, t])


def test_layers_and_other_rows_keep_what_they_had() -> None:
    past = Past(SHAPE, like=torch.empty(0))
    past.first(indices(2))[0].attend(*heads(1, 5, seed=1))
    before = past.keys_NRHLK.clone()
    past.first(indices(0))[1].attend(*heads(1, 3, seed=2))
    past.next(indices(3))[1].attend(*heads(1, 1, seed=3))
    before[1, 0] = past.keys_NRHLK[1, 0]
    assert torch.equal(past.keys_NRHLK, before)
    assert before[0, 2, :, :5].abs().min() > 0


def test_a_copied_row_has_read_the_same() -> None:
    past = Past(SHAPE, like=torch.empty(0))
    past.first(indices(0, 1))[0].attend(*heads(2, 4, seed=4))
    past.copy(0, 1, num_tokens=4)
    token = heads(1, 1, seed=5).expand(-1, 2, -1, -1, -1)
    after = past.next(indices(4, 4))[0].attend(*token)
    torch.testing.assert_close(after[0], after[1])


def test_type_and_device_follow_the_weights() -> None:
    past = Past(SHAPE, like=torch.empty(0, dtype=torch.float64))
    assert past.keys_NRHLK.dtype == past.values_NRHLK.dtype == torch.float64
