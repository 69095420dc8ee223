"""From the files of runs to answers: tables, figures, statistics, one page, a W&B report.

`python -m sweeps.report` writes everything; the modules are

- `load`: results folders (or W&B) -> `Run`s, with what was left out and what is missing;
- `cells`: runs -> cells (one configuration), settings (what may be compared), families (what shares a figure);
- `statistics`: arrays -> intervals, tests, areas, label counts;
- `claims`, `decision`, `tables`, `figures`: settings -> statements, rows, pictures;
- `page`: all of it as one HTML file; `dashboard`: the same questions as a W&B report.
"""
