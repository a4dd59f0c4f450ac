"""What the supervisor is made of: child processes, how they hang together, what is placed where."""
