"""From samples to batches: their order, on any number of processes, and what is kept in memory."""
