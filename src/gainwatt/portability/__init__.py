"""The same profile from several machines in one table: ratios to each machine's own unquantized baseline.

What a scheme gains on one machine it need not gain on another. Absolute joules and seconds of two machines differ for
many reasons; a ratio to a baseline that was measured on the same machine with the same definition leaves the scheme.
"""
