"""Which samples a split has, before any image is opened."""
