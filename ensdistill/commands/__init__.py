"""The commands, a module each, and what they share: the errors of wrong usage, the arguments."""
