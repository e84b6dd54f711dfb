"""How hard the tests try: a bounded form for every day, and a long one that ``NANO_LLM_TORTURE`` asks for."""

import os

FACTOR = int(os.environ.get("NANO_LLM_TORTURE", "1"))
"""How many times as much is tried as in the bounded form."""
