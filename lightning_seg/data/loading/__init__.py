"""Turns samples into batches: chooses their order on any number of processes, and keeps some in memory."""
