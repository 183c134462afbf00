"""`python -m robovae` and `torchrun -m robovae`: the command line."""

import sys

from robovae.cli import main

if __name__ == "__main__":
    sys.exit(main())
