"""What the suite's claims about speed and memory are measured with: `python -m benchmarks --help`.

Nothing of the suite needs it to run.
"""
