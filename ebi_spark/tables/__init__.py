"""What every table of a lake is: rows, columns and their meanings, keys and partitions."""
