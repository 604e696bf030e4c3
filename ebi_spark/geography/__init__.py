"""Areas and how they change over time, the area of a record, boards, and the geography version that a run shows."""
