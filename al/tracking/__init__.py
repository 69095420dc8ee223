"""Who follows a run: W&B, the terminal, pictures. They mirror the records and never change what a run does."""
