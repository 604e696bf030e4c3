"""Source rows cleaned, dated and checked, and written to silver as spells and attendances or as quarantine."""
