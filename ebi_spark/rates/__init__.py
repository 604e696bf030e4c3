"""Flagged activity by area and period: counts, crude and directly standardised rates, and how areas vary."""
