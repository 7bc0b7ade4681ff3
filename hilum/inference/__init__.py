"""A run folder or a bundle, and an image → findings, with reasons. Research use only."""

RESEARCH_USE = "Research use only: this is not a medical device, and no finding here is a diagnosis."

#: The same in short, in every row of a CSV file: rows are copied without their header.
RESEARCH_NOTE = "research use only"

#: How heatmaps are made, see `hilum.inference.heatmaps`; the first is the default.
HEATMAP_METHODS = ("integrated-gradients", "grad-cam")
DEFAULT_METHOD = HEATMAP_METHODS[0]
