"""What a command gives its trainer, and what it says at its end."""
