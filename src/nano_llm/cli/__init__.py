"""The commands of `nano-llm`."""
