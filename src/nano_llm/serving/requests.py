"""What clients may ask for: the bodies of requests, strictly typed.

A field that is null counts as absent. OpenAI's fields that no model here can serve are `neutral`: known, and taken at
values that ask for nothing. Bounds that a server sets for itself (`Limits`) are not checked here.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from nano_llm.generation.request import MAX_SEED
from nano_llm.serving.problem import unsupported

MAX_TOP = 10
"""Likeliest tokens of each head that are told."""


def one_of(expected: str) -> WrapValidator:
    """Return what gives a field of several types one error, which says what it may be."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            own = [str(found["ctx"]["error"]) for found in error.errors() if found["type"] == "value_error"]
            told = own[0] if own else f"{info.field_name}: give {expected}."
            raise PydanticCustomError("value_error", "{error}", {"error": told}) from error

    return WrapValidator(check)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"{text[error.start]!r}, character {error.start} (counted from 0), is half of a character"
        raise PydanticCustomError("value_error", "{error}", {"error": f"{half}. Give whole ones."}) from error
    return text


Characters = Annotated[str, AfterValidator(_encodable)]
"""Text that UTF-8 can hold; JSON can spell some that it cannot."""


def _whole(value: object) -> object:
    """Return a number without a fraction as a whole one: to JSON, 5.0 is 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]


def _no_flag(value: object) -> object:
    # To a choice of numbers, true is 1.
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "a flag is no number")
    return value


def neutral(*values: JsonValue) -> Any:
    """Return a field of OpenAI's that we lack, to be taken at these values and at null."""
    return Field(
        default=None,
        description="Known but not supported: only a value that asks for nothing is taken.",
        json_schema_extra={"enum": [*values, None]},
    )


class Body(BaseModel):
    """A JSON object without unknown fields, whose values are of their own type and not merely alike."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def refuse_unsupported(self) -> None:
        """Check the fields that are `neutral`.

        Raises:
            Problem: One asks for something.
        """
        for name, field in type(self).model_fields.items():
            if isinstance(field.json_schema_extra, dict) and "enum" in field.json_schema_extra:
                taken = field.json_schema_extra["enum"]
                assert isinstance(taken, list)
                if not any(_is_same(getattr(self, name), value) for value in taken):
                    raise unsupported(f"{name} is not supported here: leave it out.", name)


def _is_same(value: object, known: object) -> bool:
    """Return whether two JSON values are the same; false is not 0."""
    return value == known and isinstance(value, bool) == isinstance(known, bool)


# ------------------------------------------------------------------------------------------- parts

Model = Annotated[Characters | None, Field(description="Id of the model, see GET /v1/models; may be left out.")]
TokenId = Annotated[Whole, Field(ge=0)]
Prompt = Annotated[
    Characters | list[Characters] | list[TokenId] | list[list[TokenId]],
    one_of("a text, a list of texts, a list of token ids, or a list of such lists"),
]
Stop = Annotated[Characters | list[Characters], one_of("a text or a list of texts")]
MaxTokens = Annotated[Whole | None, Field(ge=0, description="Most new tokens of each text; the server has a default.")]
Outcome = Annotated[Literal[0, 1, "both", "mixture"], BeforeValidator(_no_flag), one_of('0, 1, "both" or "mixture"')]
HeadId = Annotated[Literal[0, 1], BeforeValidator(_no_flag), one_of("0 or 1")]


class Knobs(Body):
    """What changes the law of the next token, in the order in which it is applied, and the noise it is drawn with."""

    repetition_penalty: float | None = Field(
        default=None, gt=0, le=1000, description="Power of the probability of tokens that the text has; 1 is off."
    )
    temperature: float | None = Field(default=None, ge=0, description="0 takes the likeliest token; default 1.")
    top_k: Whole | None = Field(default=None, ge=0, description="Only so many likeliest tokens; 0 cuts nothing.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="1 cuts nothing.")
    min_p: float | None = Field(default=None, ge=0, le=1, description="Least share of the likeliest; 0 is off.")
    seed: Whole | None = Field(
        default=None, ge=0, le=MAX_SEED, description="The same seed gives the same texts; drawn and told if absent."
    )


class Steer(Body):
    """How both heads of a model make the law of the next token; see docs/generation.md."""

    mode: Literal["plain", "contrast", "cfg", "posterior"] = Field(description="The rule.")
    strength: float | None = Field(
        default=None, ge=0, le=1000, description="Default: contrast 0.5, cfg 1.5, posterior 4."
    )
    base: Literal["head", "mixture"] | None = Field(default=None, description="What a contrast starts from.")
    plausibility: float | None = Field(default=None, ge=0, le=1, description="Least share of the head's likeliest.")
    posterior_scale: float | None = Field(default=None, ge=0, le=1000, description="Factor of the heads' evidence.")


class Extension(Body):
    """What this project adds to OpenAI's protocol; `extra_body={"nano_llm": {...}}` with their client."""

    outcome: Outcome | None = Field(
        default=None,
        description="Whose review: 0 negative, 1 positive, both (two choices a sample), or the mixture of the heads, "
        "which is the reader who does not know the sentiment. Default: mixture with two heads, else 1.",
    )
    pair: Literal["coupled", "independent"] | None = Field(
        default=None, description="Whether both outcomes share their noise; default coupled."
    )
    steer: Steer | None = None
    topic: Characters | None = Field(default=None, description="What the training prompt names, where it does.")
    events: Literal["event", "position"] | None = Field(default=None, description="What noise is keyed by.")
    trace: bool | None = Field(default=None, description="Tell of each token what the heads said.")
    top: Whole | None = Field(default=None, ge=0, le=MAX_TOP, description="Likeliest tokens of each head in the trace.")


class StreamOptions(Body):
    """Of an answer that is streamed."""

    include_usage: bool | None = Field(default=None, description="End with a chunk that tells the usage.")
    include_obfuscation: Any = neutral(False)


class Texts(Knobs):
    """What requests for completions and for chat completions have in common."""

    model: Model = None
    n: Whole | None = Field(default=None, ge=1, description="Samples; with both outcomes there are two choices each.")
    stop: Stop | None = Field(default=None, description="Texts that end a choice and are no part of it.")
    stream: bool | None = Field(default=None, description="Answer in server-sent events, as text comes.")
    stream_options: StreamOptions | None = None
    both_reviews: bool | None = Field(default=None, description='As `nano_llm.outcome: "both"`.')
    nano_llm: Extension | None = None
    user: Characters | None = Field(default=None, description="Taken, and not used.")
    frequency_penalty: Any = neutral(0)
    presence_penalty: Any = neutral(0)
    logit_bias: Any = neutral({})


# ------------------------------------------------------------------------------------------ bodies


class CompletionRequest(Texts):
    """Reviews that begin with a text."""

    prompt: Prompt | None = Field(
        default=None,
        description="What the review begins with, behind the model's own training prompt. If `[REVIEW]` is in it, what "
        "stands before takes the place of the training prompt. Token ids are split at the id of `[REVIEW]` likewise.",
        examples=["The film", ""],
    )
    max_tokens: MaxTokens = None
    echo: bool | None = Field(default=None, description="Let the text begin with the prompt.")
    logprobs: Whole | None = Field(
        default=None, ge=0, description="Likeliest tokens told beside each token; 0 tells the token's own alone."
    )
    suffix: Any = neutral("")
    best_of: Any = neutral(1)


class ContentPart(BaseModel):
    """A part of a message; only those of type text can be read."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Characters
    text: Characters | None = None


Content = Annotated[Characters | list[ContentPart], one_of('a text, or a list of {"type": "text", "text": ...}')]


class Message(Body):
    """A turn of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: Characters | None = Field(default=None, description="Taken, and not used.")
    refusal: Any = neutral()
    tool_calls: Any = neutral([])
    tool_call_id: Any = neutral()
    function_call: Any = neutral()
    audio: Any = neutral()
    annotations: Any = neutral([])


class ChatRequest(Texts):
    """A review, asked for in a chat."""

    messages: list[Message] = Field(
        min_length=1,
        description="One message of a user, the instruction; empty takes the model's own. A message of the assistant "
        "behind it is what the review begins with. Nothing else is in the prompts that models are trained on.",
        examples=[[{"role": "user", "content": ""}]],
    )
    max_tokens: MaxTokens = None
    max_completion_tokens: MaxTokens = None
    logprobs: bool | None = Field(default=None, description="Tell the log-probability of each token.")
    top_logprobs: Whole | None = Field(default=None, ge=0, description="Likeliest tokens told beside each token.")
    audio: Any = neutral()
    function_call: Any = neutral("none", "auto")
    functions: Any = neutral([])
    metadata: Any = neutral({})
    modalities: Any = neutral(["text"])
    moderation: Any = neutral()
    parallel_tool_calls: Any = neutral(True, False)
    prediction: Any = neutral()
    prompt_cache_key: Characters | None = Field(default=None, description="Taken, and not used.")
    prompt_cache_options: Any = neutral({})
    prompt_cache_retention: Characters | None = Field(default=None, description="Taken, and not used.")
    reasoning_effort: Any = neutral("none")
    response_format: Any = neutral({"type": "text"})
    safety_identifier: Characters | None = Field(default=None, description="Taken, and not used.")
    service_tier: Any = neutral("auto", "default")
    store: Any = neutral(False)
    tool_choice: Any = neutral("none", "auto")
    tools: Any = neutral([])
    verbosity: Any = neutral("medium")
    web_search_options: Any = neutral()


class CounterfactualBody(Knobs):
    """Both outcomes from one prompt, or the counterfactual of a review: `text` and `label`."""

    model: Model = None
    prompt: Characters | None = Field(default=None, description="In the place of the training prompt.")
    begin: Characters | None = Field(default=None, description="What both texts begin with.")
    topic: Characters | None = Field(default=None, description="What the training prompt names, where it does.")
    pair: Literal["coupled", "independent"] | None = Field(
        default=None, description="Whether both outcomes share their noise; default coupled."
    )
    text: Characters | None = Field(default=None, description="A review.", examples=["A dull film."])
    label: Literal["neg", "pos"] | None = Field(default=None, description="The sentiment of the review.")
    keep_prefix: Whole | None = Field(default=None, ge=0, description="Tokens of the review that stay.")
    similarity: float | None = Field(
        default=None, ge=0, le=1, description="Share of events that keep the review's noise; default 1, hindsight."
    )
    max_tokens: MaxTokens = None
    events: Literal["event", "position"] | None = Field(default=None, description="What noise is keyed by.")
    steer: Steer | None = None
    top: Whole | None = Field(default=None, ge=0, le=MAX_TOP, description="Likeliest tokens of each head; default 5.")


class GenerateRequest(Body):
    """A review, asked for as the reference implementation has it."""

    job_id: Characters | None = Field(default=None, max_length=256, description="Told again; minted if absent.")
    prompt: Characters | None = Field(
        default=None,
        description="The instruction, in the place of the training prompt; `[REVIEW]` is added if it is not there, and "
        "what follows it is what the review begins with. Empty or absent: the training prompt.",
    )
    both_reviews: bool | None = Field(default=None, description="Write Y0 and Y1.")
    head_id: HeadId | None = Field(default=None, description="The outcome: 0 negative, 1 positive.")
    shared_head: Any = neutral(False)
    max_tokens: MaxTokens = None
    method: Literal["greedy", "top_k", "top_p"] | None = Field(
        default=None,
        description="`greedy` takes the likeliest token, `top_k` reads top_k alone and `top_p` top_p alone; absent: "
        "both are read.",
    )
    top_k: Whole | None = Field(default=None, ge=0, description="0 cuts nothing.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="1 cuts nothing.")
    temperature: float | None = Field(default=None, ge=0, description="0 takes the likeliest token; default 1.")
    repetition_penalty: float | None = Field(default=None, gt=0, le=1000, description="1 is off.")
    stop_sequence: Characters | None = Field(default=None, description="Ends the text, and is no part of it.")
    seed: Whole | None = Field(default=None, ge=0, le=MAX_SEED, description="The same seed gives the same text.")
    no_stop_newline: bool | None = Field(default=None, description="Do not end the text at a line feed.")
    no_sanitize: bool | None = Field(default=None, description="Taken, and not used: text is never sanitized.")
    no_censor: bool | None = Field(
        default=None,
        description="Leave explicit words as they are; refused if the server redacts them. False redacts them.",
    )


class TokenizeRequest(Body):
    """A text, as the prompt of a completion."""

    model: Model = None
    prompt: Characters = Field(examples=["The film"])


class DetokenizeRequest(Body):
    """Token ids."""

    model: Model = None
    tokens: list[TokenId]
