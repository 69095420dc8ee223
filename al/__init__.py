"""Active learning: one acquisition loop, its strategies, models, metrics and files."""
