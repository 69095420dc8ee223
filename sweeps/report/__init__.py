"""From the files of runs to answers on any data: tables, figures, statistics, one page, a W&B report.

It trains nothing and knows of no paper: what a study adds to the report of its own runs, it adds by `studies`.

`python -m sweeps.report` writes everything. Modules, each using only those before it:

- `load`, `from_wandb`: results folders or a W&B project -> `Run`s, what was left out, what is missing;
- `titles`, `cells`: what configurations are called; runs -> cells (one configuration), settings (what may be
  compared), families (what shares a figure);
- `statistics`, `curves`: numbers -> intervals, tests, areas, label counts; runs -> learning curves;
- `comparisons`, `label_savings`, `inference`: learning curves -> what they prove, and the labels that it saves;
- `analysis`: a setting -> the verdict on it; `wording`, `saving_words`, `target_words`, `more_seeds`, `decision`: the
  answer in words;
- `table`, `tables`, `overlaps`, `reliability`: rows; `style`, `picture`, `figures`, `curve_figures`, `zero_shot`:
  looks, pictures;
- `charts/`: the live charts, of each its data in Python and its drawing in JavaScript, with `vendor/`'s libraries;
- `sections`, `page`, `build`: what the page shows, its HTML from `templates/`, all of it in one folder;
- `studies`: what studies add; `panels`, `dashboard`: the same questions as a W&B report.
"""
