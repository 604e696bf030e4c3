"""What earlier runs did, what is due again, and how an old run is computed again."""
