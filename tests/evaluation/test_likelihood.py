"""Bits a byte and nats a target: by hand, and by another path."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nano_llm.config.compose import compose_config
from nano_llm.config.schema import Precision
from nano_llm.data.windows import Windows
from nano_llm.evaluation.likelihood import Likelihood, evenly_spaced, likelihood
from nano_llm.model.language_model import build_language_model
from nano_llm.objective import Objective
from nano_llm.training.machine import Machine

CPU = Machine(torch.device("cpu"), Precision.fp32)


class Table(nn.Module):
    """Gives the token v the probability ``law[k][v]`` everywhere, under outcome k."""

    def __init__(self, *laws: list[float]) -> None:
        super().__init__()
        self.logits_KV = torch.tensor(laws).log()

    def forward(self, tokens_BT: Tensor) -> Tensor:
        return self.logits_KV.expand(*tokens_BT.shape, *self.logits_KV.shape)


def windows(
    rows: list[list[int]], first: list[int], prompt: list[int], review: list[int], labels: list[int]
) -> Windows:
    length = max(map(len, rows))
    return Windows(
        tokens_WL=np.array([row + [0] * (length - len(row)) for row in rows], np.uint16),
        length_W=np.array([len(row) for row in rows], np.int32),
        first_target_W=np.array(first, np.int32),
        prompt_length_W=np.array(prompt, np.int32),
        review_W=np.array(review, np.int32),
        treatment_W=np.array(labels, np.uint8),
        propensity_W=np.full(len(rows), 0.5, np.float32),
    )


def score(model: nn.Module, some: Windows, num_bytes: list[int], chosen: str, **settings: int | None) -> Likelihood:
    config = compose_config(f"model={chosen}".split())
    objective = Objective(config.model, config.protocol.loss_average)
    settings = {"batch_size": 2, "num_reviews": None, **settings}
    return likelihood(model, objective, some, num_bytes, CPU, **settings)  # type: ignore[arg-type]


def test_three_tokens_by_hand() -> None:
    """Prompt of two tokens; the review "né" is n + two halves of é: three tokens, three bytes."""
    law = [0.0625, 0.0625, 0.125, 0.25, 0.5]
    some = windows([[1, 2, 4, 3, 2]], first=[1], prompt=[2], review=[0], labels=[0])
    result = score(Table(law), some, [3], "vanilla")
    assert result.num_targets == 4
    assert result.nats == pytest.approx(math.log(8) + math.log(2) + math.log(4) + math.log(8))
    assert result.bits_per_byte == pytest.approx((1 + 2 + 3) / 3)


def test_each_review_is_judged_by_the_head_of_its_label() -> None:
    y0, y1 = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]
    some = windows([[1, 0], [1, 0]], first=[1, 1], prompt=[1, 1], review=[0, 1], labels=[0, 1])
    result = score(Table(y0, y1), some, [1, 1], "tarnet")
    assert result.nats == pytest.approx(math.log(2) + math.log(4))
    assert result.separation is not None
    assert 0 < result.separation < math.log(2)


def test_a_penalty_never_enters_the_cross_entropy() -> None:
    some = windows([[1, 0, 2]], first=[1], prompt=[1], review=[0], labels=[0])
    result = score(Table([0.5, 0.25, 0.25], [0.2, 0.2, 0.6]), some, [2], "tarnet")
    assert result.metrics("val")["val_ce"] == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert result.objective == pytest.approx(result.nats / 2 - 0.02 * (result.separation or 0), abs=1e-6)


@pytest.mark.parametrize("kind", ["posterior_js", "bayes", "margin", "unlikelihood"])
def test_a_separation_term_has_a_figure_of_its_own(kind: str) -> None:
    some = windows([[1, 0, 2, 2], [1, 2]], first=[1, 1], prompt=[2, 1], review=[0, 1], labels=[0, 1])
    model = Table([0.5, 0.25, 0.25], [0.2, 0.2, 0.6])
    result = score(model, some, [2, 1], f"tarnet model/separation={kind}")
    plain = score(model, some, [2, 1], "tarnet")
    figures = result.metrics("val")
    assert figures["val_ce"] == plain.metrics("val")["val_ce"]
    assert figures["val_js"] == pytest.approx(plain.metrics("val")["val_js"], rel=1e-6)
    weight = compose_config([f"model/separation={kind}"]).model.separation.weight  # type: ignore[attr-defined]
    share = {"posterior_js": (1, -weight), "bayes": (1 - weight, weight)}.get(kind, (1, weight))
    assert result.objective == pytest.approx(share[0] * figures["val_ce"] + share[1] * figures[f"val_{kind}"], rel=1e-6)


def test_windows_of_a_review_add_up_to_the_review_scored_whole() -> None:
    """The same text through overlapping windows and, another way, by a law that ignores context."""
    law = [0.1, 0.2, 0.3, 0.4]
    text = [3, 2, 1, 3, 3, 0, 2]
    whole = windows([[1, *text]], first=[1], prompt=[1], review=[0], labels=[0])
    pieces = windows([[1, 3, 2, 1, 3], [1, 1, 3, 3, 0], [1, 3, 0, 2]], [1, 3, 3], [1, 1, 1], [0, 0, 0], [0, 0, 0])
    assert score(Table(law), pieces, [7], "vanilla").bits_per_byte == pytest.approx(
        score(Table(law), whole, [7], "vanilla").bits_per_byte
    )
    assert score(Table(law), whole, [7], "vanilla").review_nats == pytest.approx(-sum(math.log(law[t]) for t in text))


def test_padding_and_batching_change_nothing() -> None:
    config = compose_config(["scale=tiny"])
    torch.manual_seed(0)
    model = build_language_model(config.model, config.scale, 16, 12).eval()
    rng = np.random.default_rng(0)
    rows = [[1, *rng.integers(0, 16, size).tolist()] for size in (3, 9, 5, 11, 2)]
    some = windows(rows, [1] * 5, [2] * 5, list(range(5)), [0, 1, 0, 1, 1])
    alone = score(model, some, [5] * 5, "tarnet", batch_size=1)
    together = score(model, some, [5] * 5, "tarnet", batch_size=5)
    assert together.nats == pytest.approx(alone.nats, rel=1e-5)
    assert together.review_nats == pytest.approx(alone.review_nats, rel=1e-5)


def test_a_sample_of_reviews_counts_its_own_bytes() -> None:
    some = windows([[1, 0], [1, 0], [1, 0]], [1] * 3, [1] * 3, [0, 1, 2], [0, 0, 0])
    result = score(Table([0.5, 0.5]), some, [10, 20, 40], "vanilla", num_reviews=2)
    assert (result.num_reviews, result.num_bytes, result.num_targets) == (2, 30, 2)


def test_sampled_reviews_are_spread_over_the_split() -> None:
    assert evenly_spaced(10, 3).tolist() == [0, 3, 6]
    assert evenly_spaced(2, 5).tolist() == [0, 1]
    assert evenly_spaced(4, None).tolist() == [0, 1, 2, 3]
