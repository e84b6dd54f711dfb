"""A checkpoint as a folder that `transformers` loads, and on the Hub."""
