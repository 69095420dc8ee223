"""What only speed asks for: the same results as plain torch, sooner. Never a decision of what to train or to pick.

`AL_FAST=none` runs without any of it, `AL_FAST=-folding` without one part; `al.fast.switch` lists the parts, and
`python -m benchmarks.ablation` measures what each buys.
"""
