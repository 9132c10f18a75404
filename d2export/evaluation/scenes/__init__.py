"""Scenes drawn from a seed, and questions about them: what the pocket model was trained on."""
