"""Starts the runs of sweep files, here or through W&B. It never computes what a run computes."""
