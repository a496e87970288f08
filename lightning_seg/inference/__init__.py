"""Prediction on images: takes logits or callables, knows no model class."""
