"""Networks computed without autograd: by a C++ kernel, compiled at its first use, or by torch if there is no compiler."""
