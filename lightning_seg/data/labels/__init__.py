"""From what a source stores, values, colours or regions, to class ids."""
