"""The settings of a run, and reading the YAML files that they come from."""
