"""From the scores of a network to label maps; knows no model class."""
