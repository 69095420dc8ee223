"""Experiments as W&B sweep files, what runs them (`runner`), and what they found (`report`). It never trains a model."""
