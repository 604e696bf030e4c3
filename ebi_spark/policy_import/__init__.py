"""A published coding page turned into a policy file and a reconciliation of its words with its SQL."""
