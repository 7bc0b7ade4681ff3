"""A finished model reads images: a run folder or a bundle and an image file → findings. Research use only."""

from typing import Literal, get_args

RESEARCH_USE = "Research use only: this is not a medical device, and no finding here is a diagnosis."

#: The short form, in every row of a CSV file: rows are copied without their header.
RESEARCH_NOTE = "research use only"

#: How heatmaps are made, see `hilum.inference.heatmaps`; the first is the default.
HeatmapMethod = Literal["integrated-gradients", "grad-cam"]
HEATMAP_METHODS: tuple[HeatmapMethod, ...] = get_args(HeatmapMethod)
DEFAULT_METHOD: HeatmapMethod = HEATMAP_METHODS[0]
