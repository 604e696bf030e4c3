"""Source tables: files found once, their format and columns, and every row under our own column names."""
