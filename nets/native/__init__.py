"""Networks computed without autograd: by a kernel in C++, compiled where it is first used, or without a compiler by torch."""
