"""ESPnet tasks: teachers and students."""
