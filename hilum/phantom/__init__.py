"""A phantom: synthetic chest radiographs in CheXpert's layout, drawn from a seed.

For demonstrations and tests where real data may not be used. A phantom shows whether code works and
whether one run beats another on the phantom; it shows nothing about patients.
"""

from hilum.phantom.dataset import open_catalog, write_phantom

__all__ = ["open_catalog", "write_phantom"]
