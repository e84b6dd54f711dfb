"""A trained model behind HTTP: the protocol of OpenAI, both outcomes, and a page."""
