"""How heatmaps can be made, see `hilum.reading.heatmaps`; apart from it, so that a command's help needs no torch."""

#: The first is the default.
HEATMAP_METHODS = ("integrated-gradients", "grad-cam")
DEFAULT_METHOD = HEATMAP_METHODS[0]
