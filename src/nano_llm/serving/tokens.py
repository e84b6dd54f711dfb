"""The routes between text and token ids."""

from typing import Annotated

from fastapi import APIRouter, Depends

from nano_llm.serving.answering import service_of
from nano_llm.serving.documented import KEY, errors
from nano_llm.serving.opening import split_text
from nano_llm.serving.problem import invalid, too_long
from nano_llm.serving.requests import DetokenizeRequest, TokenizeRequest
from nano_llm.serving.responses import Text, Tokens
from nano_llm.serving.service import Service

router = APIRouter(tags=["Tokens"], dependencies=[KEY])
Served = Annotated[Service, Depends(service_of)]
ERRORS = errors(400, 401, 404, 408, 413, 415, 500, 503)


@router.post("/tokenize", responses=ERRORS, summary="Turn a text into token ids")
async def tokenize(body: TokenizeRequest, service: Served) -> Tokens:
    """Return the ids that mean the same as the text when they are the prompt of a completion."""
    service.check_model(body.model)
    tokenizer, most = service.author.tokenizer, service.limits.max_prompt_chars
    if len(body.prompt) > most:
        raise too_long(f"prompt has {len(body.prompt)} characters; at most {most} are read. Give fewer.", "prompt")
    unknown = tokenizer.first_unknown(body.prompt)
    if unknown is not None:
        raise invalid(f"prompt: the model has no token for {unknown!r}: its vocabulary is closed.", "prompt")
    prompt, begin = split_text(body.prompt)
    space = " " if begin and service.author.vocabulary.has_leading_space else ""
    tokens = [*tokenizer.encode_prompt(prompt)[1:], *tokenizer.encode(space + begin)]
    return Tokens(tokens=tokens, count=len(tokens))


@router.post("/detokenize", responses=ERRORS, summary="Turn token ids into a text")
async def detokenize(body: DetokenizeRequest, service: Served) -> Text:
    """Return the text of token ids; special tokens are spelled by their names."""
    service.check_model(body.model)
    tokenizer, most = service.author.tokenizer, service.limits.max_prompt_chars
    if len(body.tokens) > most:
        raise too_long(f"tokens: there are {len(body.tokens)}; at most {most} are read. Give fewer.", "tokens")
    unknown = next((token for token in body.tokens if token >= tokenizer.vocab_size), None)
    if unknown is not None:
        raise invalid(
            f"tokens: there is no token {unknown}; the model's vocabulary has 0 to {tokenizer.vocab_size - 1}.",
            "tokens",
        )
    return Text(prompt=tokenizer.decode(body.tokens, keep_special=True))
