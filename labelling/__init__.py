"""From experiment to labels: propose what to label next in a folder of images, take answers back, say how it stands.

Trains and chooses by `al` and decodes by `data_prep`, as a run does. Never has a learner, a strategy or a loop over
rounds of its own: a round is one command, and people answer between two of them.
"""
