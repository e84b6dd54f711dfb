"""A trained model behind HTTP: an engine that writes for many clients at once, and the protocols that they speak."""
