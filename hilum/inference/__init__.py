"""A finished model reads images: a run folder or a bundle and an image file → findings. Research use only."""

RESEARCH_USE = "Research use only: this is not a medical device, and no finding here is a diagnosis."

#: The short form, in every row of a CSV file: rows are copied without their header.
RESEARCH_NOTE = "research use only"

#: How heatmaps are made, see `hilum.inference.heatmaps`; the first is the default.
HEATMAP_METHODS = ("integrated-gradients", "grad-cam")
DEFAULT_METHOD = HEATMAP_METHODS[0]
