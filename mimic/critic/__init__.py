"""Critics that estimate total correlation, and the game in which they train."""
