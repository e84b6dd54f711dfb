"""Where heads differ: identities, and heads that differ in one known place."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nano_llm.config.schema import Precision
from nano_llm.data.windows import Windows
from nano_llm.evaluation.divergence import POSTERIOR_EDGES, divergence_profile
from nano_llm.training.machine import Machine

CPU = Machine(torch.device("cpu"), Precision.fp32)


class Late(nn.Module):
    """Two laws that are one before a position, and p_KV from there on."""

    def __init__(self, p_KV: list[list[float]], start: int) -> None:
        super().__init__()
        self.logits_KV, self.start = torch.tensor(p_KV).log(), start

    def forward(self, tokens_BT: Tensor) -> Tensor:
        late_T = torch.arange(tokens_BT.shape[1]) >= self.start
        equal_KV = self.logits_KV.mean(0, keepdim=True).expand_as(self.logits_KV)
        return torch.where(late_T[:, None, None], self.logits_KV, equal_KV).expand(len(tokens_BT), -1, -1, -1)


def windows(rows: list[list[int]], prompt: int = 1) -> Windows:
    num = len(rows)
    return Windows(
        tokens_WL=np.array(rows, np.uint16),
        length_W=np.full(num, len(rows[0]), np.int32),
        first_target_W=np.ones(num, np.int32),
        prompt_length_W=np.full(num, prompt, np.int32),
        review_W=np.arange(num, dtype=np.int32),
        treatment_W=(np.arange(num) % 2).astype(np.uint8),
        propensity_W=np.full(num, 0.5, np.float32),
    )


def js(p: list[float], q: list[float]) -> float:
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return sum((a * math.log(a / c) + b * math.log(b / c)) / 2 for a, b, c in zip(p, q, m, strict=True))


def test_equal_heads_differ_nowhere() -> None:
    profile = divergence_profile(Late([[0.5, 0.5]] * 2, 0), windows([[0] * 11] * 3), CPU, batch_size=2)
    assert profile["all"] == pytest.approx({"targets": 30, "js": 0, "posterior_js": 0}, abs=1e-7)
    assert [row["targets"] for row in profile["by_position"]] == [3] * 10
    assert [row["targets"] for row in profile["by_posterior"]] == [0, 0, 0, 0, 30, 0, 0, 0]
    assert profile["by_posterior"][0]["js"] is None


def test_divergence_is_found_at_its_position() -> None:
    law = [[0.6, 0.4], [0.2, 0.8]]
    profile = divergence_profile(Late(law, 10), windows([[0] * 21] * 2), CPU, batch_size=2)
    found = [row["js"] for row in profile["by_position"]]
    assert found == pytest.approx([0] * 5 + [js(*law)] * 5, abs=1e-6)
    assert profile["all"]["js"] == pytest.approx(js(*law) / 2, abs=1e-6)
    # Where the evidence is still even, the posterior divergence is the same; later it is less.
    assert profile["by_position"][0]["posterior_js"] == pytest.approx(0, abs=1e-6)
    later = [row["posterior_js"] for row in profile["by_position"][5:]]
    assert later == sorted(later, reverse=True)


def test_divergence_is_found_at_its_posterior() -> None:
    law = [[0.1, 0.9], [0.9, 0.1]]  # each target multiplies the odds by 9
    profile = divergence_profile(Late(law, 0), windows([[0] * 5]), CPU, batch_size=1)
    bounds = [0.0, *POSTERIOR_EDGES, 1.0]
    expected = [0] * 8
    for odds in (1, 9, 81, 729):
        expected[sum(edge <= odds / (1 + odds) for edge in POSTERIOR_EDGES)] += 1
    rows = profile["by_posterior"]
    assert [row["targets"] for row in rows] == expected
    assert [(row["from"], row["to"]) for row in rows] == list(pairwise(bounds))
    assert all(row["js"] == pytest.approx(js(*law), rel=1e-5) for row in rows if row["targets"])


def test_the_prompt_says_nothing() -> None:
    law = [[0.1, 0.9], [0.9, 0.1]]
    profile = divergence_profile(Late(law, 0), windows([[0] * 6], prompt=4), CPU, batch_size=1)
    assert profile["all"]["targets"] == 2
    # The first review target is met at even odds, whatever the prompt was.
    assert [row["targets"] for row in profile["by_posterior"]] == [0, 0, 0, 0, 1, 1, 0, 0]


def test_divergence_on_rare_tokens_is_told_apart() -> None:
    """The heads disagree on token 3 alone, which never comes: all JS but what its mass takes elsewhere is there."""
    law = [[0.49, 0.49, 0.0199, 0.0001], [0.48, 0.48, 0.02, 0.02]]
    tokens = [[0, 1] * 50 + [0]] * 2 + [[0, 2, *[0, 1] * 49, 0]]
    profile = divergence_profile(Late(law, 0), windows(tokens), CPU, batch_size=3)
    part = [(a * math.log(2 * a / (a + b)) + b * math.log(2 * b / (a + b))) / 2 for a, b in zip(*law, strict=True)]
    assert profile["rare"]["tokens"] == 2
    assert profile["rare"]["share"] == pytest.approx(1 / 300)
    assert profile["rare"]["js_share"] == pytest.approx((part[2] + part[3]) / sum(part), rel=1e-3)
    assert profile["rare"]["js_share"] > 0.9


def test_batching_and_sampling_change_nothing_else() -> None:
    rng = np.random.default_rng(0)
    some = windows(rng.integers(0, 2, (6, 8)).tolist())
    law = [[0.3, 0.7], [0.6, 0.4]]
    one, other = (divergence_profile(Late(law, 0), some, CPU, batch_size=size) for size in (1, 6))
    for name in ("by_position", "by_posterior"):
        for row, same in zip(one[name], other[name], strict=True):
            assert row["targets"] == same["targets"]
            if row["targets"]:
                assert row == pytest.approx(same, rel=1e-6)
    assert divergence_profile(Late(law, 0), some, CPU, batch_size=2, num_reviews=2)["all"]["targets"] == 14
