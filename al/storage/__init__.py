"""What a run keeps on disk: its folder with lock and checkpoint, its result files, arrays too large for memory."""
