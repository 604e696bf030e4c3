"""The settings of a run and the YAML files they come from."""
