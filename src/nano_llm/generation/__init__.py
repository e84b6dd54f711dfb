"""Texts from trained models; knows models and data, judges nothing."""
