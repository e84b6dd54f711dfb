"""The schema of every group in ``conf/``: one dataclass a group, values in the YAML files.

A field states its meaning, unit and range once, here; the default stands once, in the group's YAML file.
A variant with knobs of its own has a class of its own, so a knob exists only where it means something.
Classes named ``...Config`` are what a room receives; rules that span several fields are in ``strict.py``.
"""

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from omegaconf import MISSING


def setting(
    doc: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    volatile: bool = False,
    absent: Any = MISSING,
    silent: bool = False,
) -> Any:
    """Declare one setting of the schema.

    Args:
        doc: What the setting means, with its unit.
        at_least: Smallest allowed value.
        at_most: Largest allowed value.
        above: The value must be greater than this.
        below: The value must be smaller than this.
        volatile: The setting cannot change a run's numbers, so it takes no part in the run's id.
        absent: What a configuration says that was stored before the setting existed; unless given, it is refused.
        silent: Saying what ``absent`` says takes no part in the run's id either, so that runs from before the setting
            keep theirs.
    """
    limits = {"at_least": at_least, "at_most": at_most, "above": above, "below": below}
    return field(
        default=MISSING,
        metadata={
            "doc": doc,
            "limits": {k: v for k, v in limits.items() if v is not None},
            "volatile": volatile,
            "absent": absent,
            "silent": silent,
        },
    )


MAX_WIDTH, MAX_DEPTH = 65_536, 1_024
"""Units and layers beyond which a size is taken for a slip or a damaged file, before memory is asked for."""
MAX_SEED = 2**62
"""Sweeps count up from a seed, and PyTorch takes 64 bits."""


# ---------------------------------------------------------------------------------------------- scale


@dataclass
class ScaleConfig:
    """The size of a model: one dial for all architectures."""

    name: str = setting("label of the size in run names", volatile=True)
    d_model: int = setting("width of the residual stream", at_least=1, at_most=MAX_WIDTH)
    num_layers: int = setting("number of layers (attention and feed-forward each)", at_least=1, at_most=MAX_DEPTH)
    num_heads: int = setting("number of attention heads; divides d_model", at_least=1)
    d_ff: int = setting("width of the feed-forward hidden layer", at_least=1, at_most=MAX_WIDTH)


# ---------------------------------------------------------------------------------------------- model


class Position(Enum):
    """How a position reaches the trunk."""

    rope = "rope"
    sinusoidal = "sinusoidal"


class DepthSource(Enum):
    """What a finished macro-block contributes: the full stream or the sum of its sublayer outputs."""

    stream = "stream"
    delta = "delta"


class DepthPartial(Enum):
    """What a mix inside a macro-block reads of it: the last sublayers only, or all of them so far."""

    reference = "reference"
    cumulative = "cumulative"


class QueryInit(Enum):
    """Initial pseudo-queries: U(-1/sqrt(d), 1/sqrt(d)), or zeros (uniform mixing)."""

    reference = "reference"
    zero = "zero"


@dataclass
class TrunkConfig:
    """How the layers are joined: tokens in, hidden states out."""

    name: str = setting("label of the trunk", volatile=True)


@dataclass
class VanillaTrunkConfig(TrunkConfig):
    """Pre-norm decoder; nothing to set beyond the scale."""


@dataclass
class InterblockTrunkConfig(TrunkConfig):
    """Decoder whose sublayers read a learned mix over earlier macro-blocks (Block Attention Residuals)."""

    source: DepthSource = setting("what a finished macro-block contributes: stream | delta")
    partial: DepthPartial = setting("what is read of the open macro-block: reference | cumulative")
    query_init: QueryInit = setting("initial pseudo-queries: reference | zero")
    final_mix: bool = setting("mix once more over all macro-blocks before the final norm")
    macro_block_size: int = setting("layers in a macro-block", at_least=1)
    max_block_representations: int = setting("finished macro-blocks kept, embedding included; 0 keeps all", at_least=0)


@dataclass
class ReadoutConfig:
    """What makes logits of hidden states, of one outcome or of two."""

    name: str = setting("label of the readout", volatile=True)


@dataclass
class OneOutcomeReadoutConfig(ReadoutConfig):
    """Base of the readouts with one distribution over the next token."""


@dataclass
class TiedReadoutConfig(OneOutcomeReadoutConfig):
    """Logits by the transposed embedding."""


@dataclass
class MlpReadoutConfig(OneOutcomeReadoutConfig):
    """Logits by a multilayer perceptron without bias, not tied to the embedding."""

    hidden_layers: int = setting("hidden layers; 0 is one linear map", at_least=0, at_most=MAX_DEPTH)
    hidden_width: int | None = setting("units of a hidden layer; null takes d_model", at_least=1, at_most=MAX_WIDTH)


@dataclass
class HeadConfig:
    """One perceptron of a readout with two outcomes."""

    hidden_layers: int = setting("hidden layers; 0 is one linear map", at_least=0, at_most=MAX_DEPTH)
    hidden_width: int | None = setting("units of a hidden layer; null takes d_model", at_least=1, at_most=MAX_WIDTH)


@dataclass
class TwoOutcomeReadoutConfig(ReadoutConfig):
    """Base of the readouts that tell two outcomes apart: a perceptron that they share, and what is added to it."""

    hidden_layers: int = setting("hidden layers of all perceptrons, unless set apart", at_least=0, at_most=MAX_DEPTH)
    hidden_width: int | None = setting(
        "units of a hidden layer, unless set apart; null takes d_model", at_least=1, at_most=MAX_WIDTH
    )
    shared: HeadConfig = field(default_factory=HeadConfig)


@dataclass
class TwoHeadReadoutConfig(TwoOutcomeReadoutConfig):
    """logits_k = shared(h) + delta_k(h) for the outcomes k = 0, 1 (TARNet, arXiv 1606.03976)."""

    delta0: HeadConfig = field(default_factory=HeadConfig)
    delta1: HeadConfig = field(default_factory=HeadConfig)


@dataclass
class SymmetricReadoutConfig(TwoOutcomeReadoutConfig):
    """logits_0 = shared(h) - delta(h), logits_1 = shared(h) + delta(h): what is shared and what differs is unique."""

    delta: HeadConfig = field(default_factory=HeadConfig)


class SeparationKind(Enum):
    """The term that asks the outcomes to differ; the formulas are in `nano_llm.objective`."""

    none = "none"
    js = "js"
    posterior_js = "posterior_js"
    bayes = "bayes"
    margin = "margin"
    unlikelihood = "unlikelihood"
    cad_pairs = "cad_pairs"


SCALE, MARGIN, THRESHOLD = 10.0, 0.4, 0.5
"""What ``null`` stands for in the settings of these names."""


@dataclass
class SeparationConfig:
    """A term of the objective, never of a metric called CE."""

    kind: SeparationKind = setting("none | js | posterior_js | bayes | margin | unlikelihood | cad_pairs")
    weight: float = setting("weight of the term in the loss; bayes: its share, the rest is the CE's", at_least=0)
    scale: float | None = setting(
        f"of the log-ratio a token: bayes learns it from here, cad_pairs keeps it; null: {SCALE:g}",
        above=0,
        absent=None,
    )
    margin: float | None = setting(
        f"margin: nats by which a window is to favour its own outcome; null: {MARGIN:g}", at_least=0, absent=None
    )
    threshold: float | None = setting(
        f"unlikelihood: log-ratio, in nats, from which a token speaks for its outcome; null: {THRESHOLD:g}",
        absent=None,
    )


class Weighting(Enum):
    """What a training window weighs: the same for all, or the inverse of the chance of its treatment."""

    none = "none"
    inverse_propensity = "inverse_propensity"


@dataclass
class ModelConfig:
    """What all architectures share."""

    name: str = setting("label of the architecture in run names", volatile=True)
    trunk: TrunkConfig = MISSING
    position: Position = setting("positions: rope | sinusoidal")
    dropout: float = setting("share of units dropped in training", at_least=0, below=1)
    embedding_std: float = setting("standard deviation of the initial token embedding", above=0)

    @property
    def readout(self) -> ReadoutConfig:
        """A field of each variant: declared here too, Hydra would let every readout go with every model."""
        raise NotImplementedError

    @property
    def num_outcomes(self) -> int:
        """Number of potential outcomes that the model tells apart."""
        return 1


@dataclass
class SingleHeadConfig(ModelConfig):
    """One distribution over the next token; the prompt carries the sentiment (S-learner)."""

    readout: OneOutcomeReadoutConfig = MISSING


@dataclass
class TwoOutcomeConfig(ModelConfig):
    """Base of the models with two potential outcomes Y0 and Y1; the prompt is the same for both."""

    separation: SeparationConfig = field(default_factory=SeparationConfig)
    weighting: Weighting = setting(
        "weight of a window's CE: none | inverse_propensity, T/(2e) + (1-T)/(2(1-e))", absent=Weighting.none
    )

    @property
    def num_outcomes(self) -> int:
        """Y0 and Y1."""
        return 2


@dataclass
class TwoHeadConfig(TwoOutcomeConfig):
    """A trunk that the outcomes share, and a readout that tells them apart (TARNet)."""

    readout: TwoOutcomeReadoutConfig = MISSING


@dataclass
class TreatmentEmbeddingConfig(TwoOutcomeConfig):
    """A trunk and a readout that the outcomes share; the treatment is added to every input of the trunk (S+)."""

    readout: OneOutcomeReadoutConfig = MISSING


@dataclass
class TwoModelsConfig(TwoOutcomeConfig):
    """A trunk and a readout for each outcome; nothing is shared (T-learner)."""

    readout: OneOutcomeReadoutConfig = MISSING


# ----------------------------------------------------------------------------------------------- data


class Conditioning(Enum):
    """How a single-head model is told the sentiment; ``auto`` follows the model."""

    auto = "auto"
    tags = "tags"
    natural = "natural"
    command = "command"


class TokenizerKind(Enum):
    """Byte-level BPE trained on the corpus, or one token a word (closed vocabularies only)."""

    bpe = "bpe"
    words = "words"


@dataclass
class TokenizerConfig:
    """The tokenizer that is fitted to the corpus."""

    kind: TokenizerKind = setting("bpe | words")
    vocab_size: int = setting("largest number of tokens, special ones included", at_least=5, at_most=65536)
    split_words: bool = setting("bpe: merges stay inside the words of the GPT-2 pattern")


@dataclass
class PromptConfig:
    """The replaceable parts of the conditioning text."""

    negative: str = setting("instruction for T=0 under natural conditioning")
    positive: str = setting("instruction for T=1 under natural conditioning")
    command: str = setting("treatment-invariant command for models with two outcomes")


@dataclass
class DataConfig:
    """What all corpora share."""

    name: str = setting("label of the corpus in run names", volatile=True)
    conditioning: Conditioning = setting("auto | tags | natural | command; auto: command for two outcomes, else tags")
    prompt: PromptConfig = field(default_factory=PromptConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    window_length: int = setting("tokens in a window", at_least=4, at_most=65536)
    max_train_reviews: int | None = setting("cap on training reviews, stratified by label; null: all", at_least=2)
    max_validation_reviews: int | None = setting("cap on validation reviews, stratified; null: all", at_least=2)
    max_test_reviews: int | None = setting("cap on test reviews, stratified; null: all", at_least=2)
    max_review_chars: int | None = setting("longer reviews are cut at words into several; null: no cap", at_least=1)
    num_pairs: int = setting(
        "minimal pairs for model.separation.kind=cad_pairs: structural twins, or CAD's training pairs",
        at_least=0,
        absent=0,
    )
    split_seed: int = setting("seed of caps and of the validation split", at_least=0)
    prepared: str | None = setting(
        "folder written by `nano-llm prepare`, used as it is; null: the cache", volatile=True
    )


@dataclass
class ImdbConfig(DataConfig):
    """IMDB reviews from the Hub, or reviews of one's own from a local folder."""

    path: str | None = setting(
        "folder of train and test files, Parquet, CSV or JSONL with the columns text and label; null: the Hub",
        volatile=True,
    )
    cad: str | None = setting(
        "folder of the counterfactually augmented reviews, {train,dev,test}_paired.tsv; null: none",
        volatile=True,
        absent=None,
    )
    exclude_cad: bool = setting(
        "keep the originals of the counterfactually augmented reviews out of training", absent=False
    )
    movies: str | None = setting(
        "folder with the movie of each review, {train,test}.txt: validation and test share none; null: unknown",
        volatile=True,
        absent=None,
    )
    repository: str = setting("dataset on the Hub")
    revision: str = setting("commit of the dataset on the Hub")


class ScmTopic(Enum):
    """What the prompt tells of the topic Z: nothing, Z itself, or a noisy proxy W."""

    hidden = "hidden"
    observed = "observed"
    proxy = "proxy"


class ScmLexicon(Enum):
    """Word lists and templates of the structural corpus."""

    tiny = "tiny"
    default = "default"


@dataclass
class ScmConfig(DataConfig):
    """The structural review corpus: sampled from a known law, never downloaded."""

    corpus_seed: int = setting("seed of the sampled reviews", at_least=0)
    num_train: int = setting("training reviews to sample", at_least=2)
    num_validation: int = setting("validation reviews to sample", at_least=2)
    num_test: int = setting("test reviews to sample", at_least=2)
    lexicon: ScmLexicon = setting("word lists and templates: tiny | default")
    confounding: float = setting("kappa: how strongly the topic drives the sentiment", at_least=0)
    overlap: float = setting("P(T=1|Z) is clipped to [overlap, 1 - overlap]; 0: no clip", at_least=0, below=0.5)
    noise: float = setting("eps: probability that a sentence contradicts the sentiment", above=0, at_most=0.5)
    effect: float = setting("e: size of the effect of the sentiment; 0 is the null effect", at_least=0, at_most=1)
    length_effect: float = setting("d: effect of the sentiment on length, in logits of stopping")
    topic: ScmTopic = setting("hidden | observed | proxy")
    proxy_accuracy: float = setting("rho: probability that the proxy names the topic", at_least=0, at_most=1)
    verdict: bool = setting("close each review with an overall verdict")
    min_sentences: int = setting("fewest sentences before the verdict", at_least=1)
    max_sentences: int = setting("most sentences before the verdict", at_least=1)
    stop_terse: float = setting("probability of stopping after a sentence, terse style", above=0, below=1)
    stop_chatty: float = setting("probability of stopping after a sentence, chatty style", above=0, below=1)


# ------------------------------------------------------------------------------------------- protocol


class Windows(Enum):
    """How reviews become windows: every token a target once, or as the reference cuts them."""

    covering = "covering"
    reference = "reference"


class TokenizerCorpus(Enum):
    """The texts that the tokenizer is fitted to."""

    train = "train"
    train_and_validation = "train_and_validation"


class LossAverage(Enum):
    """The mean that training minimises: over tokens, or over rows of their token means."""

    token = "token"
    row = "row"


class Selection(Enum):
    """The validation figure whose minimum is the best checkpoint."""

    val_bpb = "val_bpb"
    val_objective = "val_objective"


@dataclass
class ProtocolConfig:
    """What is scored, on which texts, and what selects the checkpoint."""

    name: str = setting("label of the protocol", volatile=True)
    windows: Windows = setting("covering | reference")
    tokenizer_corpus: TokenizerCorpus = setting("train | train_and_validation")
    validation_reviews: int | None = setting(
        "reviews of the official test split that select; the rest is the test; null: the whole split selects",
        at_least=2,
    )
    loss_average: LossAverage = setting("token | row (two outcomes only; one always averages tokens)")
    selection: Selection = setting("val_bpb | val_objective")


# ------------------------------------------------------------------------------ optimizer and schedule


class Decay(Enum):
    """The parameters that weight decay shrinks."""

    matrices = "matrices"
    all = "all"


@dataclass
class OptimizerConfig:
    """AdamW."""

    name: str = setting("label of the optimizer", volatile=True)
    lr: float = setting("peak learning rate", above=0)
    beta1: float = setting("decay of the first moment", at_least=0, below=1)
    beta2: float = setting("decay of the second moment", at_least=0, below=1)
    eps: float = setting("added to the root of the second moment", above=0)
    weight_decay: float = setting("decoupled weight decay", at_least=0)
    decay: Decay = setting("what is decayed: matrices | all")
    grad_clip: float | None = setting("largest norm of the gradient; null: no clipping", above=0)


@dataclass
class MuonConfig(OptimizerConfig):
    """Muon for the hidden matrices, AdamW with the settings above for everything else."""

    muon_lr: float = setting("peak learning rate of the hidden matrices", above=0)
    momentum: float = setting("momentum of the hidden matrices", at_least=0, below=1)


@dataclass
class ScheduleConfig:
    """Learning rate as a share of its peak; warm-up by steps, the rest by the share of the budget used."""

    name: str = setting("label of the schedule", volatile=True)
    warmup_steps: int = setting("steps of linear warm-up", at_least=0)


@dataclass
class ConstantConfig(ScheduleConfig):
    """The peak throughout."""


@dataclass
class LinearConfig(ScheduleConfig):
    """A straight line from the peak to final_factor."""

    final_factor: float = setting("last learning rate as a share of the peak", at_least=0, at_most=1)


@dataclass
class CosineConfig(ScheduleConfig):
    """Half a cosine from the peak to final_factor."""

    final_factor: float = setting("last learning rate as a share of the peak", at_least=0, at_most=1)
    per_epoch: bool = setting("hold the rate during an epoch, as the reference does; needs trainer.max_epochs")


@dataclass
class WsdConfig(ScheduleConfig):
    """Warm-up, stable, decay: the peak, then a straight line to final_factor."""

    final_factor: float = setting("last learning rate as a share of the peak", at_least=0, at_most=1)
    decay_share: float = setting("share of the budget spent decaying", above=0, at_most=1)


# -------------------------------------------------------------------------------------------- trainer


class Device(Enum):
    """Where to train; ``auto`` takes CUDA, then MPS, then the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(Enum):
    """Arithmetic of the forward pass; ``auto`` is bf16 where CUDA supports it, else fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class BadSteps(Enum):
    """What becomes of a step with a figure that is not finite, or a spike of its gradient."""

    stop = "stop"
    skip = "skip"


class Suite(Enum):
    """How thoroughly a model is evaluated."""

    none = "none"
    quick = "quick"
    full = "full"


@dataclass
class TrainerConfig:
    """The training loop: budget, batch, rhythm, machine."""

    name: str = setting("label of the trainer settings", volatile=True)
    device: Device = setting("auto | cpu | cuda | mps", volatile=True)
    precision: Precision = setting("auto | fp32 | bf16 | fp16")
    tf32: bool = setting("allow TF32 matrix products on CUDA")
    compile: bool = setting("torch.compile the model")
    num_threads: int | None = setting("CPU threads of PyTorch; null: its own choice", at_least=1, volatile=True)
    batch_size: int = setting("windows in one forward pass", at_least=1)
    num_micro_batches: int = setting("forward passes accumulated into one step", at_least=1)
    max_epochs: float | None = setting("budget in passes over the training windows; null: none", above=0)
    max_steps: int | None = setting("budget in optimizer steps; null: none", at_least=1)
    max_tokens: int | None = setting("budget in trained target tokens; null: none", at_least=1)
    max_minutes: float | None = setting("budget in minutes of training, all sessions together; null: none", above=0)
    session_minutes: float | None = setting(
        "stop, resumable, after so many minutes of this session; null: never", above=0, volatile=True
    )
    log_every: int = setting("steps between log rows", at_least=1, volatile=True)
    eval_every: int | None = setting("steps between validations; null: at the end of each epoch", at_least=1)
    eval_reviews: int | None = setting("validation reviews scored during training; null: all", at_least=2)
    test_reviews: int | None = setting("test reviews scored once at the end; null: all, 0: none", at_least=0)
    evaluation: Suite = setting(
        "suite for the best checkpoint at the end: none | quick | full", volatile=True, absent=Suite.none
    )
    eval_batch_size: int = setting("windows in one forward pass of a validation", at_least=1, volatile=True)
    patience: int | None = setting("validations without improvement before stopping; null: never", at_least=1)
    # Volatile, since what ends under both has the same numbers: under `stop` only a run without bad steps ends. One
    # that was stopped goes on, from its last good state, under `skip`.
    bad_steps: BadSteps = setting(
        "figures not finite, or a spike: stop the run | skip the update, for which each step waits for the device",
        volatile=True,
        absent=BadSteps.stop,
    )
    spike_factor: float | None = setting(
        "a gradient norm beyond so many times the median of the latest 128 is a spike, 10 say; null: no watch",
        above=1,
        absent=None,
        silent=True,
    )
    deterministic: bool = setting(
        "refuse operations that need not repeat bit for bit, and their faster forms on CUDA", absent=False, silent=True
    )
    checkpoint_minutes: float = setting(
        "minutes between saves of `last`; 0: after each step", at_least=0, volatile=True
    )
    overfit_batches: int | None = setting("train on the first so many batches again and again; null: off", at_least=1)


# ------------------------------------------------------------------------------------------- tracker


class WandbMode(Enum):
    """Where W&B keeps a run; ``auto`` uploads where a key is found, else as ``offline``."""

    auto = "auto"
    offline = "offline"


@dataclass
class WandbConfig:
    """A run in Weights & Biases; its group is the study, its job type the arm."""

    project: str = setting("project that holds the run")
    entity: str | None = setting("user or team that owns the project; null: the key's own")
    name: str = setting("name of the run on the page")
    tags: list[str] = setting("tags of the run")
    mode: WandbMode = setting("auto: upload where a key is found, else keep for `wandb sync` | offline: always keep")
    artifact: bool = setting("upload the best checkpoint of a finished run as an artifact")


@dataclass
class TensorboardConfig:
    """Event files in the run's folder; nothing to set."""


@dataclass
class TrackerConfig:
    """Who shows a run's figures beside metrics.jsonl; each choice of the group fills in a part of its own."""

    wandb: WandbConfig | None = None
    tensorboard: TensorboardConfig | None = None


# ----------------------------------------------------------------------------------------------- root


@dataclass
class PathsConfig:
    """Where files go."""

    outputs: str = setting("folder of all runs", volatile=True)
    cache: str = setting("folder of prepared data", volatile=True)


@dataclass
class Config:
    """One run: one configuration, one seed."""

    seed: int = setting("seed of initial values, data order and dropout", at_least=0, at_most=MAX_SEED)
    study: str = setting("folder below paths.outputs that holds the run", volatile=True)
    name: str = setting("label of the arm: the run's folder is <name>-<id>/seed-<seed>", volatile=True)
    data: DataConfig = MISSING
    protocol: ProtocolConfig = MISSING
    model: ModelConfig = MISSING
    scale: ScaleConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    schedule: ScheduleConfig = MISSING
    trainer: TrainerConfig = MISSING
    # No choice may take back what another one has filled in, so that none is chosen is said here.
    tracker: TrackerConfig = field(
        default_factory=TrackerConfig, metadata={"volatile": True, "absent": TrackerConfig()}
    )
    paths: PathsConfig = MISSING


# ---------------------------------------------------------------------------------------------- sweep


@dataclass
class SweepConfig:
    """How ``-m`` makes cells of a command and carries them out."""

    rows: list[str] = setting("rows of overrides, as on a command line; each may sweep; empty: the command alone")
    seeds: int = setting("cells of each row: seed, seed + 1, ...", at_least=1)
    parallel: int = setting("cells at a time; they share the CPU threads, or take the GPUs in turn", at_least=1)
    retries: int = setting("further attempts at a cell that failed, from its last checkpoint", at_least=0)
    timeout_minutes: float | None = setting("minutes that one attempt at a cell may take; null: no limit", above=0)
    fail_fast: bool = setting("start no new cell after one has failed")
    dry_run: bool = setting("list the cells and start nothing")
    objective: str = setting("figure of the summary that a search minimises, such as val_bpb")
    cell: str | None = setting("folder of the one cell to carry out; set by launchers")


@dataclass
class Command(Config):
    """What a command line composes: a run, and the sweep around it."""

    sweep: SweepConfig = MISSING

    def run(self) -> Config:
        """Return the run without the sweep around it."""
        return Config(**{f.name: getattr(self, f.name) for f in fields(Config)})
