"""What one run of active learning is made of: parameters, budget, strategies, learners, records and files.

It never loads images or prepares data, and it never starts another run.
"""


def open(data, state=None, **options):
    """Open the labelling of a folder of images: `propose(k)`, `accept(labels)`, `status()`, as `python -m al` has them.

    Args:
        data: the folder; state: where its labels are kept, `al-labels/` in it by default.
        options: parameters of a run, such as strategy="margin".
    """
    from labelling.library import Learner  # a door: all of it is in that room

    return Learner.open(data, state, **options)
