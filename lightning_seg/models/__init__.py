"""Builds Detectron2 networks from a config, and computes their losses and logits."""
