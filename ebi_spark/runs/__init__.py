"""What surrounds the stages of a run: checks before a session starts, what earlier runs did, and what is due."""
