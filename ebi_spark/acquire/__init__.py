"""Source tables as they are: found, opened, every column text, under the names that the later stages use."""
