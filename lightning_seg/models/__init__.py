"""Detectron2 networks: from a config to losses and logits."""
