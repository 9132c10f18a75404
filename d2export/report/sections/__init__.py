"""The parts of a page, top to bottom."""
