"""`python -m samson`: the command line."""

from samson.cli import main

if __name__ == "__main__":
    main()
