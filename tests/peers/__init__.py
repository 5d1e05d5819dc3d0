"""Others' programs on the work that ours do, side by side: ``make peers`` (docs/peers.md)."""

# Relative error of a decoder's logits, in the 2-norm, between two orders of the same work in bf16: u √(8 · 32), for
# some eight roundings in each of 32 layers at most, which go either way; u = 2⁻⁹ (Higham and Mary, "A New Approach to
# Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41, 2019).
LOGITS_TOLERANCE = 2**-5
