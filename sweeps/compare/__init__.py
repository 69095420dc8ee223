"""From a folder of somebody's images to the answer: which strategy saves labels on them, and how many.

`python -m sweeps.compare DIR` looks, chooses, says why, writes a sweep file, runs it and reports. It trains nothing
itself: every run is a `train.py` of that file. Modules, each using only those before it:

- `choosing`: what is in the folder -> parameters, label counts and strategies, each with its reason;
- `calibrating`: the first runs, carried out to know how long one takes -> how many seeds fit into the time;
- `writing`: all that -> the sweep file;
- `telling`: what was found and chosen, on the terminal.
"""
