"""Small decoder language models that learn two potential outcomes of a text."""

__version__ = "0.1.0"
