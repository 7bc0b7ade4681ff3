"""A run folder or a bundle, and an image → findings, with reasons. Research use only."""
