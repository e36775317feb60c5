"""Two photos -> matches and relative pose; lists of pairs."""
