"""What a machine gets out of our code, beside its own ceilings and beside peers in the same run."""
