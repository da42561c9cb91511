"""`python -m exactile` is the command line."""

from exactile.cli import main

main()
