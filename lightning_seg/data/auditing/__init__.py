"""What is wrong with a data set, and what is in it: every file looked at once, in all processes."""
