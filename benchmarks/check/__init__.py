"""Whether this machine's GPU computes what a CPU computes, and how fast: `python -m benchmarks.check`.

What is checked is in `same_results` and `whole_runs`, what is measured in `rates` and `together`, what follows for the
study in `estimate`, and what is printed in `results` and `machine`. No run needs it; `JOBS=auto` reads its file.
"""
