"""Trunks, readouts and what they cost."""

from nano_llm.model.language_model import LanguageModel, build_language_model

__all__ = ["LanguageModel", "build_language_model"]
