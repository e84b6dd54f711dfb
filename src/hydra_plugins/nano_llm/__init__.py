"""Hydra plugins of nano_llm."""
