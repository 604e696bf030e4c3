"""What may leave: the gate in front of it, disclosure control, the published tables and the release that names them."""
