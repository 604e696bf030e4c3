"""The commands, one module each: arguments, exit status and screen output."""
