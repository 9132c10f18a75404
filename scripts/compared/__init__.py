"""What `scripts/accuracy.py` asks, and how it is written down."""
