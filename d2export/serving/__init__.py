"""What runs inside Triton's Python backend: only there can these modules be imported."""
