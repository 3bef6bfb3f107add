"""Where examples come from: random access to what is still encoded."""
