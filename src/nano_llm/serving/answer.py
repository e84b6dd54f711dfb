"""Answers of texts, in the form of completions or of chats: whole, or as the events of a stream."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pydantic import BaseModel

from nano_llm.generation.writer import Finish
from nano_llm.serving.asked import Asked
from nano_llm.serving.choice import NOTHING, Choice, News, joined
from nano_llm.serving.requests import ChatRequest, CompletionRequest, Extension
from nano_llm.serving.responses import (
    AnswerExtension,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    ChoiceExtension,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    Usage,
)
from nano_llm.serving.service import Service
from nano_llm.serving.told import chat_logprobs, completion_logprobs, first_divergence, reason, trace, usage


@dataclass(frozen=True, slots=True)
class Facts:
    """What answers of either form tell alike."""

    service: Service
    asked: Asked
    choices: Sequence[Choice]
    extension: Extension
    includes_usage: bool
    """Whether a stream tells the usage."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def usage(self) -> Usage:
        """Return the tokens so far."""
        return usage(self.asked.num_prompt_tokens, sum(len(choice.tokens) for choice in self.choices))

    def answer_extension(self) -> AnswerExtension:
        """Return how the answer came about, once it is whole."""
        diverging = None
        if self.asked.num_outcomes == 2:
            pairs = zip(self.choices[::2], self.choices[1::2], strict=True)
            diverging = [first_divergence(choice.tokens, other.tokens) for choice, other in pairs]
        return AnswerExtension(
            checkpoint=self.service.fingerprint,
            censored=self.service.censored,
            seed=self.asked.seed,
            first_divergence=diverging,
        )

    def choice_extension(self, place: int, news: News) -> ChoiceExtension | None:
        """Return what is told of new tokens and, with its end, of a choice; None if that is nothing."""
        told = ChoiceExtension()
        if news.finish is not None:
            choice = self.choices[place]
            told.outcome = choice.commission.outcome
            told.seed = self.asked.seed
            told.topic = choice.commission.topic
            told.prompt = choice.prompt
            told.num_redacted = choice.num_redacted
            if self.asked.steer is not None:
                told.steer = self.asked.steer
        if self.extension.trace and news.shown:
            told.trace = trace(news.shown, self.extension.top or 0, self.service.spelling)
        return told if told.model_fields_set else None


class Answer(Protocol):
    """An answer in one of the forms, which hears of each choice what is new."""

    facts: Facts

    def opening_chunks(self) -> Sequence[BaseModel]:
        """Return the events before the model writes."""

    def chunks(self, place: int, news: News) -> Sequence[BaseModel]:
        """Return the events that tell what is new of a choice."""

    def usage_chunk(self) -> BaseModel | None:
        """Return the last event, which tells the usage, if that was asked for."""

    def whole(self, news: Sequence[News]) -> BaseModel:
        """Return the answer at once, from all that was new of each choice."""


class CompletionAnswer:
    """The answer to a request for completions."""

    def __init__(self, facts: Facts, body: CompletionRequest) -> None:
        self.facts = facts
        self._num_top = body.logprobs
        self._echoes = bool(body.echo)
        self._repeated = [
            choice.repeat(facts.asked.opening_of(place)) if body.echo else NOTHING
            for place, choice in enumerate(facts.choices)
        ]
        self._num_open = len(facts.choices)

    def opening_chunks(self) -> list[Completion]:
        """Return the prompts, if they are to be repeated."""
        return [self._chunk(place, news) for place, news in enumerate(self._repeated) if news.text]

    def chunks(self, place: int, news: News) -> list[Completion]:
        """Return what is new of a choice, and apart from it its end."""
        chunks = [self._chunk(place, replace(news, finish=None))] if news.shown else []
        if news.finish is not None:
            self._num_open -= 1
            end = self._chunk(place, News("", finish=news.finish))
            if self._num_open == 0:
                end.nano_llm = self.facts.answer_extension()
            chunks.append(end)
        return chunks

    def usage_chunk(self) -> Completion | None:
        """Return the usage, if it is to be told."""
        if not self.facts.includes_usage:
            return None
        chunk = self._completion([])
        chunk.usage = self.facts.usage()
        return chunk

    def whole(self, news: Sequence[News]) -> Completion:
        """Return all choices."""
        completion = self._completion(
            [
                self._choice(place, joined([repeated, one]))
                for place, (repeated, one) in enumerate(zip(self._repeated, news, strict=True))
            ]
        )
        completion.usage = self.facts.usage()
        completion.nano_llm = self.facts.answer_extension()
        return completion

    def _chunk(self, place: int, news: News) -> Completion:
        chunk = self._completion([self._choice(place, news)])
        if self.facts.includes_usage:
            chunk.usage = None
        return chunk

    def _completion(self, choices: list[CompletionChoice]) -> Completion:
        return Completion(
            id=f"cmpl-{self.facts.key}",
            object="text_completion",
            created=self.facts.created,
            model=self.facts.service.name,
            choices=choices,
        )

    def _choice(self, place: int, news: News) -> CompletionChoice:
        choice = CompletionChoice(
            index=place,
            text=news.text,
            logprobs=self._logprobs(place, news),
            finish_reason=None if news.finish is None else reason(news.finish),
        )
        extension = self.facts.choice_extension(place, news)
        if extension is not None:
            choice.nano_llm = extension
        return choice

    def _logprobs(self, place: int, news: News) -> CompletionLogprobs | None:
        if self._num_top is None:
            return None
        choice, spelling = self.facts.choices[place], self.facts.service.spelling
        # Harnesses that score a text by its echo ask for one new token and drop the last entry, so there must be one.
        end = choice.num_chars if self._echoes and news.finish is Finish.end and choice.is_ended_by_token else None
        return completion_logprobs(news, self._num_top, spelling, end_offset=end)


class ChatAnswer:
    """The answer to a chat."""

    def __init__(self, facts: Facts, body: ChatRequest) -> None:
        self.facts = facts
        self._num_top = (body.top_logprobs or 0) if body.logprobs else None
        self._num_open = len(facts.choices)

    def opening_chunks(self) -> list[ChatChunk]:
        """Return whose message each choice is."""
        delta = ChatDelta(role="assistant", content="")
        return [self._chunk(place, delta, NOTHING) for place in range(len(self.facts.choices))]

    def chunks(self, place: int, news: News) -> list[ChatChunk]:
        """Return what is new of a choice, and apart from it its end."""
        chunks = []
        if news.shown:
            chunks.append(self._chunk(place, ChatDelta(content=news.text), replace(news, finish=None)))
        if news.finish is not None:
            self._num_open -= 1
            end = self._chunk(place, ChatDelta(), News("", finish=news.finish))
            if self._num_open == 0:
                end.nano_llm = self.facts.answer_extension()
            chunks.append(end)
        return chunks

    def usage_chunk(self) -> ChatChunk | None:
        """Return the usage, if it is to be told."""
        if not self.facts.includes_usage:
            return None
        chunk = self._chat_chunk([])
        chunk.usage = self.facts.usage()
        return chunk

    def whole(self, news: Sequence[News]) -> ChatCompletion:
        """Return all choices."""
        return ChatCompletion(
            id=self._id,
            object="chat.completion",
            created=self.facts.created,
            model=self.facts.service.name,
            choices=[self._choice(place, one) for place, one in enumerate(news)],
            usage=self.facts.usage(),
            nano_llm=self.facts.answer_extension(),
        )

    @property
    def _id(self) -> str:
        return f"chatcmpl-{self.facts.key}"

    def _chunk(self, place: int, delta: ChatDelta, news: News) -> ChatChunk:
        choice = ChatChunkChoice(
            index=place,
            delta=delta,
            logprobs=self._logprobs(news) if news.shown else None,
            finish_reason=None if news.finish is None else reason(news.finish),
        )
        extension = self.facts.choice_extension(place, news)
        if extension is not None:
            choice.nano_llm = extension
        chunk = self._chat_chunk([choice])
        if self.facts.includes_usage:
            chunk.usage = None
        return chunk

    def _chat_chunk(self, choices: list[ChatChunkChoice]) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self.facts.created,
            model=self.facts.service.name,
            choices=choices,
        )

    def _choice(self, place: int, news: News) -> ChatChoice:
        assert news.finish is not None, "a choice that is whole has ended"
        return ChatChoice(
            index=place,
            message=ChatMessage(role="assistant", content=news.text, refusal=None),
            logprobs=self._logprobs(news),
            finish_reason=reason(news.finish),
            nano_llm=self.facts.choice_extension(place, news),
        )

    def _logprobs(self, news: News) -> ChatLogprobs | None:
        return None if self._num_top is None else chat_logprobs(news, self._num_top, self.facts.service.spelling)
