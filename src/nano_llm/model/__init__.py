"""Trunks, readouts and what they cost."""

from nano_llm.model.language_model import LanguageModel

__all__ = ["LanguageModel"]
