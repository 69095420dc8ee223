"""Data: image sets, the variants of the study, splits, zero-shot labels."""
