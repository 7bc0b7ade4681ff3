"""Runs told to experiment trackers, beside the run folder that has everything anyway."""

from hilum.training.trackers.manager import Trackers, check_trackers, open_trackers

__all__ = ["Trackers", "check_trackers", "open_trackers"]
