"""Case-note audit: a probability sample of records, forms for the notes, and what the returned forms say of the flags."""
