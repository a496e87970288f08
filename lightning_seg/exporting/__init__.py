"""A trained network as one file that runs without this project, and the proof that it says the same."""
