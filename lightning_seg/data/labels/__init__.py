"""Turns what a source stores (values, colours or regions) into class ids."""
