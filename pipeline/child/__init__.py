"""A child process that reads what comes from outside: bounded in time and memory, it costs its item and no more."""
