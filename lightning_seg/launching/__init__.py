"""Who started the processes of a training, how large it is, and what watches its figures."""
