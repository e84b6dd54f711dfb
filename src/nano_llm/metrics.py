"""Every figure that a run or an evaluation reports: its unit, the better direction, its meaning.

The one table that reports read; what computes a figure is in its room. A review's nats are sums over its tokens and its
end marker.
"""

from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    """The direction in which a figure improves."""

    lower = "↓"
    higher = "↑"
    neither = ""


@dataclass(frozen=True)
class Metric:
    """What a figure means."""

    unit: str
    better: Better
    meaning: str

    def title(self, name: str) -> str:
        """Return a column's title."""
        return f"{name} {self.better.value}".strip()


METRICS = {
    "val_ce": Metric("nats a target", Better.lower, "cross-entropy over every target, prompt included"),
    "val_ppl": Metric("", Better.lower, "exp(val_ce)"),
    "val_bpb": Metric("bits a byte", Better.lower, "bits a byte of the cleaned review, each byte scored once"),
    "val_js": Metric("nats a token", Better.neither, "mean Jensen-Shannon divergence of the two heads"),
    "val_posterior_js": Metric(
        "nats a review target", Better.neither, "their divergence, given what the text has told"
    ),
    "val_bayes": Metric("nats a window", Better.lower, "nats of the treatment by Bayes' rule over the heads, scaled"),
    "val_margin": Metric("nats a review target", Better.lower, "what windows lack of favouring their own outcome"),
    "val_unlikelihood": Metric("nats a review target", Better.lower, "-log(1 - p) of telling tokens, other head"),
    "val_objective": Metric("nats", Better.lower, "what training minimises, penalties included"),
    "test_bpb": Metric("bits a byte", Better.lower, "as val_bpb, on the test split, once at the end"),
    "test_ce": Metric("nats a target", Better.lower, "as val_ce, on the test split, once at the end"),
    "tokens_per_second": Metric("tokens/s", Better.higher, "trained target tokens a second of training"),
    "training_seconds": Metric("s", Better.lower, "time of the training steps, validation excluded"),
    "parameters": Metric("", Better.neither, "parameters of the model"),
    # bits a byte of test reviews, each byte scored once with at least half a window of context
    "bpb": Metric("bits a byte", Better.lower, "under the outcome of the review's own label"),
    "bpb_y0": Metric("bits a byte", Better.lower, "negative reviews under Y0"),
    "bpb_y1": Metric("bits a byte", Better.lower, "positive reviews under Y1"),
    "bpb_other": Metric("bits a byte", Better.neither, "under the outcome of the other label"),
    "bpb_mixture": Metric("bits a byte", Better.lower, "under the mixture of the outcomes, which knows no label"),
    # Bayes' rule over the outcomes
    "posterior_accuracy": Metric("share", Better.higher, "reviews whose label is the likelier one"),
    "posterior_log_loss": Metric("nats a review", Better.lower, "-log P(label | review)"),
    "posterior_log_loss_scaled": Metric("nats a review", Better.lower, "with a scale fitted on validation"),
    "info_hat": Metric("nats a review", Better.higher, "log loss of the prior, less that of the posterior; <= I(X;T)"),
    "info_hat_scaled": Metric("nats a review", Better.higher, "the same with a scale fitted on validation"),
    "posterior_ece": Metric("share", Better.lower, "distance of confidence and accuracy, 15 bins of equal mass"),
    "posterior_ece_scaled": Metric("share", Better.lower, "the same with a scale fitted on validation"),
    "posterior_ece_length_scaled": Metric("share", Better.lower, "the same with a scale for s a token"),
    # against the law of the structural corpus, on reviews under do(T)
    "excess_nll": Metric("bits a review", Better.lower, "more bits than the law needs; 0 is perfect"),
    "excess_nll_share": Metric("share", Better.lower, "excess over the entropy of the law"),
    "posterior_accuracy_do": Metric("share", Better.higher, "as posterior_accuracy, under do(T) with prior 1/2"),
    "bayes_accuracy_do": Metric("share", Better.neither, "the same by the law itself: the best that can be"),
    "cf_kl": Metric("nats a token", Better.lower, "KL of law and outcome k on reviews of the other treatment"),
    "factual_kl": Metric("nats a token", Better.lower, "KL of law and outcome k on reviews of treatment k"),
    "token_pehe": Metric("nats", Better.lower, "root mean squared error of log p_1 - log p_0 of the next token"),
    "token_pehe_neutral": Metric("nats", Better.lower, "the same where the law leaves T open (.4 < pi < .6)"),
    "token_pehe_decided": Metric("nats", Better.lower, "the same where the law has settled T (beyond .95)"),
    "js": Metric("nats a token", Better.neither, "Jensen-Shannon divergence of the outcomes"),
    "js_true": Metric("nats a token", Better.neither, "the same of the law"),
    "js_ratio": Metric("ratio", Better.neither, "js / js_true: below 1 collapsed, above 1 over-separated"),
    "info_ratio": Metric("ratio", Better.neither, "sum of JS_pi over that of the law; 1 is right"),
    "posterior_mae": Metric("", Better.lower, "mean |pi - pi*| over positions"),
    "confounding_bias": Metric("nats a review", Better.neither, "excess under do less excess as observed"),
    # minimal pairs: edited by people (CAD), or structural twins
    "pair_order": Metric("share", Better.higher, "pairs whose positive member has the larger s"),
    "pair_both_right": Metric("share", Better.higher, "pairs with both members on their side, after scaling"),
    "localisation": Metric("share", Better.higher, "of the difference in s that lies on edited tokens"),
    # reviews that the model writes under each outcome, by judges that were fitted to none of them, beside held-out
    # real texts; they are paired by length, and much longer ones are cut
    "control_accuracy_lr": Metric("share", Better.higher, "written reviews that the judge lr finds as asked for"),
    "control_ceiling_lr": Metric("share", Better.neither, "real texts of those lengths that lr labels right"),
    "control_ratio_lr": Metric("ratio", Better.higher, "accuracy / ceiling; 1 is as clear as real texts"),
    "control_accuracy_nbsvm": Metric("share", Better.higher, "written reviews that nbsvm finds as asked for"),
    "control_ceiling_nbsvm": Metric("share", Better.neither, "real texts of those lengths that nbsvm labels right"),
    "control_ratio_nbsvm": Metric("ratio", Better.higher, "accuracy / ceiling; 1 is as clear as real texts"),
    "judge_bpb": Metric("bits a byte", Better.neither, "of written reviews by a byte n-gram model of other texts"),
    "fluency_gap": Metric("bits a byte", Better.neither, "judge_bpb less that of real texts; 0 is right, loops < 0"),
    "num_words": Metric("words", Better.neither, "length of written reviews"),
    "num_words_real": Metric("words", Better.neither, "the same of real texts, not cut"),
    "distinct_1": Metric("share", Better.neither, "different words among the words of a block"),
    "distinct_1_real": Metric("share", Better.neither, "the same of real texts"),
    "distinct_2": Metric("share", Better.neither, "different pairs of words among those of a block"),
    "distinct_2_real": Metric("share", Better.neither, "the same of real texts"),
    "distinct_3": Metric("share", Better.neither, "different triples of words among those of a block"),
    "distinct_3_real": Metric("share", Better.neither, "the same of real texts"),
    "self_bleu": Metric("", Better.neither, "BLEU-4 of a written review against all others; high is monotonous"),
    "self_bleu_real": Metric("", Better.neither, "the same of real texts"),
    "seq_rep_4": Metric("share", Better.neither, "4-grams of a review that it has had before"),
    "seq_rep_4_real": Metric("share", Better.neither, "the same of real texts"),
    "compression_ratio": Metric("ratio", Better.neither, "raw / gzip bytes of a block; high is redundant"),
    "compression_ratio_real": Metric("ratio", Better.neither, "the same of real texts"),
    "copy_rate": Metric("share", Better.neither, "longest run of a review in the training texts / its words"),
    "copy_rate_real": Metric("share", Better.neither, "the same of real texts: what is beyond it is copied"),
    "two_sample_auc": Metric("", Better.lower, "a classifier tells written from real texts; .5 cannot, 1 always"),
    # the same written reviews against the law, under do(T)
    "ate_error_length": Metric("words", Better.lower, "|effect of the treatment on words a review - that of the law|"),
    "ate_error_positive": Metric("words a sentence", Better.lower, "the same of words of praise a sentence"),
    "null_leakage_topic": Metric("share", Better.lower, "total variation of topics between outcomes, beyond chance"),
    "null_leakage_aspect": Metric("share", Better.lower, "the same of aspects; 0 by the law"),
    "null_leakage_template": Metric("share", Better.lower, "the same of templates; 0 by the law"),
}
