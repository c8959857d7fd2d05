"""What ends the agent's start, or one of its commands, with one line: a setting, a file or an answer that cannot be used."""


class ConfigInvalid(Exception):
    """The message names what cannot be used, what is expected, and what to do."""
