"""The card of an exported model, and its licence: what it is, how to load it, its figures, where it fails."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from nano_llm import __version__
from nano_llm.checkpoint import Checkpoint
from nano_llm.config.schema import Config, ImdbConfig, InterblockTrunkConfig, ScmConfig, ScmTopic, TwoOutcomeConfig
from nano_llm.data.template import SENTIMENTS
from nano_llm.export.figures import Figure
from nano_llm.generation.account import account
from nano_llm.generation.author import Author
from nano_llm.generation.request import Request

SEED, NUM_SAMPLES, NUM_TOKENS = 0, 2, 120
"""Of the samples: texts of each outcome, and their longest."""

BLOCK_ATTENTION = "Kimi Team: Attention Residuals (Block Attention Residuals), arXiv 2603.15031."
TARNET = "Shalit, Johansson, Sontag: Estimating individual treatment effect (TARNet), arXiv 1606.03976."
IMDB = "Maas, Daly, Pham, Huang, Ng, Potts: Learning Word Vectors for Sentiment Analysis, ACL 2011 (the IMDB reviews)."


@dataclass(frozen=True)
class Background:
    """What is known of a model beyond its checkpoint."""

    run: str | None
    """Arm and seed, if it lies in a run."""
    commit: str | None
    """Of the program that trained it."""
    data: Mapping[str, Any]
    """The run's data.json; empty if it is not there."""
    figures: Sequence[Figure]
    """What it was measured at."""
    is_shipped: bool = False
    """Whether it came with nano_llm."""


def render_card(
    checkpoint: Checkpoint,
    author: Author,
    background: Background,
    *,
    dtype: str,
    outcome: int | None,
    repository: str | None,
) -> str:
    """Return the text of the card.

    Args:
        checkpoint: The model.
        author: Of the same model; writes the samples.
        background: What else is known of it.
        dtype: Of the weights, by torch's name.
        outcome: What a model with two outcomes speaks for unless told otherwise.
        repository: Its name on the Hub, if it is to get one.
    """
    data = checkpoint.config.data
    ends = author.vocabulary.end_strings
    clusters = {figure.is_clustered for figure in background.figures}
    return _template("card.md.j2").render(
        title=f"{checkpoint.config.model.name}, {_num_parameters(checkpoint):,} parameters",
        two_outcomes=author.num_heads == 2,
        tells_sentiment=author.has_outcomes,
        is_ours=isinstance(data, ScmConfig),
        dataset=_repository(checkpoint, background),
        facts=_facts(checkpoint, background, dtype),
        repository=repository,
        prompts=[json.dumps(prompt, ensure_ascii=False) for prompt in _prompts(author)],
        outcome=outcome,
        stop=f", stop_strings={json.dumps(ends[:1])}, tokenizer=tokenizer" if ends else "",
        window=data.window_length,
        data=_data(checkpoint, background),
        counts=_counts(background.data),
        figures=background.figures,
        suites=sorted({figure.suite for figure in background.figures}),
        n_of="reviews, or whole movies" if True in clusters else "reviews",
        seed=SEED,
        num_tokens=NUM_TOKENS,
        samples=_samples(author),
        confounding=_confounding(checkpoint),
        licence=licence(checkpoint.config),
        citations=citations(checkpoint.config),
    )


def render_licence(config: Config) -> str:
    """Return the text of the licence of a model's folder."""
    return _template("licence.md.j2").render(licence=licence(config))


def strict_template(text: str) -> Template:
    """Return the template of a card, to which a name that it is not given is an error."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(text)


def _template(name: str) -> Template:
    return strict_template(files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _facts(checkpoint: Checkpoint, background: Background, dtype: str) -> list[tuple[str, str]]:
    config = checkpoint.config
    scale, model = config.scale, config.model
    facts = [
        ("architecture", f"{model.name}: {model.trunk.name} trunk, {model.readout.name} readout"),
        ("size", f"{scale.num_layers} layers of width {scale.d_model}, {scale.num_heads} heads"),
        ("positions", f"{model.position.name}, a window of {config.data.window_length} tokens"),
        ("vocabulary", f"{checkpoint.tokenizer.vocab_size:,} tokens ({config.data.tokenizer.kind.name})"),
        ("weights", f"{_num_parameters(checkpoint):,}, {dtype}"),
    ]
    if isinstance(model, TwoOutcomeConfig):
        facts.append(
            ("separation of the outcomes", f"{model.separation.kind.name}, weight {model.separation.weight:g}")
        )
    step, origin = checkpoint.metrics.get("step"), checkpoint.metrics.get("imported_from")
    if origin is not None:
        facts.append(("imported from", f"a checkpoint of the reference system, {origin}"))
    elif step is not None:
        facts.append(("trained", f"{step:,} steps, seed {config.seed}"))
    if background.run is not None:
        facts.append(("run", background.run))
    made = f"nano_llm {__version__}" + (f", trained at commit {background.commit}" if background.commit else "")
    return [*facts, ("exported by", made)]


def _num_parameters(checkpoint: Checkpoint) -> int:
    return sum(tensor.numel() for tensor in checkpoint.weights.values())


def _prompts(author: Author) -> list[str]:
    """Return the prompts that the model was trained with, with the first topic where they name one."""
    topic = author.topics[0] if author.topics else None
    return list(dict.fromkeys(author.template.prompt(treatment, topic) for treatment in (0, 1)))


def _repository(checkpoint: Checkpoint, background: Background) -> str | None:
    """Return the name on the Hub of what it was trained on."""
    source, data = background.data.get("source"), checkpoint.config.data
    if isinstance(source, dict):
        return source.get("repository") if source.get("kind") == "hub" else None
    return data.repository if isinstance(data, ImdbConfig) and data.path is None else None


def _data(checkpoint: Checkpoint, background: Background) -> str:
    data = checkpoint.config.data
    if isinstance(data, ScmConfig):
        return (
            "Reviews sampled from a law that is known exactly (`data=scm` of nano_llm): nobody wrote them, and "
            "they speak of no film. "
            f"Topics are {data.topic.name}, confounding {data.confounding:g}, effect {data.effect:g}."
        )
    repository = _repository(checkpoint, background)
    if repository is None and background.is_shipped:
        return "The IMDB reviews of Maas et al., ACL 2011, labelled negative or positive."
    if repository is None:
        return f"English reviews from a local folder (`data={data.name}`), labelled negative or positive."
    return f"English movie reviews of `{repository}`, labelled negative or positive."


def _counts(data: Mapping[str, Any]) -> list[str]:
    counts = data.get("counts")
    splits = counts.get("splits") if isinstance(counts, dict) else None
    if not isinstance(splits, dict):
        return []
    lines = [f"{name}: {split['reviews']:,} reviews, {split['tokens']:,} tokens" for name, split in splits.items()]
    return [*lines, f"fingerprint: {data.get('fingerprint')}"]


def _samples(author: Author) -> list[dict[str, str]]:
    """Return texts that the model writes, of both outcomes if it has them; explicit words are redacted."""
    commissions = author.commissions(Request(num_texts=NUM_SAMPLES, num_tokens=NUM_TOKENS, seed=SEED))
    samples = []
    for commission, draft in zip(commissions, author.write(commissions), strict=True):
        told = account(commission, draft, author.tokenizer, censored=True)
        kind = "A review" if commission.outcome is None else f"Y{commission.outcome} ({SENTIMENTS[commission.outcome]})"
        heading = kind if commission.topic is None else f"{kind}, {commission.topic}"
        text = told["text"] + (" [...]" if told["finish"] == "length" else "")
        # Indented, whatever a text contains is shown as it is.
        samples.append({"heading": heading, "text": textwrap.indent(text, "    ", lambda _: True)})
    return samples


def _confounding(checkpoint: Checkpoint) -> str:
    data = checkpoint.config.data
    if not isinstance(data, ScmConfig):
        return "in reviews of films, the film does."
    if data.confounding == 0:
        return "in this corpus nothing does."
    if data.topic is ScmTopic.observed:
        return "in this corpus the topic does, but the prompt names it."
    return "in this corpus the topic does, and the prompt does not tell it for certain."


def licence(config: Config) -> str:
    """Say what is known of the rights in what a model was trained on."""
    if isinstance(config.data, ScmConfig):
        return "So is the corpus, and this model."
    return (
        "The reviews are not: their authors have not licensed them, and a model may repeat parts of them. Whether and "
        "how you may pass this model on is for you to find out; cite the source of the reviews."
    )


def citations(config: Config) -> list[str]:
    """Return what is to be cited with a model."""
    cited = ["nano_llm, whose repository says how to cite it."]
    if isinstance(config.model, TwoOutcomeConfig):
        cited.append(TARNET)
    if isinstance(config.model.trunk, InterblockTrunkConfig):
        cited.append(BLOCK_ATTENTION)
    return cited if isinstance(config.data, ScmConfig) else [*cited, IMDB]
