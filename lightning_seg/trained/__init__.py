"""Trained models, of a checkpoint or of an exported file, behind one interface; and what they give of an image."""
