"""What lies beside exported weights: it is copied as it is, so it imports nothing of nano_llm."""
