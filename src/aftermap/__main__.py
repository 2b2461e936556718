"""`python -m aftermap`."""

from aftermap.cli import main

if __name__ == "__main__":
    main()
