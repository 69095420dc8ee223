"""What one run of active learning is made of: parameters, budget, strategies, learners, records and files.

It never loads images or prepares data, and it never starts another run.
"""
