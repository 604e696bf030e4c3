"""Cleans source rows, dates them, checks them, and writes them to silver as spells and attendances, or to quarantine."""
