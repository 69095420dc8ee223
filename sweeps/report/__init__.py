"""From the files of runs to answers: tables, figures, statistics, one page, a W&B report.

`python -m sweeps.report` writes everything. Modules, each using only those before it:

- `load`, `from_wandb`: results folders or a W&B project -> `Run`s, what was left out, what is missing;
- `published`: the study's numbers;
- `cells`: runs -> cells (one configuration), settings (what may be compared), families (what shares a figure);
- `statistics`, `curves`: numbers -> intervals, tests, areas, label counts; runs -> learning curves;
- `analysis`, `claims`, `decision`: settings -> labels needed and saved, verdicts, the short answer in words;
- `tables`, `style`, `figures`, `page`: rows, looks, pictures, HTML;
- `build`: all of it into one folder; `dashboard`: the same questions as a W&B report.
"""
