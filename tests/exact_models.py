"""Models under evaluation that are known exactly: the law of the corpus, one half of it, and a table."""

import numpy as np
import torch
from torch import Tensor, nn

from nano_llm.config.schema import Conditioning, Precision, PromptConfig, ScmConfig
from nano_llm.data import scm, scm_law
from nano_llm.data.template import REVIEW_CLOSE, REVIEW_OPEN, Template
from nano_llm.data.tokenizer import Tokenizer, words_of
from nano_llm.evaluation.outcome_model import OutcomeModel
from nano_llm.training.machine import Machine

CPU = Machine(torch.device("cpu"), Precision.fp32)
TEXTS = PromptConfig("write a bad review", "write a good review", "write a review")


def word_tokenizer(config: ScmConfig) -> Tokenizer:
    """One token a word of the law and of every prompt."""
    law = scm.review_law(config)
    prompts = [*vars(TEXTS).values(), "about", *law.topics, "positive", "negative"]
    return Tokenizer.of_words([*law.vocabulary, *(word for text in prompts for word in words_of(text))], 1024)


def outcome_model(
    model: nn.Module,
    num_heads: int,
    tokenizer: Tokenizer,
    conditioning: Conditioning = Conditioning.command,
    window_length: int = 128,
) -> OutcomeModel:
    return OutcomeModel(model, num_heads, tokenizer, Template(conditioning, TEXTS), window_length, CPU, batch_size=16)


class LawModel(nn.Module):
    """Gives the exact laws under do(T) as its heads, for rows that hold whole reviews; ``outcomes`` picks them."""

    def __init__(self, config: ScmConfig, tokenizer: Tokenizer, outcomes: tuple[int, ...] = (0, 1)) -> None:
        super().__init__()
        self.law = scm.review_law(config)
        self.tokenizer = tokenizer
        self.outcomes = outcomes
        words = [tokenizer.encode(word)[0] for word in self.law.vocabulary]
        self.token_E = torch.tensor([*words, tokenizer.end_ids[0]])

    def forward(self, tokens_BT: Tensor) -> Tensor:
        logits_BTKV = torch.full((*tokens_BT.shape, len(self.outcomes), self.tokenizer.vocab_size), -1e4)
        for row, tokens_T in enumerate(tokens_BT.tolist()):
            names = [self.tokenizer.token(token) for token in tokens_T]
            start = names.index(REVIEW_OPEN)
            end = names.index(REVIEW_CLOSE)
            topic = next((name for name in names[:start] if name in self.law.topics), None)
            text = scm.render(names[start + 1 : end])
            events = scm_law.read_events(self.law, [text], [topic])
            law_NKE = scm_law.next_event_laws(self.law, events, scm.Sampling.do)[:, self.outcomes]
            log_law = np.log(law_NKE, out=np.full(law_NKE.shape, -1e4), where=law_NKE > 0)
            # One more row than there are words: the end marker.
            block = logits_BTKV[row, start : start + len(log_law)]
            block[..., self.token_E] = torch.from_numpy(log_law[: len(block)]).float()
            logits_BTKV[row, end, :, self.tokenizer.eos_id] = 0.0
        return logits_BTKV
