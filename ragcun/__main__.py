"""`python -m ragcun` is the command."""
import sys

from .cli.commands import main

sys.exit(main())
