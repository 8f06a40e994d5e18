"""`python -m quantassay` is the command line."""

from quantassay.cli import main

if __name__ == "__main__":
    main()
