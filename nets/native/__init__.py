"""Networks computed by a kernel in C++, compiled where it is first used."""
