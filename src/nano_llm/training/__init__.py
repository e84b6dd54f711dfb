"""The training loop and what it turns: budget, schedule, optimizer, step."""
