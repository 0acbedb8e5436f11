"""Distances between sets of images, and the scores of a model."""
