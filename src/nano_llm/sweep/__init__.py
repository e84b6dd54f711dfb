"""Many runs of one study: what is to be run, each in a process of its own, nothing lost."""
