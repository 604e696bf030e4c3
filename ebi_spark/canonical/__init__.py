"""Canonical records: source rows cleaned, dated, keyed and built into spells and attendances, or set aside."""
