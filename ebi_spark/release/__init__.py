"""Publishing: disclosure control, the published tables, and the release that they belong to."""
