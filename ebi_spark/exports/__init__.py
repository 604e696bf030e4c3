"""A release in the formats of other systems. Figures come from published tables only; the OpenLineage events come from the
run log."""
