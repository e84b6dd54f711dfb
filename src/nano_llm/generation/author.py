"""A checkpoint as an author: what is asked of it becomes orders that its writer can carry out.

Axes: T tokens, K outcomes, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nano_llm.checkpoint import Checkpoint
from nano_llm.config.schema import Conditioning, ScmConfig, ScmTopic
from nano_llm.data.clean import clean
from nano_llm.data.scm_lexicon import TOPICS
from nano_llm.data.template import REVIEW_OPEN, Template
from nano_llm.errors import RequestError
from nano_llm.generation.abduction import abduct
from nano_llm.generation.events import EventClock
from nano_llm.generation.law import Law
from nano_llm.generation.noise import Noise
from nano_llm.generation.request import CounterfactualRequest, Pairing, Request, Wanted
from nano_llm.generation.steering import Steering, SteeringMode
from nano_llm.generation.vocabulary import Vocabulary
from nano_llm.generation.writer import Draft, Order, Writer


@dataclass(frozen=True, slots=True)
class Commission:
    """One text of a request."""

    order: Order
    index: int
    """Of the text, or of the pair that it belongs to."""
    outcome: int | None
    """0 or 1; None if the text is of no outcome in particular."""
    topic: str | None
    prompt: str


class Author:
    """A trained model, asked for reviews."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, num_rows: int) -> None:
        """Open a checkpoint for writing.

        Args:
            checkpoint: Of the model.
            device: Where it is to run.
            num_rows: Texts that are written at once.
        """
        model = checkpoint.model().to(device)
        data = checkpoint.config.data
        self.num_heads = model.num_outcomes
        self.tokenizer = checkpoint.tokenizer
        self.template = Template.of(data, model.num_outcomes)
        self.topics = TOPICS if isinstance(data, ScmConfig) and data.topic is not ScmTopic.hidden else ()
        """What a prompt may name; none where prompts name nothing."""
        self.vocabulary = Vocabulary(checkpoint.tokenizer)
        self.writer = Writer(model, self.vocabulary, data.window_length, num_rows)

    @property
    def has_outcomes(self) -> bool:
        """Whether reviews of either outcome can be asked for: by its heads, or by its prompt."""
        return self.num_heads == 2 or self.template.conditioning is not Conditioning.command

    def commissions(self, request: Request) -> list[Commission]:
        """Turn a request into orders: for each text Y0 before Y1.

        Raises:
            RequestError: The model cannot do what is asked, has no token for a part of the prompt, or no room for it.
        """
        wanted = self._wanted(request)
        steering = request.steering
        if wanted is Wanted.mixture and steering.mode is SteeringMode.plain:
            steering = Steering(SteeringMode.mixture)
        self._check_steering(steering)
        outcomes = {Wanted.y0: (0,), Wanted.y1: (1,), Wanted.both: (0, 1)}.get(wanted, (None,))
        begin = tuple(self._encode_begin(request.begin))
        commissions = []
        for index in range(request.num_texts):
            topic = self._topic(request.topic, index) if request.prompt is None else None
            for outcome in outcomes:
                if isinstance(request.prompt, tuple):
                    self._check_tokens(request.prompt)
                    encoded = [self.tokenizer.bos_id, *request.prompt]
                    prompt = self.tokenizer.decode(request.prompt, keep_special=True)
                else:
                    prompt = self._prompt(request.prompt, outcome, topic)
                    encoded = self._encode_prompt(prompt)
                self.writer.contexts.room(encoded)  # refused here, a prompt holds up no other text
                unit = (index,) if request.pair is Pairing.coupled or outcome is None else (index, outcome)
                order = Order(
                    prompt=tuple(encoded),
                    outcome=1 if outcome is None else outcome,
                    noise=Noise.of(request.seed, *unit),
                    num_tokens=request.num_tokens,
                    begin=begin,
                    events=request.events,
                    sampling=request.sampling,
                    steering=steering,
                    stop=request.stop,
                    stop_newline=request.stop_newline,
                    num_top=request.num_top,
                )
                commissions.append(Commission(order, index, outcome, topic, prompt))
        return commissions

    def counterfactuals(self, request: CounterfactualRequest) -> list[Commission]:
        """Turn a review into orders of its counterfactuals, one for each noise that could have written it.

        Raises:
            RequestError: The model has no other outcome, or could not have written the review.
        """
        if not self.has_outcomes:
            raise RequestError("This model has one outcome, so no review has another one. Train one with model=tarnet.")
        self._check_steering(request.steering)
        other = 1 - request.label
        if request.topic is None and self.topics:
            raise RequestError(
                f"The prompts of this model name a topic: give that of the review, {', '.join(self.topics)}."
            )
        topic = self._topic(request.topic, 0)
        tokens = self._encode_begin(clean(request.text))
        if not tokens:
            raise RequestError("Nothing is left of the review once markup is taken out. Give its text.")
        whole = [*tokens, *self.vocabulary.ending]
        kept = tokens[: request.keep_prefix] if request.keep_prefix < len(tokens) else whole
        told = self._encode_prompt(self._prompt(None, request.label, topic))
        law = Law(request.label, request.steering, request.sampling, self.vocabulary.allowed_V)
        log_phi_TV = law.along(self.writer.contexts.laws(told, whole), whole)
        events = EventClock(request.events, self.vocabulary.ends_sentence_V).events_of(whole)
        prompt = self._prompt(None, other, topic)
        commissions = []
        for draw in range(request.num_draws):
            noise = abduct(
                log_phi_TV,
                np.array(whole),
                events,
                Noise.of(request.seed, draw),
                similarity=request.similarity,
                name_token=self.tokenizer.token,
            )
            order = Order(
                prompt=tuple(self._encode_prompt(prompt)),
                outcome=other,
                noise=noise,
                num_tokens=request.num_tokens or 2 * len(tokens) + 32,
                begin=tuple(kept),
                events=request.events,
                sampling=request.sampling,
                steering=request.steering,
                num_top=request.num_top,
            )
            commissions.append(Commission(order, draw, other, topic, prompt))
        return commissions

    def write(self, commissions: Sequence[Commission]) -> list[Draft]:
        """Write texts to their ends; returns them in their order."""
        return self.writer.write([commission.order for commission in commissions])

    def _wanted(self, request: Request) -> Wanted:
        wanted = request.wanted
        if self.num_heads == 2:
            if wanted is Wanted.prompt:
                raise RequestError(
                    "This model has two heads and its prompt names no sentiment: ask for y0, y1 or both."
                )
            return wanted or Wanted.both
        if wanted is Wanted.mixture:
            raise RequestError("The mixture is of two heads, and this model has one: leave out --outcome mixture.")
        if self.has_outcomes and request.prompt is None:
            if wanted is Wanted.prompt:
                raise RequestError(
                    "The prompt of this model names a sentiment: ask for y0, y1 or both, or give a prompt of your own."
                )
            return wanted or Wanted.both
        if wanted not in (None, Wanted.prompt):
            why = "its prompt names no sentiment" if request.prompt is None else "the prompt is yours"
            raise RequestError(
                f"This model has one head, which is told the outcome by its prompt, and {why}: leave out --outcome "
                f"{wanted}."
            )
        return Wanted.prompt

    def _topic(self, topic: str | None, index: int) -> str | None:
        if not self.topics:
            if topic is not None:
                raise RequestError(f"topic={topic!r}: the prompts of this model name no topic; leave it out.")
            return None
        if topic is None:
            return self.topics[index % len(self.topics)]
        if topic not in self.topics:
            raise RequestError(f"topic={topic!r}: this model knows {', '.join(self.topics)}.")
        return topic

    def _prompt(self, given: str | None, outcome: int | None, topic: str | None) -> str:
        if given is None:
            return self.template.prompt(0 if outcome is None else outcome, topic)
        return given if REVIEW_OPEN in given else f"{given.rstrip()} {REVIEW_OPEN}"

    def _encode_prompt(self, prompt: str) -> list[int]:
        self._check_known(prompt)
        return self.tokenizer.encode_prompt(prompt)

    def _encode_begin(self, begin: str | tuple[int, ...]) -> list[int]:
        """Return the tokens of a review's text as they stand behind a prompt."""
        if isinstance(begin, str):
            tokens = self._encode_text(begin)
        else:
            self._check_tokens(begin)
            tokens = list(begin)
        for token in tokens:
            # Of one token a word, markup is a word like others.
            if token in self.vocabulary.ends or not self.vocabulary.allowed_V[token]:
                raise RequestError(f"{self.tokenizer.token(token)} is markup, which no review has. Leave it out.")
        return tokens

    def _encode_text(self, text: str) -> list[int]:
        if not text:
            return []
        tokens = self.tokenizer.encode(f" {text}" if self.vocabulary.has_leading_space else text)
        if self.tokenizer.unk_id in tokens:
            self._check_known(text)
        return tokens

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            if not 0 <= token < self.tokenizer.vocab_size:
                raise RequestError(
                    f"There is no token {token}: the model's vocabulary has 0 to {self.tokenizer.vocab_size - 1}."
                )

    def _check_known(self, text: str) -> None:
        unknown = self.tokenizer.first_unknown(text)
        if unknown is not None:
            raise RequestError(
                f"The model has no token for {unknown!r}: its vocabulary is closed. Use words of its own corpus."
            )

    def _check_steering(self, steering: Steering) -> None:
        if self.num_heads == 1 and steering.mode is not SteeringMode.plain:
            raise RequestError(
                f"--steer {steering.mode} compares two heads, and this model has one: leave it out, or train a model "
                "with two (model=tarnet)."
            )
