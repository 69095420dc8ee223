"""Experiments as W&B sweep files, what runs them (`runner`), what they found (`report`). It never trains a model."""
