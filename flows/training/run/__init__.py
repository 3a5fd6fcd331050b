"""The folder of a run: its name, lock, checkpoints, summary, and how a command goes on with it."""
