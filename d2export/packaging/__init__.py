"""A bundle in the form that somebody else takes: one file for a device, a folder for a server."""
