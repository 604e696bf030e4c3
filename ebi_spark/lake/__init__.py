"""The only folder that knows Delta: reading, committing, migrating, locking and maintaining a lake."""
