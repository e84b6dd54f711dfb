"""How alike Y0 and Y1 of a pair are, and how far steering carries, on a model of the structural corpus.

    make demo
    python experiments/pairs/pairs.py outputs/demo/tarnet-<id>/seed-0

Texts are judged by a logistic regression that was fitted to reviews of the law itself under do(T): the stream of the
suite's judges, which no model is trained on and no text here is of. Prompts take the topics in turn. Figures are means
with 95 % bootstrap intervals over pairs or texts.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nano_llm import checkpoint
from nano_llm.config.schema import ScmConfig
from nano_llm.data import scm
from nano_llm.data.review import Review
from nano_llm.evaluation.bootstrap import ratio_interval
from nano_llm.evaluation.judges import JudgeKind, LinearJudge, fit_judge
from nano_llm.evaluation.ngram_model import ByteNgram
from nano_llm.files import write_json
from nano_llm.generation.author import Author
from nano_llm.generation.request import read_counterfactual_request, read_request
from nano_llm.generation.writer import Draft, Finish
from nano_llm.report.text_diff import edit_share
from nano_llm.tracking.environment import environment
from nano_llm.tracking.locate import locate

NUM_PAIRS, NUM_STEERED, NUM_TOKENS = 300, 300, 200
PAIRS: dict[str, dict[str, Any]] = {
    "independent": {"pair": "independent"},
    "coupled by position": {"pair": "coupled", "events": "position"},
    "coupled by event": {"pair": "coupled", "events": "event"},
}
STEERED: dict[str, dict[str, Any]] = {
    "plain": {},
    **{f"contrast {strength:g}": {"steer": "contrast", "strength": strength} for strength in (0.5, 1.0, 2.0)},
    **{f"posterior {strength:g}": {"steer": "posterior", "strength": strength} for strength in (2.0, 4.0, 8.0)},
}


class Reader:
    """Judges of sentiment and of fluency that were fitted to the law's own reviews."""

    def __init__(self, config: ScmConfig) -> None:
        reviews = scm.sample_reviews(config, "judge", 5000, scm.Sampling.do)
        texts = [review.text for review in reviews]
        self.judge: LinearJudge = fit_judge(
            JudgeKind.lr, texts, [review.treatment for review in reviews], np.ones(len(reviews))
        )
        self.ngram = ByteNgram.fit(texts)

    def control(self, texts: Sequence[str], outcomes: Sequence[int], pairs: Sequence[int]) -> dict[str, Any]:
        """Share of texts in which the judge finds the outcome that was asked for; the texts of a pair go together."""
        right_N = (self.judge.logit(texts) > 0) == np.array(outcomes)
        return vars(ratio_interval(right_N, np.ones(len(texts)), pairs))

    def bits(self, texts: Sequence[str], ended: Sequence[bool], pairs: Sequence[int]) -> dict[str, Any]:
        """Bits a byte of a 6-gram model of bytes."""
        return vars(ratio_interval(*self.ngram.bits(texts, list(ended)), pairs))


def main() -> None:
    """Write, judge, print, and save beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="a run of a two-head model with data=scm")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("pairs.json"))
    given = parser.parse_args()
    place = locate(given.run, Path("outputs"))
    loaded = checkpoint.load(place.checkpoint)
    config = loaded.config.data
    assert isinstance(config, ScmConfig), "the law of the corpus must be known"
    author, reader = Author(loaded, torch.device("cpu"), num_rows=64), Reader(config)
    real = scm.sample_reviews(config, "test_do", 2 * NUM_PAIRS, scm.Sampling.do)
    real_texts, real_labels = [review.text for review in real], [review.treatment for review in real]
    alone = range(len(real))
    results: dict[str, Any] = {
        "run": "/".join(place.folder.resolve().parts[-3:]),
        "step": loaded.metrics.get("step"),
        "num_pairs": NUM_PAIRS,
        "num_steered": NUM_STEERED,
        "ceiling": reader.control(real_texts, real_labels, alone),
        "real_bits": reader.bits(real_texts, [True] * len(real), alone),
        "pairs": {name: measure_pairs(author, reader, fields) for name, fields in PAIRS.items()},
        "steered": {name: measure_steered(author, reader, fields) for name, fields in STEERED.items()},
        "environment": environment(),
    }
    results["pairs"]["abducted from real reviews"] = measure_counterfactuals(author, reader, real[:NUM_PAIRS])
    write_json(given.to, results)
    print(table(results))


def measure_pairs(author: Author, reader: Reader, fields: dict[str, Any]) -> dict[str, Any]:
    """Both outcomes to the same prompts."""
    asked = author.commissions(read_request({"num": NUM_PAIRS, "tokens": NUM_TOKENS, "seed": 1, **fields}))
    drafts = author.write(asked)
    texts = [draft.text for draft in drafts]
    control = reader.control(texts, [0, 1] * NUM_PAIRS, np.repeat(range(NUM_PAIRS), 2))
    return described(texts[::2], texts[1::2], drafts) | {"control": control}


def measure_counterfactuals(author: Author, reader: Reader, reviews: Sequence[Review]) -> dict[str, Any]:
    """The law's own reviews and their counterfactuals, which alone are judged."""
    drafts = []
    for number, review in enumerate(reviews):
        label = "pos" if review.treatment else "neg"
        fields = {"text": review.text, "label": label, "topic": review.topic, "draws": 1, "seed": number}
        drafts += author.write(author.counterfactuals(read_counterfactual_request(fields)))
    labels = [review.treatment for review in reviews]
    pairs = [
        (review.text, draft.text)[:: -1 if label else 1]
        for review, draft, label in zip(reviews, drafts, labels, strict=True)
    ]
    control = reader.control([draft.text for draft in drafts], [1 - label for label in labels], range(len(drafts)))
    return described([y0 for y0, _ in pairs], [y1 for _, y1 in pairs], drafts) | {"control": control}


def described(negative: Sequence[str], positive: Sequence[str], drafts: Sequence[Draft]) -> dict[str, Any]:
    """How alike the two texts of pairs are; the gap is in words, Y1 less Y0."""
    shares = [edit_share(y0, y1) for y0, y1 in zip(negative, positive, strict=True)]
    gaps = [len(y1.split()) - len(y0.split()) for y0, y1 in zip(negative, positive, strict=True)]
    return {
        "edit_share": vars(ratio_interval(shares, np.ones(len(shares)))),
        "length_gap_variance": float(np.var(gaps)),
        "share_equal": float(np.mean([y0 == y1 for y0, y1 in zip(negative, positive, strict=True)])),
        "share_ended": float(np.mean([draft.finish is Finish.end for draft in drafts])),
    }


def measure_steered(author: Author, reader: Reader, fields: dict[str, Any]) -> dict[str, Any]:
    """Both outcomes, steered; coupled, so pairs are resampled."""
    num = NUM_STEERED // 2
    asked = author.commissions(read_request({"num": num, "tokens": NUM_TOKENS, "seed": 2, **fields}))
    drafts = author.write(asked)
    texts, pairs = [draft.text for draft in drafts], np.repeat(range(num), 2)
    return {
        "control": reader.control(texts, [0, 1] * num, pairs),
        "bits": reader.bits(texts, [draft.finish is Finish.end for draft in drafts], pairs),
    }


def table(results: dict[str, Any]) -> str:
    """Return the figures as Markdown."""

    def shown(figure: dict[str, Any]) -> str:
        return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"

    lines = ["| pair | words that differ ↓ | control ↑ | variance of the length gap (words²) ↓ |", "|---|---|---|---|"]
    for name, row in results["pairs"].items():
        gap = f"{row['length_gap_variance']:.0f}"
        lines.append(f"| {name} | {shown(row['edit_share'])} | {shown(row['control'])} | {gap} |")
    lines += ["", "| steering | control ↑ | bits a byte |", "|---|---|---|"]
    for name, row in results["steered"].items():
        lines.append(f"| {name} | {shown(row['control'])} | {shown(row['bits'])} |")
    lines.append(f"| real reviews | {shown(results['ceiling'])} | {shown(results['real_bits'])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
