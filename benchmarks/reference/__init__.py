"""Learning curves of every strategy that must stay as they are: `python -m benchmarks.reference`.

A strategy, the linear probe, the loop, a library underneath: whatever comes to behave differently moves a curve.
"""
