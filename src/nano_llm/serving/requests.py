"""What clients may ask for: the bodies of requests, strictly typed.

A field that is null counts as absent. OpenAI's fields that no model here can serve are `Neutral`: known, and taken at
values that ask for nothing. Bounds that a server sets for itself (`Limits`) are not checked here.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from nano_llm.generation.request import MAX_SEED
from nano_llm.serving.problem import unsupported

MAX_TOP = 10
"""Likeliest tokens of each head that are told."""
MAX_ITEMS, MAX_MESSAGES = 1 << 15, 1 << 10
"""Of a list of texts or tokens, and of messages or their parts, before any is looked at; `Limits` are less."""


def one_of(expected: str) -> WrapValidator:
    """Return what gives a field of several types one error, which says what it may be, but not its name."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            own = [str(found["ctx"]["error"]) for found in error.errors() if found["type"] == "value_error"]
            told = own[0] if own else f"give {expected}."
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


def at_most(most: int) -> BeforeValidator:
    """Return what refuses a longer list before it looks at an item."""

    def check(value: object) -> object:
        if isinstance(value, list) and len(value) > most:
            told = f"give at most {most} items, not {len(value)}."
            raise PydanticCustomError("value_error", "{error}", {"error": told})
        return value

    return BeforeValidator(check)


FAIL_FAST = Field(fail_fast=True)
"""Of every list: a body of a megabyte has room for some 300,000 errors, each with a text."""


class Neutral:
    """Marks a field of OpenAI's that we lack, to be taken at some values and at null."""

    def __init__(self, *taken: JsonValue) -> None:
        self.taken = (*taken, None)

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return what the interface tells of the field."""
        return handler(core_schema) | {
            "description": "Known but not supported: only a value that asks for nothing is taken.",
            "enum": [*self.taken],
        }


class Body(BaseModel):
    """A JSON object without unknown fields, whose values are of their own type and not merely alike."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _with_one_unknown_field(cls, value: object) -> object:
        """Leave out all unknown fields but the first, which is enough to be refused for."""
        if not isinstance(value, dict) or value.keys() <= cls.model_fields.keys():
            return value
        unknown = next(name for name in value if name not in cls.model_fields)
        return {name: value[name] for name in value if name in cls.model_fields or name == unknown}

    def refuse_unsupported(self) -> None:
        """Check the fields that are `Neutral`.

        Raises:
            Problem: One asks for something.
        """
        for name, value in self:
            for mark in type(self).model_fields[name].metadata:
                if isinstance(mark, Neutral) and not any(_is_same(value, taken) for taken in mark.taken):
                    raise unsupported(f"{name} is not supported here: leave it out.", name)


def _is_same(value: object, known: object) -> bool:
    """Return whether two JSON values are the same; false is not 0."""
    return value == known and isinstance(value, bool) == isinstance(known, bool)


# ------------------------------------------------------------------------------------------- parts

Model = Annotated[Characters | None, Field(description="Id of the model, see GET /v1/models; may be left out.")]
TokenId = Annotated[Whole, Field(ge=0)]
TokenIds = Annotated[list[TokenId], FAIL_FAST, at_most(MAX_ITEMS)]
ListOfTexts = Annotated[list[Characters], FAIL_FAST]
Prompt = Annotated[
    Characters | ListOfTexts | TokenIds | Annotated[list[TokenIds], FAIL_FAST],
    at_most(MAX_ITEMS),
    one_of("a text, a list of texts, a list of token ids, or a list of such lists"),
]
Stop = Annotated[Characters | ListOfTexts, at_most(MAX_ITEMS), one_of("a text or a list of texts")]
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
    steer: Steer | None = Field(default=None, description="How both heads make the law of the next token.")
    topic: Characters | None = Field(default=None, description="What the training prompt names, where it does.")
    events: Literal["event", "position"] | None = Field(default=None, description="What noise is keyed by.")
    trace: bool | None = Field(default=None, description="Tell of each token what the heads said.")
    top: Whole | None = Field(default=None, ge=0, le=MAX_TOP, description="Likeliest tokens of each head in the trace.")


class StreamOptions(Body):
    """Of an answer that is streamed."""

    include_usage: bool | None = Field(default=None, description="End with a chunk that tells the usage.")
    include_obfuscation: Annotated[Any, Neutral(False)] = None


class Texts(Knobs):
    """What requests for completions and for chat completions have in common."""

    model: Model = None
    n: Whole | None = Field(default=None, ge=1, description="Samples; with both outcomes there are two choices each.")
    stop: Stop | None = Field(default=None, description="Texts that end a choice and are no part of it.")
    stream: bool | None = Field(default=None, description="Answer in server-sent events, as text comes.")
    stream_options: StreamOptions | None = Field(
        default=None, description="What is told in the stream beside the texts."
    )
    both_reviews: bool | None = Field(default=None, description='As `nano_llm.outcome: "both"`.')
    nano_llm: Extension | None = Field(default=None, description="What this project adds.")
    user: Characters | None = Field(default=None, description="Taken, and not used.")
    frequency_penalty: Annotated[Any, Neutral(0)] = None
    presence_penalty: Annotated[Any, Neutral(0)] = None
    logit_bias: Annotated[Any, Neutral({})] = None


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
    suffix: Annotated[Any, Neutral("")] = None
    best_of: Annotated[Any, Neutral(1)] = None


class ContentPart(BaseModel):
    """A part of a message; only those of type text can be read."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Characters = Field(description="`text`; no other can be read.")
    text: Characters | None = Field(default=None, description="The text.")


Content = Annotated[
    Characters | Annotated[list[ContentPart], FAIL_FAST],
    at_most(MAX_MESSAGES),
    one_of('a text, or a list of {"type": "text", "text": ...}'),
]


class Message(Body):
    """A turn of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"] = Field(
        description="Who speaks; a user, and behind it an assistant, can be expressed."
    )
    content: Content | None = Field(default=None, description="What is said.")
    name: Characters | None = Field(default=None, description="Taken, and not used.")
    refusal: Annotated[Any, Neutral()] = None
    tool_calls: Annotated[Any, Neutral([])] = None
    tool_call_id: Annotated[Any, Neutral()] = None
    function_call: Annotated[Any, Neutral()] = None
    audio: Annotated[Any, Neutral()] = None
    annotations: Annotated[Any, Neutral([])] = None


class ChatRequest(Texts):
    """A review, asked for in a chat."""

    messages: Annotated[list[Message], Field(min_length=1), FAIL_FAST, at_most(MAX_MESSAGES)] = Field(
        description="One message of a user, the instruction; empty takes the model's own. A message of the assistant "
        "behind it is what the review begins with. Nothing else is in the prompts that models are trained on.",
        examples=[[{"role": "user", "content": ""}]],
    )
    max_tokens: MaxTokens = None
    max_completion_tokens: MaxTokens = None
    logprobs: bool | None = Field(default=None, description="Tell the log-probability of each token.")
    top_logprobs: Whole | None = Field(default=None, ge=0, description="Likeliest tokens told beside each token.")
    audio: Annotated[Any, Neutral()] = None
    function_call: Annotated[Any, Neutral("none", "auto")] = None
    functions: Annotated[Any, Neutral([])] = None
    metadata: Annotated[Any, Neutral({})] = None
    modalities: Annotated[Any, Neutral(["text"])] = None
    moderation: Annotated[Any, Neutral()] = None
    parallel_tool_calls: Annotated[Any, Neutral(True, False)] = None
    prediction: Annotated[Any, Neutral()] = None
    prompt_cache_key: Characters | None = Field(default=None, description="Taken, and not used.")
    prompt_cache_options: Annotated[Any, Neutral({})] = None
    prompt_cache_retention: Characters | None = Field(default=None, description="Taken, and not used.")
    reasoning_effort: Annotated[Any, Neutral("none")] = None
    response_format: Annotated[Any, Neutral({"type": "text"})] = None
    safety_identifier: Characters | None = Field(default=None, description="Taken, and not used.")
    service_tier: Annotated[Any, Neutral("auto", "default")] = None
    store: Annotated[Any, Neutral(False)] = None
    tool_choice: Annotated[Any, Neutral("none", "auto")] = None
    tools: Annotated[Any, Neutral([])] = None
    verbosity: Annotated[Any, Neutral("medium")] = None
    web_search_options: Annotated[Any, Neutral()] = None


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
    steer: Steer | None = Field(default=None, description="How both heads make the law of the next token.")
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
    shared_head: Annotated[Any, Neutral(False)] = None
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
    prompt: Characters = Field(description="The text.", examples=["The film"])


class DetokenizeRequest(Body):
    """Token ids."""

    model: Model = None
    tokens: TokenIds = Field(description="Ids of the model's tokens.")
