"""Import a published coding page: write a policy file, and a reconciliation that compares the page's words with its SQL."""
