"""Structured configs: the schema, its strict check, and the identity of a run."""
