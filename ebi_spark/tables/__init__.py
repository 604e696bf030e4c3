"""Every table of a lake: what its rows and columns mean, its keys and its partitions."""
