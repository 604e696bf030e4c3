"""The cost of the jobs, measured beside DuckDB in the same run. Nothing here sets a threshold."""
