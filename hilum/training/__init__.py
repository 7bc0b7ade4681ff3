"""Batches and a model → epochs, checkpoints, one run folder."""
