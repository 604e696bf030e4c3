"""Source tables: find the files, detect their format and columns, and read every row under our own column names."""
