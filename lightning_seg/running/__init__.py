"""Equips a command's trainer, silences messages that help nobody, and says how the command ended."""
