"""A release in the forms that offices and catalogues take. Everything here is made from published tables only."""
