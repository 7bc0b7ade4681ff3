"""A Catalog, split into parts, oversampled, and delivered in batches."""
