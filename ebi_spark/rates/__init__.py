"""Flagged activity by area and period: counts, crude and directly standardised rates, and variation between areas."""
