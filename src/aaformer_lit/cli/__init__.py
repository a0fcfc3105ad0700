"""How a command starts, what it says, and how it ends."""
