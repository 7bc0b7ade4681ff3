"""A run folder → tables, figures, one self-contained HTML page."""
