"""The lake: read, write, migrate, maintain and lock its Delta tables."""
