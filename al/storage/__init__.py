"""What a run keeps on disk: its folder with lock and checkpoint, its result files, arrays too large for memory.

It never decides what is written or when.
"""
