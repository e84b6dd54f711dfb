"""Scores of trained models; knows models and data, trains nothing."""
