"""Finds who started a training's processes and how large it is, and checks what watches its figures."""
