"""How others score files of jets: each a program of its own."""
