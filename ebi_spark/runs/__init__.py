"""The history of earlier runs: what they did, what is due again, and how to compute an old run again."""
