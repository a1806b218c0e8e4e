"""`python -m farstep`."""

from farstep.cli.main import main

main()
