"""Areas through time, the area of a record, boards, and the version of the areas that a run shows."""
