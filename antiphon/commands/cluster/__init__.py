"""The verbs about clusters. See antiphon.cli."""
