"""What clients are answered: the bodies of responses, as they are described in the OpenAPI document.

Answers are told without the fields that were not set, so a field that is null is there on purpose.
"""

from typing import Literal

from pydantic import BaseModel, Field

from nano_llm.serving.requests import Steer

FinishReason = Literal["stop", "length"]


class ErrorObject(BaseModel):
    """What went wrong, and what to do."""

    message: str
    type: str
    param: str | None = Field(description="The field that is to blame, with dots between the levels.")
    code: str | None = Field(description="What programs tell errors apart by.")


class ErrorBody(BaseModel):
    """An answer that is an error."""

    error: ErrorObject


class Usage(BaseModel):
    """Tokens of the model, before any word is redacted."""

    prompt_tokens: int = Field(description="Read before the first new one, `<bos>` included; once for each prompt.")
    completion_tokens: int = Field(description="New ones, over all choices.")
    total_tokens: int


# ----------------------------------------------------------------------------------------- extension


class Likely(BaseModel):
    """A token that could have been written."""

    text: str
    logprob: float


class TraceToken(BaseModel):
    """What the heads said of a token; of a token that is redacted, or has no text yet, only its text is told."""

    text: str = Field(description="What the token adds to the text.")
    redacted: bool | None = None
    token_id: int | None = None
    logprob: float | None = Field(default=None, description="Nats, under the law asked for, before steering and knobs.")
    p: list[float] | None = Field(default=None, description="Probability under each head.")
    js: float | None = Field(default=None, description="Jensen-Shannon divergence of the heads, nats, 0 to ln 2.")
    entropy: float | None = Field(default=None, description="Of the law asked for, nats.")
    top: list[list[Likely]] | None = Field(default=None, description="Likeliest tokens of each head.")


class ChoiceExtension(BaseModel):
    """How a choice came about."""

    outcome: int | None = Field(default=None, description="0 negative, 1 positive, null of no outcome in particular.")
    seed: int | None = None
    topic: str | None = None
    prompt: str | None = Field(default=None, description="What the model read before the review.")
    steer: Steer | None = None
    num_redacted: int | None = Field(default=None, description="Words that were redacted.")
    trace: list[TraceToken] | None = None


class AnswerExtension(BaseModel):
    """How an answer came about; in a stream, told with the last choice's end."""

    checkpoint: str = Field(description="Fingerprint of the checkpoint.")
    censored: bool = Field(description="Whether listed words are redacted.")
    seed: int
    first_divergence: list[int | None] | None = Field(
        description="Of each pair, the first token that differs, counted from 0; null of equal texts."
    )


# --------------------------------------------------------------------------------------- completions


class CompletionLogprobs(BaseModel):
    """Log-probabilities under the law asked for, before steering, temperature and cuts; null where nothing is told."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int] = Field(description="In characters, from the start of the text.")


class CompletionChoice(BaseModel):
    """A text, or what is new of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    nano_llm: ChoiceExtension | None = None


class Completion(BaseModel):
    """The answer to a request for completions, whole or one event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    nano_llm: AnswerExtension | None = None


# ---------------------------------------------------------------------------------------------- chat


class LikelyToken(BaseModel):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatToken(LikelyToken):
    """A token of the answer, and others in its place."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(BaseModel):
    """Log-probabilities as of `CompletionLogprobs`; tokens of redacted words are left out."""

    content: list[ChatToken]
    refusal: None


class ChatMessage(BaseModel):
    """A review."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """A choice that is whole."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    nano_llm: ChoiceExtension | None = None


class ChatCompletion(BaseModel):
    """The answer to a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    nano_llm: AnswerExtension | None = None


class ChatDelta(BaseModel):
    """What is new of a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(BaseModel):
    """What is new of a choice."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    nano_llm: ChoiceExtension | None = None


class ChatChunk(BaseModel):
    """One event of a chat that is streamed."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    nano_llm: AnswerExtension | None = None


# ------------------------------------------------------------------------------------ counterfactual


class Column(BaseModel):
    """One of the texts of a counterfactual stream."""

    outcome: int
    prompt: str


class Source(BaseModel):
    """The review that a counterfactual is of, cleaned, and redacted if the server redacts."""

    text: str
    label: Literal["neg", "pos"]


class Start(BaseModel):
    """Event `start`."""

    id: str
    created: int
    model: str
    seed: int
    columns: list[Column]
    source: Source | None


class Step(BaseModel):
    """Event `step`: of each column what is new, null if nothing is."""

    columns: list[list[TraceToken] | None]


class ColumnEnd(BaseModel):
    """How a column ended."""

    finish_reason: FinishReason
    num_tokens: int
    num_redacted: int


class Change(BaseModel):
    """A run of words that both texts have, or one of them."""

    kind: Literal["same", "removed", "added"]
    text: str


class End(BaseModel):
    """Event `end`."""

    columns: list[ColumnEnd]
    usage: Usage
    first_divergence: int | None
    changes: list[Change] | None


# -------------------------------------------------------------------------------------------- others


class Generated(BaseModel):
    """The answer to POST /generate: `output`, or `output_y0` and `output_y1`."""

    job_id: str
    output: str | None = None
    output_y0: str | None = None
    output_y1: str | None = None


class Tokens(BaseModel):
    """A text in tokens, as a prompt of `/v1/completions` takes them."""

    tokens: list[int]
    count: int
    max_prompt_tokens: int = Field(description="Most tokens before a review, `<bos>` included.")


class Text(BaseModel):
    """Tokens as text."""

    prompt: str


class ModelLimits(BaseModel):
    """What may be asked of a model at once."""

    max_tokens: int
    default_tokens: int
    max_texts: int
    max_prompt_chars: int
    max_review_chars: int
    max_stops: int
    max_logprobs: int


class ModelExtension(BaseModel):
    """What the model is."""

    num_heads: int
    has_outcomes: bool = Field(description="Whether reviews of either outcome can be asked for.")
    prompt: str = Field(description="What it is trained to read before a positive review.")
    topics: list[str]
    checkpoint: str
    censored: bool
    limits: ModelLimits


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    nano_llm: ModelExtension


class ModelList(BaseModel):
    """All models that are served: one."""

    object: Literal["list"]
    data: list[ModelCard]


class Health(BaseModel):
    """That the server is well."""

    status: Literal["ok"]


class Version(BaseModel):
    """What runs here."""

    version: str
    checkpoint: str
