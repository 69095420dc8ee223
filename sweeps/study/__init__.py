"""All that only this paper asks for: its sweep files, published numbers, claims, figures and tables.

`sections.extend` adds them to the report of runs on CIFAR-10; nothing else in the suite knows of them.
"""
