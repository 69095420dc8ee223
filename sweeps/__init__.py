"""Experiments as W&B sweep files, and what runs them: W&B agents (`launch`) or no server at all (`local`)."""
