"""Trained weights on disk: saved, restored, chosen, and carried over to other models."""
