"""Photos -> poses in a finished map."""
