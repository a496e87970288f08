"""Surveys what a data set holds: pixels of each class, sizes, and samples that show both."""
