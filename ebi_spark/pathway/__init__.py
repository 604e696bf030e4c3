"""The care before and after an operation, linked by person."""
