"""The bundle: its folder, its manifest, and how it is written complete or not at all."""
