"""Scores, curves and tables as figures."""
