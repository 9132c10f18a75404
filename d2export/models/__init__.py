"""What is exported: presets, checkpoints, vision towers, image tiling."""
