"""``python -m habitat`` is the command ``habitat``."""

from habitat.cli import main

if __name__ == "__main__":
    main()
