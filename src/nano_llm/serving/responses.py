"""What clients are answered: the bodies of responses, as they are described in the OpenAPI document.

Answers are told without the fields that were not set, so a field that is null is there on purpose.
"""

from typing import Literal

from pydantic import BaseModel, Field

from nano_llm.serving.requests import Steer

FinishReason = Literal["stop", "length"]


class ErrorObject(BaseModel):
    """What went wrong, and what to do."""

    message: str = Field(description="What was given, what was expected, what to do.")
    type: str = Field(description="Kind of the error, as OpenAI's clients know it.")
    param: str | None = Field(description="The field that is to blame, with dots between the levels.")
    code: str | None = Field(description="What programs tell errors apart by.")


class ErrorBody(BaseModel):
    """An answer that is an error."""

    error: ErrorObject = Field(description="What went wrong.")


class Usage(BaseModel):
    """Tokens of the model, before any word is redacted."""

    prompt_tokens: int = Field(description="Read before the first new one, `<bos>` included; once for each prompt.")
    completion_tokens: int = Field(description="New ones, over all choices.")
    total_tokens: int = Field(description="Of both kinds.")


# ----------------------------------------------------------------------------------------- extension


class Likely(BaseModel):
    """A token that could have been written."""

    text: str = Field(description="The token.")
    logprob: float = Field(description="Natural logarithm of its probability.")


class TraceToken(BaseModel):
    """What the heads said of a token; of a token that is redacted, or has no text yet, only its text is told."""

    text: str = Field(description="What the token adds to the text.")
    redacted: bool | None = Field(default=None, description="True of a word that is not shown.")
    token_id: int | None = Field(default=None, description="Its id.")
    logprob: float | None = Field(default=None, description="Nats, under the law asked for, before steering and knobs.")
    p: list[float] | None = Field(default=None, description="Probability under each head.")
    js: float | None = Field(default=None, description="Jensen-Shannon divergence of the heads, nats, 0 to ln 2.")
    entropy: float | None = Field(default=None, description="Of the law asked for, nats.")
    top: list[list[Likely]] | None = Field(default=None, description="Likeliest tokens of each head.")


class ChoiceExtension(BaseModel):
    """How a choice came about."""

    outcome: int | None = Field(default=None, description="0 negative, 1 positive, null of no outcome in particular.")
    seed: int | None = Field(
        default=None, description="What the noise was drawn with; the same one gives the same texts."
    )
    topic: str | None = Field(default=None, description="What the training prompt was told to name.")
    prompt: str | None = Field(default=None, description="What the model read before the review.")
    steer: Steer | None = Field(default=None, description="How it was steered, as it was asked for.")
    num_redacted: int | None = Field(default=None, description="Words that were redacted.")
    trace: list[TraceToken] | None = Field(default=None, description="Its tokens, if they were asked for.")


class AnswerExtension(BaseModel):
    """How an answer came about; in a stream, told with the last choice's end."""

    checkpoint: str = Field(description="Fingerprint of the checkpoint.")
    censored: bool = Field(description="Whether listed words are redacted.")
    seed: int = Field(description="What the noise was drawn with; the same one gives the same texts.")
    first_divergence: list[int | None] | None = Field(
        description="Of each pair, the first token that differs, counted from 0; null of equal texts."
    )


# --------------------------------------------------------------------------------------- completions


class CompletionLogprobs(BaseModel):
    """Log-probabilities under the law asked for, before steering, temperature and cuts; null where nothing is told."""

    tokens: list[str] = Field(description="The tokens, spelled one by one.")
    token_logprobs: list[float | None] = Field(description="Of each, its log-probability.")
    top_logprobs: list[dict[str, float] | None] = Field(
        description="Of each, the likeliest in its place, itself included, and their log-probabilities."
    )
    text_offset: list[int] = Field(description="In characters, from the start of the text.")


class CompletionChoice(BaseModel):
    """A text, or what is new of it."""

    index: int = Field(description="Place among the choices: by prompts, then samples, then outcomes.")
    text: str = Field(description="The text; in a stream, what is new of it.")
    logprobs: CompletionLogprobs | None = Field(description="Of its tokens, if they were asked for.")
    finish_reason: FinishReason | None = Field(
        description="`stop`: ended by the model or a stop string; `length`: at the most tokens; null before the end."
    )
    nano_llm: ChoiceExtension | None = Field(default=None, description="What this project adds.")


class Completion(BaseModel):
    """The answer to a request for completions, whole or one event of its stream."""

    id: str = Field(description="Id of the answer.")
    object: Literal["text_completion"] = Field(description="What this is.")
    created: int = Field(description="When, in seconds since 1970.")
    model: str = Field(description="Id of the model.")
    choices: list[CompletionChoice] = Field(description="The texts; in a stream, those of which something is new.")
    usage: Usage | None = Field(
        default=None, description="What was read and written; in a stream, of its last chunk, if it was asked for."
    )
    nano_llm: AnswerExtension | None = Field(default=None, description="What this project adds.")


# ---------------------------------------------------------------------------------------------- chat


class LikelyToken(BaseModel):
    """A token and its log-probability."""

    token: str = Field(description="The token.")
    logprob: float = Field(description="Natural logarithm of its probability.")
    bytes: list[int] | None = Field(description="Its bytes in UTF-8.")


class ChatToken(LikelyToken):
    """A token of the answer, and others in its place."""

    top_logprobs: list[LikelyToken] = Field(description="The likeliest in its place.")


class ChatLogprobs(BaseModel):
    """Log-probabilities as of `CompletionLogprobs`; tokens of redacted words are left out."""

    content: list[ChatToken] = Field(description="The tokens.")
    refusal: None = Field(description="Always null: no model here refuses.")


class ChatMessage(BaseModel):
    """A review."""

    role: Literal["assistant"] = Field(description="Who speaks: the assistant.")
    content: str = Field(description="The text.")
    refusal: None = Field(description="Always null: no model here refuses.")


class ChatChoice(BaseModel):
    """A choice that is whole."""

    index: int = Field(description="Place among the choices: by prompts, then samples, then outcomes.")
    message: ChatMessage = Field(description="The review.")
    logprobs: ChatLogprobs | None = Field(description="Of its tokens, if they were asked for.")
    finish_reason: FinishReason = Field(
        description="`stop`: ended by the model or a stop string; `length`: at the most tokens."
    )
    nano_llm: ChoiceExtension | None = Field(default=None, description="What this project adds.")


class ChatCompletion(BaseModel):
    """The answer to a chat."""

    id: str = Field(description="Id of the answer.")
    object: Literal["chat.completion"] = Field(description="What this is.")
    created: int = Field(description="When, in seconds since 1970.")
    model: str = Field(description="Id of the model.")
    choices: list[ChatChoice] = Field(description="The texts; in a stream, those of which something is new.")
    usage: Usage = Field(description="What was read and written; in a stream, of its last chunk, if it was asked for.")
    nano_llm: AnswerExtension | None = Field(default=None, description="What this project adds.")


class ChatDelta(BaseModel):
    """What is new of a message."""

    role: Literal["assistant"] | None = Field(default=None, description="Who speaks: the assistant.")
    content: str | None = Field(default=None, description="What is new of the text.")


class ChatChunkChoice(BaseModel):
    """What is new of a choice."""

    index: int = Field(description="Place among the choices: by prompts, then samples, then outcomes.")
    delta: ChatDelta = Field(description="What is new.")
    logprobs: ChatLogprobs | None = Field(description="Of its tokens, if they were asked for.")
    finish_reason: FinishReason | None = Field(
        description="`stop`: ended by the model or a stop string; `length`: at the most tokens; null before the end."
    )
    nano_llm: ChoiceExtension | None = Field(default=None, description="What this project adds.")


class ChatChunk(BaseModel):
    """One event of a chat that is streamed."""

    id: str = Field(description="Id of the answer.")
    object: Literal["chat.completion.chunk"] = Field(description="What this is.")
    created: int = Field(description="When, in seconds since 1970.")
    model: str = Field(description="Id of the model.")
    choices: list[ChatChunkChoice] = Field(description="The texts; in a stream, those of which something is new.")
    usage: Usage | None = Field(
        default=None, description="What was read and written; in a stream, of its last chunk, if it was asked for."
    )
    nano_llm: AnswerExtension | None = Field(default=None, description="What this project adds.")


# ------------------------------------------------------------------------------------ counterfactual


class Column(BaseModel):
    """One of the texts of a counterfactual stream."""

    outcome: int = Field(description="0 negative, 1 positive.")
    prompt: str = Field(description="What the model reads before the text.")


class Source(BaseModel):
    """The review that a counterfactual is of, cleaned, and redacted if the server redacts."""

    text: str = Field(description="The review.")
    label: Literal["neg", "pos"] = Field(description="Its sentiment.")


class Start(BaseModel):
    """Event `start`."""

    id: str = Field(description="Id of the answer.")
    created: int = Field(description="When, in seconds since 1970.")
    model: str = Field(description="Id of the model.")
    seed: int = Field(description="What the noise was drawn with; the same one gives the same texts.")
    columns: list[Column] = Field(description="The texts that follow.")
    source: Source | None = Field(description="Null of both outcomes from a prompt.")


class Step(BaseModel):
    """Event `step`: of each column what is new, null if nothing is."""

    columns: list[list[TraceToken] | None] = Field(description="Tokens of each text; null where nothing is new.")


class ColumnEnd(BaseModel):
    """How a column ended."""

    finish_reason: FinishReason = Field(description="`stop`: ended by the model; `length`: at the most tokens.")
    num_tokens: int = Field(description="New tokens of the text.")
    num_redacted: int = Field(description="Words that were redacted.")


class Change(BaseModel):
    """A run of words that both texts have, or one of them."""

    kind: Literal["same", "removed", "added"] = Field(
        description="Whether both texts have it, the review alone, or its counterfactual alone."
    )
    text: str = Field(description="The words.")


class End(BaseModel):
    """Event `end`."""

    columns: list[ColumnEnd] = Field(description="How each text ended.")
    usage: Usage = Field(description="What was read and written.")
    first_divergence: int | None = Field(
        description="Of both outcomes from a prompt: the first token that differs, counted from 0; null of equal texts."
    )
    changes: list[Change] | None = Field(description="Of a review: what became of its words.")


# -------------------------------------------------------------------------------------------- others


class Generated(BaseModel):
    """The answer to POST /generate: `output`, or `output_y0` and `output_y1`."""

    job_id: str = Field(description="As in the request, or minted.")
    output: str | None = Field(default=None, description="The text, of one review.")
    output_y0: str | None = Field(default=None, description="The negative text, of both.")
    output_y1: str | None = Field(default=None, description="The positive text, of both.")


class Tokens(BaseModel):
    """A text in tokens, as a prompt of `/v1/completions` takes them."""

    tokens: list[int] = Field(description="Their ids.")
    count: int = Field(description="How many they are.")


class Text(BaseModel):
    """Tokens as text."""

    prompt: str = Field(description="The text.")


class ModelLimits(BaseModel):
    """What may be asked of a model at once."""

    max_tokens: int = Field(description="New tokens of a text.")
    default_tokens: int = Field(description="New tokens of a text, if a request names no number.")
    max_texts: int = Field(description="Texts of a request: prompts x samples x outcomes.")
    max_prompt_chars: int = Field(description="Characters or tokens of a prompt.")
    max_review_chars: int = Field(description="Characters of a review whose counterfactual is asked for.")
    max_stops: int = Field(description="Stop strings.")
    max_logprobs: int = Field(description="Likeliest tokens told beside each token.")


class ModelExtension(BaseModel):
    """What the model is."""

    num_heads: int = Field(description="Two of a model that tells both outcomes at each token, else one.")
    has_outcomes: bool = Field(description="Whether reviews of either outcome can be asked for.")
    prompt: str = Field(description="What it is trained to read before a positive review.")
    topics: list[str] = Field(description="What the training prompt may name; none if it names no topic.")
    checkpoint: str = Field(description="Fingerprint of the checkpoint.")
    censored: bool = Field(description="Whether listed words are redacted.")
    limits: ModelLimits = Field(description="What may be asked of it at once.")


class ModelCard(BaseModel):
    """A model that is served."""

    id: str = Field(description="What requests name it by.")
    object: Literal["model"] = Field(description="What this is.")
    created: int = Field(description="When its checkpoint was written, in seconds since 1970.")
    owned_by: str = Field(description="This project.")
    nano_llm: ModelExtension = Field(description="What this project adds.")


class ModelList(BaseModel):
    """All models that are served: one."""

    object: Literal["list"] = Field(description="What this is.")
    data: list[ModelCard] = Field(description="The models.")


class Health(BaseModel):
    """That the server is well."""

    status: Literal["ok"] = Field(description="All is well.")


class Version(BaseModel):
    """What runs here."""

    version: str = Field(description="Of the package.")
    checkpoint: str = Field(description="Fingerprint of the checkpoint.")
