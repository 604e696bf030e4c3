"""What the jobs cost, measured beside DuckDB in the same run. Nothing here sets a threshold."""
