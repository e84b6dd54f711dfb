"""From a configuration to batches: corpus, template, tokenizer, samples, windows, batches.

Only `batches` imports torch; nothing here knows a model.
"""
