"""What clients give of a review, by a prompt or by messages, as its opening."""

from collections.abc import Sequence
from dataclasses import replace

from nano_llm.generation.author import Author
from nano_llm.serving.fields import short
from nano_llm.serving.limits import Limits
from nano_llm.serving.opening import Opening, opening_of_instruction, opening_of_text, opening_of_tokens
from nano_llm.serving.problem import invalid, too_long, unsupported
from nano_llm.serving.requests import ContentPart, Message


def openings_of_prompt(
    prompt: str | list[str] | list[int] | list[list[int]] | None, author: Author, limits: Limits
) -> list[Opening]:
    """Return the openings of the prompts of a completion.

    Raises:
        Problem: They are too many or too long.
    """
    prompts: list[str | list[int]] = []
    if prompt is None or isinstance(prompt, str):
        prompts = [prompt or ""]
    elif not prompt:
        raise invalid("prompt: an empty list asks for no text. Leave it out for the model's own prompt.", "prompt")
    else:
        tokens = [item for item in prompt if isinstance(item, int)]
        prompts = [tokens] if tokens else [item for item in prompt if not isinstance(item, int)]
    if len(prompts) > limits.max_texts:
        raise invalid(
            f"There are {len(prompts)} prompts; at most {limits.max_texts} are taken in one request.", "prompt"
        )
    openings = []
    for one in prompts:
        if isinstance(one, str):
            opening = opening_of_text(short("prompt", one, limits.max_prompt_chars))
        else:
            if len(one) > limits.max_prompt_chars:
                raise too_long(
                    f"prompt has {len(one)} tokens; at most {limits.max_prompt_chars} are read. Give fewer.", "prompt"
                )
            opening = opening_of_tokens(one, author.tokenizer)
        check_window(opening, author, "prompt")
        openings.append(opening)
    return openings


def opening_of_messages(messages: Sequence[Message], limits: Limits) -> Opening:
    """Return what a chat asks for: the instruction of its user, and what the review begins with.

    Raises:
        Problem: No prompt that models are trained on can express it.
    """
    for message in messages:
        message.refuse_unsupported()
    roles = [message.role for message in messages]
    if roles not in (["user"], ["user", "assistant"]):
        raise unsupported(
            f"messages of {', '.join(roles)}: models are trained on one instruction and its review. Give one message "
            "of the user and, if the review is to begin with something, one of the assistant behind it.",
            "messages",
        )
    instruction, *begin = [short("messages", _content(message), limits.max_prompt_chars) for message in messages]
    opening = opening_of_instruction(instruction)
    if opening.begin and begin:
        raise invalid(
            "messages: the user's has text behind [REVIEW], where the assistant's stands: give one of them.", "messages"
        )
    return replace(opening, begin=begin[0]) if begin else opening


def _content(message: Message) -> str:
    content = message.content or ""
    if isinstance(content, str):
        return content
    return "".join([_text_of(part) for part in content])


def _text_of(part: ContentPart) -> str:
    if part.type != "text" or part.text is None:
        raise unsupported(
            f'messages: a part of type {part.type!r:.40} cannot be read; give {{"type": "text", "text": ...}}.',
            "messages",
        )
    return part.text


def check_window(opening: Opening, author: Author, where: str) -> None:
    """Check that there is room behind a prompt of the client's.

    Raises:
        Problem: There is not.
    """
    num_tokens = 1 + len(opening.prompt_tokens(author.tokenizer))
    most = author.writer.contexts.window_length - 2
    if num_tokens > most:
        raise too_long(
            f"{where}: what stands before the review has {num_tokens} tokens, <bos> included; the model's window has "
            f"room for {most}. Give fewer.",
            where,
        )
