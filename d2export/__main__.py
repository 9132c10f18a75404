"""`python -m d2export`."""

from d2export.cli import main

main()
